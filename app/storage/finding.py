"""Findings, which reject a DittoServer or warn about it, and problems of a server that is live."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

_MAX_QUOTED_CHARACTERS = 40


@dataclass(frozen=True)
class Finding:
    """`path` is the field from the object's root; `message` is one line that names the field and what to do.

    `rule` is the name of the rule that is not met; `judge` fills it in.
    """

    path: str
    message: str
    rejects: bool = False
    rule: str = field(default="", compare=False)

    @property
    def severity(self) -> str:
        """Returns the word that programs read."""
        return "error" if self.rejects else "warning"


def rejection(path: str, message: str) -> Finding:
    return Finding(path, one_line(message), rejects=True)


def warning(path: str, message: str) -> Finding:
    return Finding(path, one_line(message))


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Puts rejections first, by their path, and then warnings in the order they came in."""
    return sorted(findings, key=lambda finding: (not finding.rejects, finding.path if finding.rejects else ""))


def rejections(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.rejects]


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.rejects]


def one_line(text: str) -> str:
    """Replaces unprintable characters with spaces: the API server drops a warning with one, a terminal may obey it."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def quote_value(text: str) -> str:
    """Returns a user's text for a message, in quotes and shortened."""
    return json.dumps(shorten(text), ensure_ascii=False)


def shorten(text: str) -> str:
    """Returns as much of a user's text as a message shows."""
    return text if len(text) <= _MAX_QUOTED_CHARACTERS else f"{text[: _MAX_QUOTED_CHARACTERS - 1]}…"
