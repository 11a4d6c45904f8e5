"""A maintainer builds a release as the page says. It has the same digests when it is built again, and people use it.

The base of the image is the one of the other tests, because only a registry has the pinned one.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from manifests.release.checksums import SUMS
from manifests.release.plugin import PROGRAM
from manifests.release.source import ROOT
from tests.e2e.images import Builder
from tests.harness.go_module import cache
from tests.harness.guides import GUIDES, type_page
from tests.harness.shell import Shell
from tests.release.repositories import copy_of_this

# What the page calls the version, and where the manifest for krew finds it by default.
VERSION = "0.2.0"
DOWNLOADS = "https://example.com/dittofs-operator"
# What the single file expects of a machine: the C library and zlib.
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libz.so.1")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Types the page in a clone, and returns the folder of the clone."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "scratch").mkdir()
    clone = copy_of_this(folder / "clone", time=1_700_000_000)
    add_a_change(clone / "CHANGELOG.md")
    person = {f"GIT_{role}_{part}": "a@localhost" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    environ = os.environ | base_of_image() | person | {"PLATFORMS": platform_of_image()}

    with Shell(clone, folder / "scratch", environ) as shell:
        type_page(GUIDES / "release.md", shell)

    return clone


def add_a_change(changelog: Path) -> None:
    """Lets a version be cut also right after another one."""
    heading = "## Unreleased\n"
    changelog.write_text(changelog.read_text().replace(heading, f"{heading}\n- A change.\n", 1))


def base_of_image() -> Mapping[str, str]:
    return Builder(cache(os.environ) / "images").prepare_base()


def platform_of_image() -> str:
    """Returns this machine's platform, because others cannot be emulated everywhere."""
    return {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


def content_of_image(clone: Path) -> dict[str, str]:
    """Returns the digests of what is in the archive of an image, in which a difference is easier to find."""
    with tarfile.open(clone / f"dist/dittofs-operator-{VERSION}.oci.tar") as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in files.items() if file}


@pytest.fixture
def without_python(release: Path, tmp_path: Path) -> Path:
    """Returns the root of a system that contains the plugin and the C library, and nothing else."""
    root = tmp_path / "root"
    for name in ("tmp", "lib64", "lib"):
        (root / name).mkdir(parents=True)

    with tarfile.open(plugin_of(release)) as tar:
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


def plugin_of(release: Path) -> Path:
    [archive] = release.glob("dist/kubectl-dittofs-*.tar.gz")
    return archive


def test_two_releases_have_the_same_digests(release: Path, tmp_path: Path) -> None:
    """The second one is built in another folder, of the same commit."""
    another = tmp_path / "another"
    shutil.copytree(release, another, ignore=shutil.ignore_patterns(".venv", "dist"))
    command = ("build", "--folder", another / "dist", "--platforms", platform_of_image(), "--downloads", DOWNLOADS)
    environ = os.environ | base_of_image()
    subprocess.run([sys.executable, "-m", "manifests.release", *command], cwd=another, env=environ, check=True)

    assert content_of_image(another) == content_of_image(release)
    assert (another / "dist" / SUMS).read_text() == (release / "dist" / SUMS).read_text()


def test_the_single_file_runs_without_python(without_python: Path) -> None:
    version = run_in(without_python, f"/{PROGRAM}", "--version")

    assert version.stdout == f"kubectl dittofs, version {VERSION}\n", version.stderr


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


def test_the_plugin_is_installed_as_the_page_says(release: Path, shell: Shell) -> None:
    page, programs = GUIDES / "install-the-plugin.md", shell.folder.parent / "home/.local/bin"

    def replace_by_single_file() -> None:
        for link in programs.iterdir():
            link.unlink()
        (shell.folder / "plugins").mkdir()
        shutil.copy(plugin_of(release), shell.folder / "plugins")

    shell.type('PATH="$HOME/.local/bin:$PATH"')
    type_page(page, shell, instead={"plugin": replace_by_single_file})

    assert shell.type("kubectl dittofs --version").endswith(f"{VERSION}\n")
