"""The result of looking at one thing in a cluster, and what a person can do about it. Looks nothing up."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.storage.next_step import Concern, NextStep, State


class CheckResult(StrEnum):
    """The worst comes first. What nobody could find out is not a problem, and not fine either."""

    PROBLEM = "problem"
    UNKNOWN = "unknown"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True)
class Check:
    """`name` says what was looked at, `message` how it is, and `step` what to do, None where there is nothing to do."""

    name: str
    result: CheckResult
    message: str
    step: NextStep | None = None


_RESULTS = {
    State.DOWN: CheckResult.PROBLEM,
    State.UNOBSERVED: CheckResult.PROBLEM,
    State.BLOCKED: CheckResult.PROBLEM,
    State.DEGRADED: CheckResult.PROBLEM,
    State.PAUSED: CheckResult.WARNING,
    State.WORKING: CheckResult.WARNING,
    State.NOTICE: CheckResult.WARNING,
    State.READY: CheckResult.OK,
    State.STOPPED: CheckResult.OK,
}


def server_check(title: str, concern: Concern) -> Check:
    """Tells what a concern about a server, named by its title, means for a script that asks whether all is well."""
    result = _RESULTS[concern.state]
    name, message = f"server {title}", f"{concern.reason}: {concern.message}"
    return Check(name, result, message, None if result == CheckResult.OK else concern.step)


def has_problem(checks: Iterable[Check]) -> bool:
    return any(check.result == CheckResult.PROBLEM for check in checks)
