"""Measures the processor time of programs, and keeps what is measured and its load on different processors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
# Of /proc/PID/stat, after the name: the parent; the time in itself and in the kernel, then that of ended children.
PARENT, TIMES = 1, slice(11, 15)


def cpu_seconds_of_tree(process: int) -> float:
    """Returns the processor time that a process and those it has started have used since they began."""
    return sum(sum(map(int, _stat(member)[TIMES])) for member in tree(process)) / os.sysconf("SC_CLK_TCK")


def tree(process: int) -> set[int]:
    """Returns the process and all below it that have not ended."""
    parents = {int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()}
    members = {process}
    while more := {number for number, stat in parents.items() if stat and int(stat[PARENT]) in members} - members:
        members |= more
    return members


@contextmanager
def apart(process: int) -> Iterator[None]:
    """Gives the process one processor and this thread another; with a single one it changes nothing.

    Otherwise the kernel moves both about, and a server with several threads would take the processor of its load.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        yield
        return

    try:
        _pin(process, {first})
        os.sched_setaffinity(0, {others[0]})
        yield
    finally:
        os.sched_setaffinity(0, {first, *others})
        _pin(process, {first, *others})


def _pin(process: int, processors: set[int]) -> None:
    for member in tree(process):
        for thread in _threads(member):
            try:
                os.sched_setaffinity(thread, processors)
            except ProcessLookupError:
                continue


def _threads(process: int) -> list[int]:
    try:
        return [int(entry.name) for entry in (PROC / str(process) / "task").iterdir()]
    except FileNotFoundError:
        return []


def _stat(process: int) -> list[str]:
    """Returns the fields after the name, or nothing when the process has ended."""
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
