"""The operator on an event loop that measures each step: `python -m tests.harness.event_loop_steps FILE serve ...`.

At the end the file has the longest ones, as JSON. What is measured is the processor's time: that other programs want
the processor, too, is not the step's fault.
"""

import functools
import heapq
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import uvloop

from app.__main__ import main

KEPT = 20


class MeasuringLoop(uvloop.Loop):
    """Of everything that is called by `call_soon` and its like: each step of a task, and each timer."""

    longest: ClassVar[list[tuple[float, str]]] = []

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """What was done before anybody could connect kept nobody waiting."""
        made = await super().create_server(*args, **options)
        self.longest.clear()
        return made

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_soon(functools.partial(self._measured, callback), *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_later(delay, functools.partial(self._measured, callback), *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_at(when, functools.partial(self._measured, callback), *args, context=context)

    def _measured(self, callback: Callable[..., Any], *args: Any) -> None:
        begun = time.thread_time()
        callback(*args)
        seconds = time.thread_time() - begun
        if len(self.longest) < KEPT or seconds > self.longest[0][0]:
            keep = heapq.heappush if len(self.longest) < KEPT else heapq.heapreplace
            # A step of a task is a method of it, and the task says which coroutine it is at.
            keep(self.longest, (seconds, repr(getattr(callback, "__self__", callback))))


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    uvloop.new_event_loop = MeasuringLoop
    try:
        main()
    finally:
        file.write_text(json.dumps(sorted(MeasuringLoop.longest, reverse=True)))
