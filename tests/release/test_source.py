import tomllib
from pathlib import Path

import pytest

from manifests.release.source import ROOT, read_source
from tests.release.repositories import commit


def test_the_source_is_the_last_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    revision = commit(tmp_path, {"pyproject.toml": '[project]\nversion = "1.2.3"\n'}, time=1_700_000_000)

    source = read_source(tmp_path)

    assert (source.version, source.revision, source.time) == ("1.2.3", revision, 1_700_000_000)


def test_the_environment_sets_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    assert read_source().time == 1_600_000_000


def test_files_are_those_that_git_knows(tmp_path: Path) -> None:
    commit(tmp_path, {"pyproject.toml": '[project]\nversion = "1.2.3"\n', "a/z": "", "a/b/c": "", "d": ""})
    (tmp_path / "a/editor~").touch()

    assert read_source(tmp_path).tracked_files("a") == ["b/c", "z"]


def test_the_version_is_that_of_the_project() -> None:
    assert read_source().version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
