import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from manifests.release.__main__ import build_files, main
from manifests.release.plugin import plugin_archive
from manifests.release.source import project_version, read_source
from tests.release.repositories import copy_of_this


def test_two_builds_of_a_commit_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    releases = []

    for name, mode in (("first", 0o644), ("another", 0o600)):
        source = read_source(copy_of_this(tmp_path / name, time=1_700_000_000))
        for path in source.root.rglob("*.*"):
            if path.is_file() and ".git" not in path.parts:
                path.chmod(mode)
                os.utime(path, (mode, mode))

        folder = tmp_path / f"{name}-release"
        folder.mkdir()
        build_files(source, folder)
        releases.append({path.name: path.read_bytes() for path in folder.iterdir()})

    assert releases[0] == releases[1]
    assert set(releases[0]) == {
        f"dittofs-operator-{project_version()}.tgz",
        f"dittofs-operator-{project_version()}.spdx.json",
        f"dittofs_operator-{project_version()}-py3-none-any.whl",
        "install.yaml",
    }


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "dist").mkdir()
    return tmp_path / "dist"


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def run_build(folder: Path, plugins: Path) -> Result:
    """Builds what needs neither a container nor another interpreter."""
    options = ("--folder", str(folder), "--plugins", str(plugins), "--downloads", "https://example.com")
    return CliRunner().invoke(main, ["build", *options])


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").touch()
    result = run_build(tmp_path, tmp_path)

    assert result.exit_code == 1
    assert "holds other things than a release" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_an_earlier_release_is_replaced(dist: Path, plugins: Path) -> None:
    for name in ("SHA256SUMS", "earlier"):
        (dist / name).touch()

    result = run_build(dist, plugins)

    assert result.exit_code == 0, result.output
    assert not (dist / "earlier").exists()
    assert (dist / "SHA256SUMS").read_text() == result.output


def test_plugins_of_other_machines_are_part_of_the_release(dist: Path, plugins: Path) -> None:
    names = [plugin_archive(project_version(), architecture) for architecture in ("amd64", "arm64")]
    for name in names:
        (plugins / name).write_text(name)

    result = run_build(dist, plugins)

    assert [name for name in names if f"  {name}\n" in result.output] == names
    assert [name for name in names if name in (dist / "dittofs.yaml").read_text()] == names


@pytest.mark.parametrize("version", ["", "1", "0.0.0-rc1"])
def test_a_cut_that_is_refused_says_why(version: str) -> None:
    result = CliRunner().invoke(main, ["cut", version])

    assert result.exit_code == 1
    assert "A version has three numbers" in result.output
