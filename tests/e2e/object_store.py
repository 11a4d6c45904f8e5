"""Runs an S3 endpoint as a pod of the user; it checks signatures, and its keys change while it runs."""

from datetime import UTC, datetime
from typing import Any

import httpx

from app.storage.unstructured import Manifest
from certs.authority import Authority
from tests.e2e.images import S3
from tests.e2e.servers import POD_SECONDS
from tests.harness.dittofs_standin import BUCKET
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

PORT = 9000
# Whether a server trusts the endpoint is the question, not whether this machine does.
REQUEST: dict[str, Any] = {"trust_env": False, "timeout": 10.0, "verify": False}
LABELS = {"run": "s3"}
TLS_SECRET, TLS_FOLDER = "s3-tls", "/tls"


class ObjectStore:
    """Runs in a user's namespace from `start` on; `url` is where pods and this machine reach it.

    After `speak_tls` it serves https alone, with a certificate by the given CA. A server then reaches it only with that
    CA, as PEM, in the Secret of s3.caSecretRef: the stand-in for DittoFS makes real TLS connections, and its image has
    no CA of its own.
    """

    def __init__(self, user: Namespace) -> None:
        self._user = user
        self._authority: Authority | None = None

    def speak_tls(self, authority: Authority) -> None:
        """Has it start with a certificate by this CA, for the IP address and the name of its Service."""
        self._authority = authority

    def start(self, **keys: str) -> None:
        """Starts it with one bucket, and gives it these keys, secrets by ID."""
        self._user.apply(_service())
        if self._authority:
            hosts = [self._address, f"s3.{self._user.namespace}.svc"]
            pair = self._authority.issue_pair(hosts, datetime.now(UTC))
            files = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
            self._user.put_secret(TLS_SECRET, **files)

        self._user.apply(_pod(speaks_tls=self._authority is not None))
        until(self._is_reached, seconds=POD_SECONDS, pause=0.5)
        self.put_keys(**keys)

    @property
    def url(self) -> str:
        return f"{'https' if self._authority else 'http'}://{self._address}:{PORT}"

    def put_keys(self, **keys: str) -> None:
        """Makes these the only keys that are accepted."""
        httpx.put(f"{self.url}/standin/keys", json=keys, **REQUEST).raise_for_status()

    def writes(self) -> list[dict[str, Any]]:
        """Returns the PUTs of objects so far: key, key_id and status."""
        answer = httpx.get(f"{self.url}/standin/log", **REQUEST)
        return [entry for entry in answer.raise_for_status().json() if entry["method"] == "PUT"]

    @property
    def _address(self) -> str:
        return str(self._user.get("service", "s3")["spec"]["clusterIP"])

    def _is_reached(self) -> bool:
        try:
            return httpx.get(f"{self.url}/standin/keys", **REQUEST).is_success
        except httpx.TransportError:
            return False


def _pod(*, speaks_tls: bool) -> Manifest:
    files = [f"--tls-cert={TLS_FOLDER}/tls.crt", f"--tls-key={TLS_FOLDER}/tls.key"] if speaks_tls else []
    container: Manifest = {
        "name": "s3",
        "image": S3,
        "args": [f"--listen=:{PORT}", f"--buckets={BUCKET}", *files],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: Manifest = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
    }
    if speaks_tls:
        container["volumeMounts"] = [{"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True}]
        spec["volumes"] = [{"name": "tls", "secret": {"secretName": TLS_SECRET}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s3", "labels": LABELS}, "spec": spec}


def _service() -> Manifest:
    spec = {"selector": LABELS, "ports": [{"name": "s3", "port": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}, "spec": spec}
