"""Describes what is wrong with a live server, and at which stage of the work on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, auto

# The reason when nobody can tell whether the credentials are there.
UNREADABLE = "SecretUnreadable"
# Reasons for a Service that does not exist, and for one that is not as the spec asks: it may be open to more clients.
SERVICE_MISSING, SERVICE_OUTDATED = "ServiceMissing", "ServiceOutdated"
SERVICE_TERMINATING = "ServiceTerminating"


class Stage(IntEnum):
    """The stages of the work on a server, in their order. A problem at SPEC or NAME may hold up everything else."""

    SPEC = auto()
    NAME = auto()  # a name that the server needs is taken, or the object that has it is being deleted
    CREDENTIALS = auto()
    VOLUMES = auto()
    APPLY = auto()
    POD = auto()
    SERVICES = auto()
    CLAIMS = auto()  # their labels and annotations, which nothing waits for


@dataclass(frozen=True)
class Problem:
    """A problem of a live server: `reason` is one word for programs, `message` one line that names what is affected."""

    reason: str
    message: str
    stage: Stage = Stage.POD
    stalls: bool = False  # It stays until a person does something about it.


# The status of a condition, and its reason and message.
Verdict = tuple[str, Problem]


def first(problems: Iterable[Problem], *stages: Stage) -> Problem | None:
    """Returns the first problem of the first of the stages that has one."""
    chosen = [problem for problem in problems if problem.stage in stages]
    return min(chosen, key=lambda problem: stages.index(problem.stage), default=None)
