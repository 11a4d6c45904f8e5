import subprocess
import sys
from pathlib import Path

import pytest

from manifests.release.source import ROOT


def run(name: str, folder: Path, *arguments: str) -> str:
    program = folder / name
    program.symlink_to(ROOT / "manifests/release/launcher.py")
    imports = "import sys; from manifests.release.launcher import launch"
    code = f"{imports}; sys.argv[0] = {str(program)!r}; launch(sys.argv[0])"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_file_is_the_plugin(tmp_path: Path) -> None:
    assert run("kubectl-dittofs", tmp_path, "status", "--help").startswith("Usage: kubectl dittofs status")


@pytest.mark.parametrize("unfinished", ["", "sta"])
def test_the_file_completes_under_the_other_name(unfinished: str, tmp_path: Path) -> None:
    answer = run("kubectl_complete-dittofs", tmp_path, unfinished)

    assert "status\t" in answer
    assert answer.splitlines()[-1].startswith(":")
