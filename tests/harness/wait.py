"""Waiting for something to become true, with a deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_PAUSE = 0.02
# What takes less than a second takes longer where others are at work: who waits for less says so.
_SECONDS = 60.0


def until(holds: Callable[[], bool], seconds: float = _SECONDS, pause: float = _PAUSE) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:.0f} s"
        time.sleep(pause)


async def until_async(holds: Callable[[], bool], seconds: float = _SECONDS) -> None:
    """The same while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:.0f} s"
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def run_beside(
    work: Coroutine[Any, Any, None], ready: Coroutine[Any, Any, None], seconds: float
) -> AsyncIterator[None]:
    """Once it is ready, which takes so many seconds at most; the work goes on inside, and is cancelled at the end."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            async with asyncio.timeout(seconds):
                await ready
            yield
        finally:
            task.cancel()
