from datetime import date

import pytest

from manifests.release.changelog import CannotCut, cut_changelog, notes, released_versions
from manifests.release.source import ROOT

DAY = date(2026, 11, 28)
TEXT = """# Changelog

Newest first.

## Unreleased

### Logs
- A line.

## 0.9.0 - 2026-01-02

- Older.

## 0.10.0 - 2026-01-03

- Newer.
"""


def test_the_unreleased_changes_become_a_version() -> None:
    text = cut_changelog(TEXT, "0.11.0", DAY)

    assert "## Unreleased\n\n## 0.11.0 - 2026-11-28\n\n### Logs\n- A line.\n" in text
    assert notes(text, "Unreleased") == ""
    assert notes(text, "0.11.0") == "### Logs\n- A line."
    assert released_versions(text) == ["0.11.0", "0.9.0", "0.10.0"]


def test_nothing_is_lost_by_a_cut() -> None:
    text = cut_changelog(TEXT, "1.0.0", DAY)
    assert text.replace("\n## 1.0.0 - 2026-11-28\n", "", 1) == TEXT


@pytest.mark.parametrize("version", ["0.10.0", "0.9.1", "0.2.0", "v1.0.0", "1.0", "1.0.0-rc1", "01.0.0", "1.0.0\n", ""])
def test_a_version_must_be_newer_and_have_three_numbers(version: str) -> None:
    with pytest.raises(CannotCut):
        cut_changelog(TEXT, version, DAY)


def test_a_version_without_changes_is_not_cut() -> None:
    text = cut_changelog(TEXT, "0.11.0", DAY)

    with pytest.raises(CannotCut, match="no unreleased changes"):
        cut_changelog(text, "0.12.0", DAY)


def test_an_unknown_version_has_no_notes() -> None:
    assert notes(TEXT, "0.1.0") == ""
    assert notes(TEXT, "0.9.0") == "- Older."


def test_the_changelog_of_the_project_can_be_cut() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.count("\n## Unreleased\n") == 1

    text = text.replace("\n## Unreleased\n", "\n## Unreleased\n\n- A change.\n")

    assert notes(cut_changelog(text, "999.0.0", DAY), "999.0.0") == notes(text, "Unreleased")
