"""Plays cert-manager in a cluster that cannot install it: issues Certificates and injects their CA."""

import base64
import json
from datetime import UTC, datetime
from typing import Any, Self

from app.certificates.ca_bundles import RESOURCES
from certs.authority import Authority, Pair
from tests.controlplane.cluster import ControlPlane
from tests.e2e.installation import NAME, NAMESPACE
from tests.harness.background import Background
from tests.harness.definitions import definition

PAUSE_SECONDS = 0.5
INJECT = "cert-manager.io/inject-ca-from"


class CertManager(Background):
    """Works inside a `with`; issues everything from one authority, whatever the issuer."""

    def __init__(self, cluster: ControlPlane) -> None:
        super().__init__()
        self.authority = Authority.create("cert-manager", datetime.now(UTC))
        self._cluster = cluster

    def __enter__(self) -> Self:
        kinds = {"Certificate": "certificates", "Issuer": "issuers"}
        definitions = [definition("cert-manager.io", kind, plural) for kind, plural in kinds.items()]
        self._cluster.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, definitions)))
        names = [f"crd/{manifest['metadata']['name']}" for manifest in definitions]
        self._cluster.kubectl("wait", "--for=condition=Established", *names)
        return super().__enter__()

    def run(self) -> None:
        while not self.ending.wait(PAUSE_SECONDS):
            # kubectl asks again after a 429, as long as the API server does not serve a new definition yet.
            for certificate in json.loads(self._kubectl("get", "certificates", "-o", "json"))["items"]:
                if "status" not in certificate:
                    self._issue(certificate)
            for resource in RESOURCES:
                self._inject(f"/apis/{resource.version}/{resource.plural}/{NAME}", resource.plural)

    def _issue(self, certificate: Any) -> None:
        spec = certificate["spec"]
        pair = Pair(self.authority.pem, self.authority.key_pem)
        if not spec.get("isCA"):
            pair = self.authority.issue_pair(spec["dnsNames"], datetime.now(UTC))

        data = {"ca.crt": self.authority.pem, "tls.crt": pair.certificate, "tls.key": pair.key}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": spec["secretName"]},
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        self._kubectl("apply", "-f", "-", input=json.dumps(secret))

        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        change = ("--subresource=status", "--type=merge", "-p", json.dumps(ready))
        self._kubectl("patch", "certificate", certificate["metadata"]["name"], *change)

    def _inject(self, path: str, kind: str) -> None:
        live = self._cluster.get(path)
        # There is none until the operator is installed.
        if live is None or INJECT not in (live["metadata"].get("annotations") or {}):
            return

        bundle = base64.b64encode(self.authority.pem).decode()
        if live["webhooks"][0]["clientConfig"].get("caBundle") != bundle:
            change = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]
            self._kubectl("patch", kind, NAME, "--type=json", "-p", json.dumps(change))

    def _kubectl(self, *args: str, **options: Any) -> str:
        return self._cluster.kubectl("--namespace", NAMESPACE, *args, **options).stdout
