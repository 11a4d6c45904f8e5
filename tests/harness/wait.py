"""Waits until a condition holds, with a deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.25
# Long, because what usually takes a second takes much longer on a busy machine. Tests pass less where it matters.
_DEADLINE_SECONDS = 120.0


def until(holds: Callable[[], bool], seconds: float = _DEADLINE_SECONDS, pause: float = _PAUSE_SECONDS) -> None:
    """Fails when the condition does not hold within so many seconds.

    A check takes time from what it waits for, so the pause grows with what one takes and with the time waited so far.
    """
    start = time.monotonic()
    while True:
        begun = time.monotonic()
        if holds():
            return

        ended = time.monotonic()
        assert ended < start + seconds, f"the condition did not hold within {seconds:.0f} s"
        time.sleep(max(pause, 2 * (ended - begun), min((ended - start) / 10, _LONGEST_PAUSE_SECONDS)))


async def until_async(holds: Callable[[], bool], seconds: float = _DEADLINE_SECONDS) -> None:
    """Does what `until` does without blocking the event loop."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:.0f} s"
        await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def run_beside(
    work: Coroutine[Any, Any, None], ready: Coroutine[Any, Any, None], seconds: float
) -> AsyncIterator[None]:
    """Runs the work inside the `with`, and cancels it at the end.

    The `with` is entered once `ready` returns, which has to be within so many seconds.
    """
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            async with asyncio.timeout(seconds):
                await ready

            yield
        finally:
            task.cancel()
