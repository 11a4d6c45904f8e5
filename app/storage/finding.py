"""What a rule has to say about a DittoServer, a reason to reject it or a warning; and what is wrong with a live one."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`path` is the field from the object's root; `message` is one line that names the field and what to do."""

    path: str
    message: str
    rejects: bool = False

    @property
    def severity(self) -> str:
        """As programs read it."""
        return "error" if self.rejects else "warning"


def rejection(path: str, message: str) -> Finding:
    return Finding(path, one_line(message), rejects=True)


def warning(path: str, message: str) -> Finding:
    return Finding(path, one_line(message))


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Rejections by path, then warnings as they come."""
    return sorted(findings, key=lambda finding: (not finding.rejects, finding.path if finding.rejects else ""))


def rejections(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.rejects]


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.rejects]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a live server: `reason` is one word for programs, `message` a line that names the thing."""

    reason: str
    message: str


def one_line(text: str) -> str:
    """Replaces what does not print by spaces: the API server drops a warning with it, a terminal may obey it."""
    return text if text.isprintable() else "".join(character if character.isprintable() else " " for character in text)
