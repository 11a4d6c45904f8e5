import json
from collections.abc import AsyncIterator

import pytest

from app.cli.logs import split_lines
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.kubelet import kubelet

NOW, BEFORE = "started\tfast\nserves \x1b[2J\x07NFS\nends", "panic: no disk\n"


def test_the_log_is_that_of_the_pod(control_plane: ControlPlane, namespace: str) -> None:
    spec = {"nodeName": namespace, "containers": [{"name": "sidecar", "image": "s"}, {"name": "dittofs", "image": "d"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0"}, "spec": spec}
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(pod))
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


def test_a_server_without_a_pod_has_no_log(control_plane: ControlPlane, namespace: str) -> None:
    result = run("logs", "files", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))

    assert result.returncode == 2
    assert 'pods "files-0" not found' in result.stderr


@pytest.mark.anyio
async def test_a_line_may_come_in_pieces() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"a", b"b\n\nc", b"\n", b"d"):
            yield chunk

    assert [line async for line in split_lines(chunks())] == [b"ab", b"", b"c", b"d"]
