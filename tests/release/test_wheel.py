import zipfile
from pathlib import Path

import pytest

from manifests.release.source import ReleaseSource
from manifests.release.wheel import build_wheel
from tests.release.repositories import copy_of_this

TIME = 1_700_000_000
FOLDERS = "app/", "certs/", "dittofs_operator-"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = copy_of_this(tmp_path_factory.mktemp("source"), TIME)
    return build_wheel(ReleaseSource(copy, "", "", TIME), tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert "app/__main__.py" in names
    assert not [name for name in names if not name.startswith(FOLDERS) or name.endswith(".pyc")]


def test_the_wheel_has_one_time(wheel: Path) -> None:
    assert {entry.date_time for entry in zipfile.ZipFile(wheel).infolist()} == {(2023, 11, 14, 22, 13, 20)}
