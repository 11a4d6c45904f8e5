"""Counts the objects that the garbage collector looks through while the event loop waits."""

import gc
from collections.abc import Callable


def count_new_gc_objects(do: Callable[[], None]) -> int:
    """Returns how many more objects the collector looks through after `do` than before."""
    gc.collect()
    before = len(gc.get_objects())

    do()

    for _ in range(4):  # The collector needs a round for each level to see that tuples in tuples hold nothing but text.
        gc.collect()
    return len(gc.get_objects()) - before
