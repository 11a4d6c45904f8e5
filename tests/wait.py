"""Waiting for something to become true, with a deadline."""

import asyncio
import time
from collections.abc import Callable

_PAUSE = 0.02


def until(holds: Callable[[], bool], seconds: float = 15.0, pause: float = _PAUSE) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:.0f} s"
        time.sleep(pause)


async def until_async(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    """The same while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:.0f} s"
        await asyncio.sleep(_PAUSE)
