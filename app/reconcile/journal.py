"""Logs what is done for a server: one line for each write, and for each decision to hold something back."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from app import logs
from app.storage.object_write import ObjectWrite, WriteCause
from app.storage.problem import Problem
from app.storage.status_change import status_change
from app.storage.unstructured import ObjectKey

_writes: ContextVar[list[ObjectWrite]] = ContextVar("writes")

log = logging.getLogger(__name__)


@contextmanager
def collect_writes() -> Iterator[list[ObjectWrite]]:
    """Yields a list that gets every write of the block, in its order; those of other tasks are not in it."""
    writes: list[ObjectWrite] = []
    token = _writes.set(writes)
    try:
        yield writes
    finally:
        _writes.reset(token)


def record_write(write: ObjectWrite) -> None:
    """Logs the write, and adds it to those of the block that it belongs to; a handler of Writer."""
    if (writes := _writes.get(None)) is not None:
        writes.append(write)

    drift = {"cause": write.cause, "changed_by": write.changed_by} if write.cause is WriteCause.DRIFT else {}
    logs.log_write(log, write, **drift)


def record_cause(cause: str, reason: str) -> None:
    """Logs why the last write was made, where its fields do not tell."""
    log.info("cause of the write", extra={"cause": cause, "reason": reason})


def record_status(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> None:
    """Logs that the status was written, and in what it has changed."""
    change = status_change(before, after)
    fields = {
        "conditions": change.conditions,
        "fields": change.fields,
        "reason": change.message,
        "milliseconds": round(seconds * 1000, 3),
    }
    log.info("status changed", extra=fields)


class Decisions:
    """Logs what is held back for a server when that changes, and not each time that it is decided again."""

    def __init__(self) -> None:
        self._problems: dict[ObjectKey, frozenset[tuple[str, str]]] = {}

    def record(self, key: ObjectKey, problems: Iterable[Problem]) -> None:
        """Logs the problems that are new, and the reasons of which there is none any more."""
        problems = list(problems)
        before = self._problems.pop(key, frozenset())
        now = frozenset((problem.reason, problem.message) for problem in problems)
        if now:
            self._problems[key] = now

        for problem in problems:
            if (problem.reason, problem.message) not in before:
                level = logging.WARNING if problem.stalls else logging.INFO
                log.log(level, "held back", extra={"problem": problem.reason, "reason": problem.message})

        for reason in sorted({reason for reason, _ in before} - {reason for reason, _ in now}):
            log.info("no longer held back", extra={"problem": reason})

    def forget(self, key: ObjectKey) -> None:
        self._problems.pop(key, None)
