import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server


def annotations(here: Namespace, name: str) -> Any:
    return here.get("dittoserver", name)["metadata"].get("annotations") or {}


def test_every_server_named_is_annotated(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    here = Namespace(control_plane, namespace)
    here.apply(server(), server("other"), server("third"))
    lines = plugin("pause", "-n", namespace, "files", "other", "files")

    assert [line.split()[:4] for line in lines] == [
        ["DittoServer", f"{namespace}/{name}", "is", "paused:"] for name in ("files", "other")
    ]
    assert annotations(here, "files")["dittofs.io/paused"] == "true"
    assert "dittofs.io/paused" not in annotations(here, "third")

    managers = {entry["manager"] for entry in here.get("dittoserver", "files")["metadata"]["managedFields"]}
    assert "kubectl-dittofs" in managers


def test_nothing_is_written_when_a_name_is_wrong(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    here = Namespace(control_plane, namespace)
    here.apply(server())
    result = run("pause", "files", "none", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))

    assert result.returncode == 2
    assert f"no DittoServer none in namespace {namespace}; there are: files" in result.stderr
    assert "dittofs.io/paused" not in annotations(here, "files")


def test_what_was_done_is_printed_when_the_rest_fails(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    here, resource = Namespace(control_plane, namespace), "--resource=dittoservers.dittofs.dittofs.com"
    here.apply(server(), server("other"))
    here.kubectl("create", "serviceaccount", "person")
    here.kubectl("create", "role", "reads", "--verb=list", resource)
    here.kubectl("create", "role", "writes", "--verb=patch", resource, "--resource-name=files")
    for role in ("reads", "writes"):
        here.kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={namespace}:person")
    kubeconfig = str(control_plane.kubeconfig_for("person", namespace))
    result = run("pause", "files", "other", "--kubeconfig", kubeconfig)

    assert result.returncode == 2
    assert result.stdout.startswith(f"DittoServer {namespace}/files is paused")
    assert "forbidden" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_servers_are_selected_by_their_labels(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    here = Namespace(control_plane, namespace)
    here.apply({**server(), "metadata": {"name": "files", "labels": {"team": namespace}}}, server("other"))
    [result] = json.loads("\n".join(plugin("pause", "-A", "-l", f"team={namespace}", "-o", "json")))

    assert (result["namespace"], result["server"]) == (namespace, "files")
    assert "dittofs.io/paused" not in annotations(here, "other")

    none = run("pause", "-n", namespace, "-l", "team=none", "--kubeconfig", str(control_plane.kubeconfig))
    assert none.returncode == 2
    assert "no DittoServer has these labels: team=none" in none.stderr


@pytest.mark.parametrize("command", ["restart", "pause", "resume", "logs"])
def test_nobody_means_all_servers_by_saying_nothing(command: str) -> None:
    for arguments in ([], ["-A"]):
        result = run(command, *arguments)

        assert result.returncode == 2
        assert "name the DittoServers, or select them with --selector" in result.stderr
