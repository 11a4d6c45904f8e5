"""Two builds of a commit give the same single file, which runs where there is no Python. It needs no cluster."""

import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from manifests.release.checksums import sha256
from manifests.release.plugin import PROGRAM, build_plugin
from manifests.release.source import ROOT, read_source
from manifests.release.wheel import build_wheel

# What the single file expects of a machine: the C library and zlib.
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libz.so.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where the module's files are, of which the single file is built only twice."""
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def plugin(folder: Path) -> Path:
    return build(folder / "first")


def build(folder: Path) -> Path:
    folder.mkdir()
    return build_plugin(read_source(), build_wheel(read_source(), folder), folder)


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


def test_two_single_files_are_the_same(plugin: Path, folder: Path) -> None:
    assert sha256(build(folder / "second")) == sha256(plugin)


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
