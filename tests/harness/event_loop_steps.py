"""Runs the operator on a loop that measures its steps: `python -m tests.harness.event_loop_steps FILE serve ...`.

At the end it writes the longest steps to the file, as JSON. It measures processor time and not elapsed time, because a
step is not to blame for other programs that use the processor.
"""

import asyncio
import functools
import gc
import heapq
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import uvloop

from app.__main__ import main

LONGEST_STEPS = 20


class MeasuringLoop(uvloop.Loop):
    """Measures everything that `call_soon` and its like call: each step of a task, and each timer."""

    longest: ClassVar[list[tuple[float, str]]] = []
    # Of the present step, the seconds in the garbage collector.
    collecting: ClassVar[float] = 0.0

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """Forgets the steps so far: nobody could connect yet, so nobody had to wait for them."""
        server = await super().create_server(*args, **options)
        self.longest.clear()
        return server

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_soon(functools.partial(self._measure, callback), *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_later(delay, functools.partial(self._measure, callback), *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_at(when, functools.partial(self._measure, callback), *args, context=context)

    def _measure(self, callback: Callable[..., Any], *args: Any) -> None:
        MeasuringLoop.collecting = 0.0
        faults, begun = _page_faults(), time.thread_time()
        callback(*args)
        seconds = time.thread_time() - begun

        if len(self.longest) < LONGEST_STEPS or seconds > self.longest[0][0]:
            garbage = f"{1000 * self.collecting:.1f} ms of it collecting garbage: " if self.collecting else ""
            # The time that the machine takes for a page fault counts as that of the step.
            faulted = _page_faults() - faults
            paging = f"{faulted} page faults: " if faulted else ""
            push = heapq.heappush if len(self.longest) < LONGEST_STEPS else heapq.heapreplace
            push(self.longest, (seconds, garbage + paging + _describe(callback)))


def measure_collection(phase: str, _: dict[str, int]) -> None:
    """Adds the time of a collection to the present step; it is called when one starts and stops."""
    MeasuringLoop.collecting += time.thread_time() * (1 if phase == "stop" else -1)


def _page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt + usage.ru_majflt


def _describe(callback: Callable[..., Any]) -> str:
    """Names the coroutine of a task and its line, or the callback.

    It avoids repr, which is not harmless: that of an aiohttp response fixes its headers before they have arrived.
    """
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", type(callback).__qualname__)

    coroutine: Any = task.get_coro()
    frame = coroutine.cr_frame
    where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
    return f"{coroutine.__qualname__}{where}"


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    uvloop.new_event_loop = MeasuringLoop
    gc.callbacks.append(measure_collection)
    try:
        main()
    finally:
        file.write_text(json.dumps(sorted(MeasuringLoop.longest, reverse=True)))
