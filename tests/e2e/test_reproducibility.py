"""A release that was built twice has the same digests, and its single file is what a user without Python needs."""

import hashlib
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from manifests.release.checksums import SUMS
from manifests.release.plugin import PROGRAM
from tests.e2e.releases import VERSION, Releases
from tests.harness.guides import GUIDES, ROOT, type_page
from tests.harness.shell import Shell

# What the single file expects of a machine: the C library and zlib.
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libz.so.1")


@pytest.fixture
def release(releases: Releases) -> Path:
    """Returns the clone in which somebody has typed release.md."""
    releases.wait()
    return releases.first


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


def content_of_image(clone: Path) -> dict[str, str]:
    """Returns the digests of what is in the archive of an image, in which a difference is easier to find."""
    with tarfile.open(clone / f"dist/dittofs-operator-{VERSION}.oci.tar") as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in files.items() if file}


def test_two_releases_have_the_same_digests(releases: Releases, release: Path) -> None:
    assert content_of_image(releases.second) == content_of_image(release)
    assert (releases.second / "dist" / SUMS).read_text() == (release / "dist" / SUMS).read_text()


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
