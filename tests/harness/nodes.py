"""A node without a kubelet, and a server's pod on it: the test decides what both report."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.wait import until

SINCE = "2026-11-01T12:00:00Z"


@contextmanager
def node(operated: OperatorNamespace) -> Iterator[str]:
    """Creates a ready node for as long as the `with` lasts."""
    name = f"node-{operated.namespace}"
    operated.control_plane.create("/api/v1/nodes", {"metadata": {"name": name}})
    set_node(operated, name, "True")
    try:
        yield name
    finally:
        operated.control_plane.delete(f"/api/v1/nodes/{name}")


def set_node(operated: OperatorNamespace, name: str, status: str) -> None:
    """Reports readiness as the kubelet does, or Unknown as the node controller does when a kubelet is silent."""
    condition = {"type": "Ready", "status": status, "lastHeartbeatTime": SINCE, "lastTransitionTime": SINCE}
    change = {"status": {"conditions": [{**condition, "reason": "NodeStatusUnknown", "message": "Kubelet stopped."}]}}
    operated.control_plane.patch(f"/api/v1/nodes/{name}/status", change)


def run_pod_on(operated: OperatorNamespace, name: str, pod: str = "files-0") -> None:
    """Binds the pod to the node as the scheduler does, and reports it ready."""
    until(lambda: bool(operated.get("pod", pod)))
    path = f"/api/v1/namespaces/{operated.namespace}/pods/{pod}/binding"
    operated.control_plane.create(path, {"metadata": {"name": pod}, "target": {"kind": "Node", "name": name}})
    set_pod(operated, pod, ready=True)


def set_pod(operated: OperatorNamespace, pod: str = "files-0", *, ready: bool) -> None:
    """Reports as the kubelet does, or as the node controller, which takes Ready away and leaves the rest."""
    container: dict[str, Any] = {
        "name": "dittofs",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": "i",
        "imageID": "i",
    }
    container["state"] = {"running": {"startedAt": SINCE}}
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": "ContainersReady", "status": "True"}]
    patch_status(operated, pod, {"phase": "Running", "conditions": conditions, "containerStatuses": [container]})


def crashed_container(restarts: int) -> dict[str, Any]:
    """Returns what the kubelet reports of a server that has ended with an error so many times."""
    return {
        "name": "dittofs",
        "ready": False,
        "restartCount": restarts,
        "image": "i",
        "imageID": "i",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "containerID": "c://1"}},
    }


def crash_pod(operated: Namespace, pod: str, restarts: int = 1) -> None:
    """Reports as the kubelet does that the server has ended with an error once more."""
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": [crashed_container(restarts)]}
    patch_status(operated, pod, status)


def patch_status(operated: Namespace, pod: str, status: dict[str, Any]) -> None:
    path = f"/api/v1/namespaces/{operated.namespace}/pods/{pod}/status"
    operated.control_plane.patch(path, {"status": status})
