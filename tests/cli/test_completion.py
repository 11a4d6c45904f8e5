import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.harness.command_line import run
from tests.harness.server_table import server


def test_bash_completes_what_is_typed(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump({**server(), "metadata": {"name": "files", "namespace": "media"}}))
    script = """
        source <(kubectl-dittofs completion bash)
        COMP_WORDS=(kubectl-dittofs "$@")
        COMP_CWORD=$#
        complete -p kubectl-dittofs dittofs-operator
        _kubectl_dittofs_completion kubectl-dittofs
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def complete(*words: str) -> list[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "--norc", "-c", script, "bash", *words]
        result = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
        assert result.stderr == ""
        first, second, *candidates = result.stdout.splitlines()
        assert [line.split()[-1] for line in (first, second)] == ["kubectl-dittofs", "dittofs-operator"]
        return candidates

    assert complete("stat") == ["status"]
    assert complete("status", "--snapshot", str(snapshot), "") == ["files"]
    assert complete("status", "-o", "j") == ["json"]
    assert "serve" not in complete("")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_that_shell(shell: str) -> None:
    script = run("completion", shell).stdout

    assert "kubectl-dittofs" in script
    assert "dittofs-operator" in script
    if interpreter := shutil.which(shell):
        subprocess.run([interpreter, "-n"], input=script, text=True, check=True)


def test_another_shell_is_refused() -> None:
    result = run("completion", "csh")

    assert result.returncode == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in result.stderr
