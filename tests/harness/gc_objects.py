"""What the garbage collector has to look through, while the event loop waits."""

import gc
from collections.abc import Callable


def count_new_gc_objects(do: Callable[[], None]) -> int:
    """The objects that it looks through after `do`, and did not before."""
    gc.collect()
    before = len(gc.get_objects())
    do()
    for _ in range(2):  # A tuple in a tuple is seen to hold nothing but text one round later.
        gc.collect()
    return len(gc.get_objects()) - before
