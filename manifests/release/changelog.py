"""Cuts CHANGELOG.md per version: what was unreleased gets the number and the day of its release."""

import re
from datetime import date

_UNRELEASED = "## Unreleased\n"
_VERSION = re.compile(r"^## (\d+)\.(\d+)\.(\d+) - \d{4}-\d\d-\d\d$", re.MULTILINE)


class CannotCut(Exception):
    """There is nothing to release, or not under this version."""


def cut_changelog(text: str, version: str, day: date) -> str:
    """Returns the text with the unreleased changes as those of the version, below an empty section for the next ones.

    A version must be newer than all before. It has three numbers and nothing else, as charts and images need it.
    """
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise CannotCut(f"A version has three numbers, such as 1.4.0; {version!r} has not")
    if not notes(text, "Unreleased"):
        raise CannotCut("CHANGELOG.md has no unreleased changes")

    latest = max(released_versions(text), default=None, key=_numbers)
    if latest and _numbers(version) <= _numbers(latest):
        raise CannotCut(f"Version {version} is not newer than {latest}, which is in CHANGELOG.md")

    return text.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version} - {day.isoformat()}\n", 1)


def released_versions(text: str) -> list[str]:
    """Returns the versions with a section, as they follow each other: newest first."""
    return [".".join(match.groups()) for match in _VERSION.finditer(text)]


def notes(text: str, version: str) -> str:
    """Returns what changed in a version, or in `Unreleased`, without its heading; empty without such a section."""
    section = re.search(rf"^## {re.escape(version)}(?: - \S+)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return section[1].strip() if section else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
