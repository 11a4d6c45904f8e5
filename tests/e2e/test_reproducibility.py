"""Two builds of a commit give the same image and the same single file, which runs where there is no Python.

It needs no cluster. The base of the image is the one of the other tests, because only a registry has the pinned one.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from manifests.release.checksums import sha256
from manifests.release.image import build_image
from manifests.release.plugin import PROGRAM, build_plugin
from manifests.release.source import ROOT, ReleaseSource, read_source
from manifests.release.wheel import build_wheel
from tests.e2e.images import Builder
from tests.harness.go_module import cache
from tests.release.repositories import copy_of_this

# What the single file expects of a machine: the C library and zlib.
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libz.so.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where the module's files are, of which the single file is built only twice."""
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def source() -> ReleaseSource:
    return read_source()


@pytest.fixture(scope="module")
def plugin(source: ReleaseSource, folder: Path) -> Path:
    return build(source, folder / "first")


def build(source: ReleaseSource, folder: Path) -> Path:
    folder.mkdir()
    return build_plugin(source, build_wheel(source, folder), folder)


@pytest.fixture
def without_python(plugin: Path, tmp_path: Path) -> Path:
    """Returns the root of a system that contains the plugin and the C library, and nothing else."""
    root = tmp_path / "root"
    for name in ("tmp", "lib64", "lib"):
        (root / name).mkdir(parents=True)

    with tarfile.open(plugin) as tar:
        tar.extract(PROGRAM, root, filter="data")

    folder = Path(f"/lib/{platform.machine()}-linux-gnu")
    for library in LIBRARIES:
        shutil.copy(folder / library, root / "lib")
    loader = next(path for place in ("/lib64", "/lib") for path in Path(place).glob("ld-linux*.so.*"))
    shutil.copy(loader, root / loader.relative_to("/"))
    return root


def run_in(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    chroot = [str(shutil.which("chroot")), str(root), *command]
    return subprocess.run(chroot, env={"HOME": "/"}, capture_output=True, text=True, check=False, timeout=120)


def test_two_single_files_are_the_same(source: ReleaseSource, plugin: Path, folder: Path) -> None:
    assert sha256(build(source, folder / "second")) == sha256(plugin)


def test_the_single_file_runs_without_python(without_python: Path) -> None:
    version = run_in(without_python, f"/{PROGRAM}", "--version")

    assert version.stdout == f"kubectl dittofs, version {read_source().version}\n", version.stderr


def test_the_single_file_reads_manifests_and_connects(without_python: Path) -> None:
    shutil.copy(ROOT / "manifests/samples/minimal.yaml", without_python)
    shutil.copy(ROOT / "tests/demo/rejected.yaml", without_python)
    (without_python / "kubeconfig").write_text(
        "{clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: a, user: {token: a}}],"
        " contexts: [{name: a, context: {cluster: a, user: a}}], current-context: a}"
    )

    accepted = run_in(without_python, f"/{PROGRAM}", "check", "/minimal.yaml")
    unreachable = run_in(without_python, f"/{PROGRAM}", "status", "--kubeconfig=/kubeconfig")

    assert accepted.returncode == 0, accepted.stderr
    assert unreachable.returncode == 2
    assert "127.0.0.1" in unreachable.stderr
    assert "Traceback" not in unreachable.stderr


def test_the_single_file_completes_for_kubectl(without_python: Path) -> None:
    (without_python / "kubectl_complete-dittofs").symlink_to(PROGRAM)
    assert "status\t" in run_in(without_python, "/kubectl_complete-dittofs", "sta").stdout


def test_two_images_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Builder(cache(os.environ) / "images").prepare_base().items():
        monkeypatch.setenv(name, value)
    copy_of_this(tmp_path / "first", time=1_700_000_000)
    shutil.copytree(tmp_path / "first", tmp_path / "another")
    archives = []

    for name in ("first", "another"):
        (tmp_path / f"{name}-release").mkdir()
        archives.append(build_image(read_source(tmp_path / name), tmp_path / f"{name}-release", platforms()))

    assert layers(archives[0]) == layers(archives[1])
    assert sha256(archives[0]) == sha256(archives[1])


def platforms() -> str:
    """Returns this machine's platform, because others cannot be emulated everywhere."""
    return {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


def layers(archive: Path) -> dict[str, str]:
    """Returns the digests of the content of an archive, in which a difference is easier to find."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in files.items() if file}
