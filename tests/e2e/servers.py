"""Builds DittoServers with an image that this cluster has, and looks at them as a user does."""

import base64
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.e2e.images import DITTOFS
from tests.harness.dittofs_standin import greeting
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

# A pod is stopped, started and probed, possibly on a slow machine.
POD_SECONDS = 90.0


def server(name: str = "files", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "metadata": {"name": name},
        "spec": {"image": DITTOFS, "storage": {"metadataSize": "1Gi"}, **spec},
    }


def is_ready(user: Namespace, name: str = "files") -> bool:
    condition = user.condition(name, "Ready")
    return bool(condition) and condition["status"] == "True"


def wait_until_ready(user: Namespace, name: str = "files") -> None:
    until(lambda: is_ready(user, name), seconds=POD_SECONDS)


def pod_uid(user: Namespace, name: str = "files-0") -> str:
    """Returns the uid of the pod, or an empty text while none exists that is not being deleted."""
    live = user.get("pod", name)
    return "" if not live or "deletionTimestamp" in live["metadata"] else live["metadata"]["uid"]


def admin_password(user: Namespace, name: str = "files") -> str:
    """Returns the password that the operator has generated."""
    data = user.get("secret", f"{name}-admin-bootstrap-credentials")["data"]
    return base64.b64decode(data["password"]).decode()


def report_of(user: Namespace, name: str = "files") -> dict[str, Any]:
    """Returns what the server reports through its API Service: its variables, its boots and its users.

    It waits while the Service has no endpoint: the condition Ready may still be that of the pod before.
    """
    path = f"/api/v1/namespaces/{user.namespace}/services/{name}-api:api/proxy/standin"
    answer = ""

    def is_answered() -> bool:
        nonlocal answer
        answer = user.kubectl("get", "--raw", path, check=False)
        return bool(answer)

    until(is_answered, seconds=POD_SECONDS, pause=0.5)
    report: dict[str, Any] = yaml.safe_load(answer)
    return report


def kubectl_apply(user: Namespace, *manifests: Any) -> CompletedProcess[str]:
    """Applies the manifests and returns what kubectl shows the user, even when it fails."""
    return user.control_plane.kubectl(
        "--namespace", user.namespace, "apply", "-f", "-", input=yaml.safe_dump_all(manifests), check=False
    )


def read_greeting(address: str, port: int) -> str:
    return greeting(address, port)[0]
