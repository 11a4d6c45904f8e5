from collections.abc import Callable
from typing import Any

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
    assert '"none" not found' in result.stderr
    assert "dittofs.io/paused" not in annotations(here, "files")
