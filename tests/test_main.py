import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.__main__ import SERVER_COMMANDS, SUMMARIES, command_line, import_command
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import ROOT, SNAPSHOT, run
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server

SHARED_MODULES = {
    "annotation",
    "candidates",
    "checkup",
    "live_view",
    "markup",
    "options",
    "output",
    "page",
    "screen",
    "server_report",
    "takeover",
    "ticket",
}
DIRECTIVES = {":0": "ShellCompDirectiveDefault", ":4": "ShellCompDirectiveNoFileComp"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("check", "none-such.yaml"), "none-such.yaml: cannot be read: No such file or directory"),
        (("check", SNAPSHOT), f"{SNAPSHOT}: expected at least one DittoServer, found none"),
        (("check", "manifests/samples", "--kubeconfig", "none"), "kubeconfig none cannot be used"),
        (
            ("check", "manifests/samples", "--kubeconfig", "a", "--snapshot", "b"),
            "--snapshot cannot be used together",
        ),
        (("review", SNAPSHOT), f"{SNAPSHOT}: expected at least one DittoServer, found none"),
        (("render", SNAPSHOT), f"{SNAPSHOT}: expected at least one DittoServer, found none"),
        (("plan", SNAPSHOT, "--snapshot", SNAPSHOT), f"{SNAPSHOT}: expected at least one DittoServer, found none"),
        (("df", "--kubeconfig", "none"), "kubeconfig none cannot be used"),
        (("df", "--context", "a", "--snapshot", SNAPSHOT), "--context and --snapshot cannot be used together"),
        (("serve", "--tls-key=a"), "--tls-cert and --tls-key must be given together"),
        (("serve", "--snapshot=b"), "--snapshot requires --tls-cert and --tls-key"),
        (("serve", "--ca-days=0"), "0.0 is not in the range"),
        (("serve", "--cluster-domain=a_b"), "'a_b' is not a domain such as cluster.local, of at most 120"),
        (("serve", "--listen=9443"), "'9443' is not HOST:PORT, such as 0.0.0.0:9443"),
    ],
)
def test_unusable_input_is_one_line_and_exits_with_two(arguments: tuple[str, ...], complaint: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_has_no_control_characters() -> None:
    result = run("check", "-", stdin='apiVersion: v1\nkind: A\n"\\a\\N": 1\n"\\a\\N": 2\n')

    assert result.returncode == 2
    assert "expected the key" in result.stderr
    assert result.stderr.removesuffix("\n").isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_is_utf_8_wherever_it_is_written(encoding: str) -> None:
    manifest = """
        {apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, metadata: {name: files}, spec: {
            storage: {metadataSize: 10Gi}, podTemplate: {metadata: {annotations: {note: "\u65e5\u672c"}}}}}
    """
    command = [sys.executable, "-m", "app", "render", "-"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    rendered = subprocess.run(
        command, input=manifest.encode(), env=environment, cwd=ROOT, capture_output=True, check=True
    )

    assert "note: 日本" in rendered.stdout.decode()


def test_a_plugin_of_kubectl_is_called_by_that_name() -> None:
    plugin = Path(sys.executable).with_name("kubectl-dittofs")
    result = subprocess.run([plugin, "df", "--help"], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[0] == "Usage: kubectl dittofs df [OPTIONS] [NAME]..."


def test_kubectl_completes_its_plugin(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Namespace(control_plane, namespace).apply(server(), server("other"))
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in programs.items():
        module, _, function = place.partition(":")
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def complete(*words: str) -> list[str]:
        result = control_plane.kubectl("__complete", "dittofs", *words)
        # kubectl itself tells on standard error what it does.
        *details, last = result.stderr.splitlines()
        assert all(line.startswith("[Debug] ") for line in details)
        assert last == f"Completion ended with directive: {DIRECTIVES[result.stdout.splitlines()[-1]]}"
        return [line.partition("\t")[0] for line in result.stdout.splitlines()]

    assert complete("sta") == ["status", ":4"]
    assert complete("status", "-n", namespace, "") == ["files", "other", ":4"]
    assert complete("status", "-n", namespace, "files", "") == ["other", ":4"]
    assert complete("status", "-n", namespace[:-2]) == [namespace, ":4"]
    assert complete("status", "-o", "w") == ["wide", ":4"]
    assert complete("check", "") == [":0"]
    assert "serve" not in complete("")


def test_commands_of_the_server_are_not_listed_by_the_plugin() -> None:
    plugin = Path(sys.executable).with_name("kubectl-dittofs")
    listed = subprocess.run([plugin, "--help"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in listed.partition("Commands:")[2].splitlines() if line.strip()}

    assert SUMMARIES.keys() - names == set(SERVER_COMMANDS)
    assert all(f"  {name} " in run("--help").stdout for name in SERVER_COMMANDS)
    assert subprocess.run([plugin, "serve", "--help"], check=True, capture_output=True).stdout


def test_commands_are_listed_without_importing_them() -> None:
    code = "import sys, app.__main__ as m; m.command_line(['--help'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *usage, modules = result.stdout.splitlines()

    assert all(any(line.split()[:1] == [name] for line in usage) for name in SUMMARIES)
    assert not [module for module in modules.split() if module.startswith("app.cli")]


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_listed_summary_is_the_one_of_the_command(name: str) -> None:
    assert str(import_command(name).help).partition("\n")[0] == SUMMARIES[name]


def test_every_command_module_is_listed() -> None:
    modules = {path.stem for path in (ROOT / "app/cli").glob("[!_]*.py")}

    assert modules - SHARED_MODULES == set(SUMMARIES) == set(command_line.commands)


def test_a_misspelt_command_draws_a_suggestion() -> None:
    assert "Did you mean 'check'?" in run("chekc").stderr


def test_commands_import_no_web_server_and_no_client() -> None:
    """They are imported to complete a line, or to look at a file."""
    light = SUMMARIES.keys() - {"doctor", "report", "serve"}
    heavy = "{'fastapi', 'uvicorn', 'httptools', 'kubernetes_asyncio', 'aiohttp'}"
    code = f"import sys, {', '.join(f'app.cli.{name}' for name in light)}; print(*{heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout == "\n"
