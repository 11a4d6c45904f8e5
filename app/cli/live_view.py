"""Shows what a command sees of the servers, once or again and again until the person interrupts it."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
import orjson

from app import manifests
from app.cli.options import Scope, Target, option
from app.cli.output import print_lines, print_report
from app.cluster.errors import ClusterError
from app.cluster.kubelet_stats import remember, within_patience
from app.storage.finding import one_line
from app.storage.unstructured import Manifest

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot
    from app.cluster.survey import Stats

Result = TypeVar("Result")

# Watches would hold several connections, and tell of far more changes than anybody reads.
INTERVAL_SECONDS = 2.0
# Looks at many servers are further apart: they take at most a fifth of the time.
PAUSE_PER_SECOND_OF_WORK = 4.0
MAX_RETRY_SECONDS = 30.0
# As a shell reports a program that was interrupted.
INTERRUPTED_EXIT_CODE = 130

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

watch_option = option("--watch", "-w", is_flag=True, help="Watch for changes until interrupted.")


@dataclass(frozen=True)
class ViewItem:
    """Something that can change: `text` says how it is, without ages, and is the same as long as nothing changes."""

    key: str
    text: str
    data: Manifest


@dataclass(frozen=True)
class View:
    """The servers as a command sees them: lines for people, items for programs, and gaps where it sees nothing."""

    lines: Sequence[str]
    items: Sequence[ViewItem]
    gaps: Sequence[str] = ()
    reports_removal: bool = True  # Events just grow old.


Look = Callable[["Cluster | Snapshot", Scope, "Stats | None"], Awaitable[View]]


def present(target: Target, look: Look, output: str, *, watch: bool) -> None:
    """Prints a view, or shows it again and again with `watch`. Raises ClusterError when the first look fails."""
    if watch:
        with _display(output) as display:
            run_until_interrupted(keep_looking(target, look, display))
        return

    async def look_once() -> View:
        async with target.open() as (reader, scope, stats):
            return await look(reader, scope, stats and within_patience(stats))

    view = asyncio.run(look_once())
    print_report(output, view.lines, [item.data for item in view.items], view.gaps)


def run_until_interrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """Ends the program as a shell expects it when the person interrupts."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_EXIT_CODE)


class Display(Protocol):
    """Shows views as they come in."""

    def show(self, view: View) -> None: ...

    def report_failure(self, error: ClusterError) -> None: ...


async def keep_looking(target: Target, look: Look, display: Display) -> None:
    """Looks again and again. After a failure it connects anew, since credentials may have expired."""
    has_seen, failures = False, 0
    while True:
        try:
            async with target.open() as (reader, scope, stats):
                remembered = stats and remember(within_patience(stats))
                while True:
                    started = monotonic()
                    display.show(await look(reader, scope, remembered))
                    has_seen, failures = True, 0
                    await asyncio.sleep(max(INTERVAL_SECONDS, (monotonic() - started) * PAUSE_PER_SECOND_OF_WORK))
        except ClusterError as error:
            if not has_seen:
                raise
            display.report_failure(error)

        await asyncio.sleep(min(INTERVAL_SECONDS * 2**failures, MAX_RETRY_SECONDS))
        failures += 1


@contextmanager
def _display(output: str) -> Iterator[Display]:
    is_terminal = sys.stdout.isatty() and os.name != "nt" and os.environ.get("TERM", "dumb") != "dumb"
    if output in ("json", "yaml") or not is_terminal:
        yield ChangeLog(output)
        return

    screen = Redrawing()
    try:
        yield screen
    finally:
        screen.close()


class Redrawing:
    """Draws each view over the one before, and leaves the last one behind."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._drawn_at = ""
        self._has_colours = click.get_current_context().color is not False

    def show(self, view: View) -> None:
        if self._view is None:
            sys.stdout.write(_ENTER)
        self._view, self._drawn_at = view, _clock()
        self._draw(f"{self._drawn_at}, every {INTERVAL_SECONDS:g} s; Ctrl-C ends")

    def report_failure(self, error: ClusterError) -> None:
        self._draw(click.style(one_line(f"this is from {self._drawn_at}, trying again: {error}"), fg="red"))

    def close(self) -> None:
        if self._view is None:
            return
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        print_lines(self._view.lines, self._view.gaps)

    def _draw(self, footer: str) -> None:
        view, height = self._view or View((), ()), shutil.get_terminal_size().lines
        lines = [*view.lines, *map(one_line, view.gaps)]
        if len(lines) > height - 1:
            lines = [*lines[: height - 2], f"and {len(lines) - height + 2} more lines"]

        text = f"{_END_OF_LINE}\n".join([*lines, footer])
        shown = text if self._has_colours else click.unstyle(text.replace(_END_OF_LINE, ""))
        sys.stdout.write(f"{_HOME}{shown}{_END_OF_LINE}{_END_OF_SCREEN}")
        sys.stdout.flush()


class ChangeLog:
    """Prints each item when it is first seen and when it has changed: a line for people, an object for programs."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._items: dict[str, ViewItem] = {}
        self._complaints: set[str] = set()

    def show(self, view: View) -> None:
        items = {item.key: item for item in view.items}
        for key, item in items.items():
            before = self._items.get(key)
            if before is None or before.text != item.text:
                self._print(item.text, item.data)

        for key in self._items.keys() - items.keys() if view.reports_removal else ():
            self._print(f"{key} is gone", {**self._items[key].data, "deleted": True})

        self._complain(view.gaps)
        self._items = items if view.reports_removal else {**self._items, **items}

    def report_failure(self, error: ClusterError) -> None:
        self._complain([f"trying again: {error}"])

    def _print(self, text: str, data: Manifest) -> None:
        if self._output == "json":
            click.echo(orjson.dumps(data))
        elif self._output == "yaml":
            click.echo(f"---\n{manifests.dump(data)}", nl=False)
        else:
            click.echo(one_line(f"{_clock()} {text}"))

    def _complain(self, complaints: Sequence[str]) -> None:
        """Prints what is new."""
        print_lines([], [complaint for complaint in complaints if complaint not in self._complaints])
        self._complaints = set(complaints)


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
