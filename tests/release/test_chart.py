import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from manifests.release.chart import FOLDER, build_chart
from manifests.release.source import ROOT, ReleaseSource, project_version, read_source
from tests.helm.build import helm


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build_chart(read_source(), tmp_path)


def run(*arguments: str | Path) -> str:
    return subprocess.run([helm(os.environ), *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def members(package: Path) -> set[str]:
    with tarfile.open(package) as tar:
        return set(tar.getnames())


def test_the_package_is_the_chart(package: Path) -> None:
    assert package.name == f"dittofs-operator-{project_version()}.tgz"
    assert run("show", "chart", package) == run("show", "chart", FOLDER)
    assert run("template", "a", package) == run("template", "a", FOLDER)


def test_the_package_holds_what_helm_would_pack(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "helm"
    run("package", FOLDER, "--destination", target)
    assert members(package) == members(target / package.name)


def test_the_time_of_a_file_is_not_in_the_package(package: Path, tmp_path: Path) -> None:
    source = read_source()
    again = tmp_path / "again"
    again.mkdir()
    later = ReleaseSource(source.root, source.version, source.revision, source.time + 1)

    assert build_chart(source, again).read_bytes() == package.read_bytes()
    assert build_chart(later, again).read_bytes() != package.read_bytes()
