"""Runs an S3 endpoint as a pod of the user; it checks signatures, and its keys change while it runs."""

from typing import Any

import httpx

from app.storage.unstructured import Manifest
from tests.e2e.images import S3
from tests.e2e.servers import POD_SECONDS
from tests.harness.dittofs_standin import BUCKET
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

PORT = 9000
REQUEST_SECONDS = 10.0
LABELS = {"run": "s3"}


class ObjectStore:
    """Runs in a user's namespace from `start` on; `url` is where pods and this machine reach it."""

    def __init__(self, user: Namespace) -> None:
        self._user = user

    def start(self, **keys: str) -> None:
        """Starts it with one bucket, and gives it these keys, secrets by ID."""
        self._user.apply(_pod(), _service())
        until(self._is_reached, seconds=POD_SECONDS, pause=0.5)
        self.put_keys(**keys)

    @property
    def url(self) -> str:
        address = self._user.get("service", "s3")["spec"]["clusterIP"]
        return f"http://{address}:{PORT}"

    def put_keys(self, **keys: str) -> None:
        """Makes these the only keys that are accepted."""
        answer = httpx.put(f"{self.url}/standin/keys", json=keys, trust_env=False, timeout=REQUEST_SECONDS)
        answer.raise_for_status()

    def writes(self) -> list[dict[str, Any]]:
        """Returns the PUTs of objects so far: key, key_id and status."""
        answer = httpx.get(f"{self.url}/standin/log", trust_env=False, timeout=REQUEST_SECONDS)
        return [entry for entry in answer.raise_for_status().json() if entry["method"] == "PUT"]

    def _is_reached(self) -> bool:
        try:
            return httpx.get(f"{self.url}/standin/keys", trust_env=False, timeout=REQUEST_SECONDS).is_success
        except httpx.TransportError:
            return False


def _pod() -> Manifest:
    container = {
        "name": "s3",
        "image": S3,
        "args": [f"--listen=:{PORT}", f"--buckets={BUCKET}"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s3", "labels": LABELS}, "spec": spec}


def _service() -> Manifest:
    spec = {"selector": LABELS, "ports": [{"name": "s3", "port": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}, "spec": spec}
