import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from manifests.release.publish import image_archive, image_digest, publish_commands, why_not_publishable
from manifests.release.source import ReleaseSource, read_source
from tests.release.repositories import commit, git

DIGEST = f"sha256:{hashlib.sha256(b'index').hexdigest()}"
FILES = {
    "pyproject.toml": '[project]\nversion = "1.2.3"\n',
    "CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-11-28\n\n- A change; $(reboot) `it`.\n",
}


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


def released(folder: Path, dist: Path, **changes: str) -> ReleaseSource:
    """Makes a repository whose commit is tagged, and builds nothing but an image without layers."""
    commit(folder, {**FILES, **changes})
    git(folder, "tag", "v1.2.3")

    source = read_source(folder)
    content = json.dumps({"manifests": [{"digest": DIGEST}]}).encode()
    with tarfile.open(image_archive(source, dist), "w") as tar:
        member = tarfile.TarInfo("index.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return source


@pytest.fixture
def source(tmp_path: Path, dist: Path) -> ReleaseSource:
    return released(tmp_path / "source", dist)


def test_a_tagged_commit_is_published(source: ReleaseSource, dist: Path) -> None:
    assert why_not_publishable(source, dist) is None


def test_what_is_not_committed_is_not_published(source: ReleaseSource, dist: Path) -> None:
    source.path("new").touch()
    assert why_not_publishable(source, dist) == "There are changes that are not committed"


def test_a_commit_without_the_tag_is_not_published(source: ReleaseSource, dist: Path) -> None:
    git(source.root, "tag", "--delete", "v1.2.3")
    git(source.root, "tag", "v1.2.4")

    assert why_not_publishable(source, dist) == "This commit has no tag v1.2.3"


def test_a_version_that_is_not_cut_is_not_published(tmp_path: Path, dist: Path) -> None:
    source = released(tmp_path / "source", dist, **{"CHANGELOG.md": "## Unreleased\n- A change.\n"})
    assert why_not_publishable(source, dist) == "CHANGELOG.md says nothing about 1.2.3; run make cut"


def test_a_release_without_an_image_is_not_published(source: ReleaseSource, dist: Path) -> None:
    image_archive(source, dist).unlink()
    assert "has no image of version 1.2.3" in str(why_not_publishable(source, dist))


def test_the_image_is_signed_by_its_digest(source: ReleaseSource, dist: Path) -> None:
    commands = publish_commands(source, dist, "registry.example.com/team")

    assert image_digest(image_archive(source, dist)) == DIGEST
    assert ["cosign", "sign", "--yes", f"registry.example.com/team/dittofs-operator@{DIGEST}"] in commands
    assert [command[0] for command in commands] == ["skopeo", "cosign", "helm", "cosign", "gh"]


def test_the_notes_are_one_argument(source: ReleaseSource, dist: Path) -> None:
    [create] = [command for command in publish_commands(source, dist, "r") if command[0] == "gh"]
    assert create[create.index("--notes") + 1] == "- A change; $(reboot) `it`."
