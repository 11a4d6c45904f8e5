import re
import shutil
from datetime import date
from pathlib import Path

import pytest

from manifests.release.changelog import CannotCut, released_versions
from manifests.release.source import ROOT, project_version
from manifests.release.version import cut_version

DAY = date(2026, 11, 28)
# Without a version: which ones the project has, and whether it has changed since, is not what these tests are about.
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- A change.\n"
PAGES = [ROOT / "README.md", ROOT / "charts/dittofs-operator/README.md", *(ROOT / "docs").rglob("*.md")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Returns a copy of the files that a version is cut in, with another changelog."""
    for path in [*PAGES, ROOT / "pyproject.toml"]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def images(root: Path) -> set[str]:
    texts = (path.read_text() for path in root.rglob("*.md") if path.name != "CHANGELOG.md")
    return {tag for text in texts for tag in re.findall(r"dittofs-operator:(\d[\w.-]*\w)", text)}


def test_every_page_names_the_image_of_this_version() -> None:
    tags = {tag for page in PAGES for tag in re.findall(r"dittofs-operator:(\d[\w.-]*\w)", page.read_text())}
    assert tags == {project_version()}


def test_a_cut_sets_the_version_everywhere(repository: Path) -> None:
    changed = cut_version(repository, "9.8.7", DAY)

    assert project_version(repository) == "9.8.7"
    assert images(repository) == {"9.8.7"}
    assert released_versions((repository / "CHANGELOG.md").read_text())[0] == "9.8.7"
    assert {repository / "pyproject.toml", repository / "CHANGELOG.md", repository / "README.md"} <= set(changed)


def test_a_cut_changes_nothing_but_the_version(repository: Path) -> None:
    cut_version(repository, "9.8.7", DAY)

    for path in repository.rglob("*.*"):
        before = (ROOT / path.relative_to(repository)).read_text() if path.is_file() else ""
        if path.is_file() and path.name != "CHANGELOG.md":
            assert path.read_text().replace("9.8.7", project_version()) == before


def test_the_first_version_may_be_the_one_that_is_set(repository: Path) -> None:
    cut_version(repository, project_version(), DAY)
    assert project_version() in released_versions((repository / "CHANGELOG.md").read_text())


def test_a_cut_that_is_refused_changes_no_file(repository: Path) -> None:
    with pytest.raises(CannotCut):
        cut_version(repository, "nine", DAY)

    assert (repository / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()
    assert (repository / "CHANGELOG.md").read_text() == CHANGELOG
