import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import SERVER_COMMANDS, SUMMARIES, command_line, import_command
from tests.harness.command_line import ROOT, SNAPSHOT, run


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


def test_a_plugin_of_kubectl_is_called_by_that_name() -> None:
    plugin = Path(sys.executable).with_name("kubectl-dittofs")
    result = subprocess.run([plugin, "df", "--help"], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[0] == "Usage: kubectl dittofs df [OPTIONS]"


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

    assert (
        modules - {"annotation", "options", "output", "screen", "server_report", "takeover"}
        == set(SUMMARIES)
        == set(command_line.commands)
    )


def test_a_misspelt_command_draws_a_suggestion() -> None:
    assert "Did you mean 'check'?" in run("chekc").stderr


def test_check_imports_no_web_server_and_no_client() -> None:
    heavy = "{'fastapi', 'uvicorn', 'kubernetes_asyncio', 'aiohttp'}"
    code = f"import sys, app.cli.check, app.cli.plan, app.cli.df, app.cli.status; print(*{heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout == "\n"
