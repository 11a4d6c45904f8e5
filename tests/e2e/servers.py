"""DittoServers with an image that this cluster has, and what a user sees of them."""

import socket
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.e2e.images import DITTOFS
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

# The pod is stopped, started and probed; the machine may be a slow one.
POD_SECONDS = 90.0


def server(name: str = "files", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "metadata": {"name": name},
        "spec": {"image": DITTOFS, "storage": {"metadataSize": "1Gi"}, **spec},
    }


def is_ready(user: Namespace, name: str = "files") -> bool:
    found = user.condition(name, "Ready")
    return bool(found) and found["status"] == "True"


def ready(user: Namespace, name: str = "files") -> None:
    until(lambda: is_ready(user, name), seconds=POD_SECONDS)


def pod(user: Namespace, name: str = "files-0") -> str:
    """The uid of one that is not on its way out, or nothing."""
    found = user.get("pod", name)
    return "" if not found or "deletionTimestamp" in found["metadata"] else found["metadata"]["uid"]


def seen_inside(user: Namespace, name: str = "files") -> dict[str, Any]:
    """What the server says of its variables, its boots, and whose its users are, when asked through its API Service."""
    path = f"/api/v1/namespaces/{user.namespace}/services/{name}-api:api/proxy/standin"
    seen: dict[str, Any] = yaml.safe_load(user.kubectl("get", "--raw", path))
    return seen


def applied(user: Namespace, *manifests: Any) -> CompletedProcess[str]:
    """With what kubectl showed the user, whether or not it went well."""
    return user.control_plane.kubectl(
        "--namespace", user.namespace, "apply", "-f", "-", input=yaml.safe_dump_all(manifests), check=False
    )


def greeting(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=10) as connection:
        return connection.makefile().readline().strip()
