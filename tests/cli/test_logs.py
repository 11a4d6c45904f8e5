from collections.abc import AsyncIterator

import pytest

from app.cli.logs import split_lines
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.kubelet import kubelet
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server

NOW, BEFORE = "started\tfast\nserves \x1b[2J\x07NFS\nends", "panic: no disk\n"


def test_the_log_is_that_of_the_pod(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    spec = {"nodeName": namespace, "containers": [{"name": "sidecar", "image": "s"}, {"name": "dittofs", "image": "d"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0"}, "spec": spec}
    Namespace(control_plane, namespace).apply(server(), pod)
    command = ("logs", "files", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))
    name = f"{namespace}/files-0/dittofs"

    with kubelet(control_plane, namespace, logs={name: BEFORE}, current_logs={name: NOW}) as requests:
        shown, previous = run(*command), run(*command, "--previous")
        followed = run(*command, "-f", "--tail", "5")

    assert shown.stdout.splitlines() == ["started fast", "serves  [2J NFS", "ends"]
    assert previous.stdout == BEFORE
    assert followed.stdout == shown.stdout
    assert "follow=true" in requests[-1]
    assert "tailLines=5" in requests[-1]


def test_each_line_says_which_of_several_servers_it_is_from(
    control_plane: ControlPlane, crd: None, namespace: str
) -> None:
    spec = {"nodeName": namespace, "containers": [{"name": "dittofs", "image": "d"}]}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{n}-0"}, "spec": spec} for n in ("files", "other")
    ]
    Namespace(control_plane, namespace).apply(server(), server("other"), server("third"), *pods)
    current = {f"{namespace}/{name}-0/dittofs": f"log of {name}\n" for name in ("files", "other")}
    command = ("logs", "files", "other", "third", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))

    with kubelet(control_plane, namespace, current_logs=current):
        shown, followed = run(*command), run(*command, "-f")

    assert shown.stdout.splitlines() == [f"[{namespace}/{name}] log of {name}" for name in ("files", "other")]
    assert sorted(followed.stdout.splitlines()) == shown.stdout.splitlines()
    assert shown.returncode == followed.returncode == 2
    assert f'DittoServer {namespace}/third has no log: pods "third-0" not found' in shown.stderr


def test_a_server_that_does_not_exist_has_no_log(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    result = run("logs", "none", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))

    assert result.returncode == 2
    assert f"no DittoServer none in namespace {namespace}; there are none" in result.stderr


@pytest.mark.anyio
async def test_a_line_may_come_in_pieces() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"a", b"b\n\nc", b"\n", b"d"):
            yield chunk

    assert [line async for line in split_lines(chunks())] == [b"ab", b"", b"c", b"d"]
