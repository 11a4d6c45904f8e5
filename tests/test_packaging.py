import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from app.__main__ import SERVER_COMMANDS, SUMMARIES
from manifests.release.source import read_source
from manifests.release.wheel import build_wheel
from tests.harness.command_line import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV = Path(sys.executable).with_name("uv")

# A client has no packages of the server, nor what only those bring along.
WITHOUT_SERVER = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["kubectl-dittofs", *sys.argv[1:]]
from app.__main__ import main
main()
"""


def server_modules() -> list[str]:
    names = [re.split(r"[^a-z0-9-]", requirement)[0] for requirement in PROJECT["optional-dependencies"]["serve"]]
    return [*names, "starlette"]


def run_without_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT_SERVER.format(missing=server_modules())
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", [name for name in SUMMARIES if name not in SERVER_COMMANDS])
def test_a_client_needs_no_package_of_the_server(command: str) -> None:
    result = run_without_server(command, "--help")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"Usage: kubectl dittofs {command}")


def test_a_client_connects_without_packages_of_the_server(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: a, user: {token: a}}],"
        " contexts: [{name: a, context: {cluster: a, user: a}}], current-context: a}"
    )
    result = run_without_server("status", f"--kubeconfig={kubeconfig}")

    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "127.0.0.1" in result.stderr


def test_serve_says_which_packages_it_lacks(tmp_path: Path) -> None:
    result = run_without_server("serve", f"--kubeconfig={tmp_path}/none")

    assert result.returncode == 1
    assert (
        "not installed; the operator runs on Linux and needs the packages of dittofs-operator[serve]" in result.stderr
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("platform", "lock"),
    [
        ("linux", "requirements.lock"),
        ("aarch64-unknown-linux-gnu", "requirements.lock"),
        ("linux", "requirements-client.lock"),
        ("aarch64-apple-darwin", "requirements-client.lock"),
        ("windows", "requirements-client.lock"),
    ],
)
def test_every_locked_package_exists_as_a_wheel(platform: str, lock: str, tmp_path: Path) -> None:
    options = f"--target={tmp_path}", f"--python-platform={platform}", "--only-binary=:all:", "--require-hashes"
    command = [str(UV), "pip", "install", "--dry-run", *options, "--requirements", lock]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert "click" in result.stderr


def test_the_wheel_has_the_style_sheet_of_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    [wheel] = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("app/cli/page.css") == (ROOT / "app/cli/page.css").read_bytes()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(read_source(), tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize(
    ("platform", "extras", "lock"),
    [
        ("linux", "[serve]", "requirements.lock"),
        ("aarch64-unknown-linux-gnu", "[serve]", "requirements.lock"),
        ("linux", "", "requirements-client.lock"),
        ("aarch64-apple-darwin", "", "requirements-client.lock"),
        ("windows", "", "requirements-client.lock"),
    ],
)
def test_the_wheel_installs_with_the_locked_packages(wheel: Path, platform: str, extras: str, lock: str) -> None:
    """Nothing may be needed that the lock has not."""
    resolved = resolve(f"dittofs-operator{extras} @ {wheel.as_uri()}", platform, f"--constraint={lock}")

    assert "click" in resolved
    assert resolved.items() <= locked(lock).items()
    assert ("uvicorn" in resolved) == bool(extras)


def test_the_wheel_installs_on_a_mac_with_an_intel_processor(wheel: Path) -> None:
    """The locked cryptography has no wheel for it any more, but an earlier one that suffices does."""
    assert "cryptography" in resolve(f"dittofs-operator @ {wheel.as_uri()}", "x86_64-apple-darwin")


def resolve(requirement: str, platform: str, *options: str) -> dict[str, str]:
    """Returns the versions that an installer chooses on a system, of those that need no compiler."""
    command = [str(UV), "pip", "compile", f"--python-platform={platform}", "--only-binary=:all:", *options, "-"]
    result = subprocess.run(command, cwd=ROOT, input=requirement, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", result.stdout, re.MULTILINE))


def test_the_locks_agree() -> None:
    client, server = (locked(name) for name in ("requirements-client.lock", "requirements.lock"))

    assert client.items() <= server.items()
    assert server.items() <= locked("requirements-dev.lock").items()


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
