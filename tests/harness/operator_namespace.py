"""A namespace of the real API server in which the operator is at work, with the chart's permissions and no others."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from app.cluster.client import Selection
from app.cluster.reader import (
    CLAIMS,
    CONFIG_MAPS,
    DITTO_SERVERS,
    EVENTS,
    LEASES,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import webhook_configurations
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy
from tests.harness.operator_process import Operator
from tests.harness.wait import until
from tests.helm.chart import manifests

ACCOUNT = "operator"
INSTANCE = "app.kubernetes.io/instance"
FAST = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "fast"},
    "provisioner": "example.com/fast",
}
_KINDS = (CLAIMS, CONFIG_MAPS, DITTO_SERVERS, EVENTS, LEASES, PODS, SECRETS, SERVICES, STATEFUL_SETS)
# By the names that kubectl takes.
RESOURCES = {name: each for each in _KINDS for name in (each.kind.lower(), each.plural)} | {"pvc": CLAIMS}


@dataclass(frozen=True)
class Request:
    """One line of the API server's audit log."""

    verb: str
    group: str
    resource: str
    name: str
    namespace: str
    code: int

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete", "deletecollection")


class Namespace:
    """What a user asks of it. Looks go past kubectl, which takes longer to start than all that a test waits for."""

    def __init__(self, control_plane: ControlPlane, name: str) -> None:
        self.control_plane = control_plane
        self.namespace = name

    def kubectl(self, *args: str, **options: Any) -> str:
        return self.control_plane.kubectl("--namespace", self.namespace, *args, **options).stdout

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, manifests)))

    def patch(self, kind: str, name: str, **change: Any) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def get(self, kind: str, name: str) -> Any:
        """None when there is no such object."""
        return self.control_plane.get(f"{self._path(kind)}/{name}")

    def list_all(self, kind: str) -> list[Any]:
        resource, listed = RESOURCES[kind], self.control_plane.get(self._path(kind))
        about = {"apiVersion": resource.version, "kind": resource.kind}
        return [{**about, **item} for item in listed["items"]]

    def put_secret(self, name: str, **values: str) -> None:
        """Made, or changed to have exactly these keys."""
        # What stringData no longer has, kubectl apply would leave in data.
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})

    def condition(self, server: str, kind: str) -> Any:
        """None while the server has no such condition."""
        status = (self.get("dittoserver", server) or {}).get("status") or {}
        return next((each for each in status.get("conditions") or [] if each["type"] == kind), None)

    def template(self, server: str) -> Any:
        """The pod template, None while there is no StatefulSet."""
        found = self.get("statefulset", server)
        return found and found["spec"]["template"]

    def events(self, server: str) -> dict[str, str]:
        """Message by reason."""
        items = [each for each in self.list_all("events") if each["involvedObject"]["kind"] == "DittoServer"]
        return {each["reason"]: each["message"] for each in items if each["involvedObject"]["name"] == server}

    def wait_until_observed(self, *servers: str) -> None:
        """Waits until each has been looked at in its current generation."""
        until(lambda: all(self._is_observed(server) for server in servers))

    def _path(self, kind: str) -> str:
        return Selection(RESOURCES[kind], self.namespace).path

    def _is_observed(self, server: str) -> bool:
        found = self.get("dittoserver", server)
        informers = ((found or {}).get("status") or {}).get("observedGeneration")
        return bool(found) and informers == found["metadata"]["generation"]


class OperatorNamespace(Namespace):
    """Runs the operator inside a `with`; `flags` are further flags of `serve`. It may reach the API server through a
    `proxy`; kubectl never does. Where it is `confined`, it has no permission outside of the namespace. With
    `self_managed` it is given no certificate; Secret and webhook configurations are named after the namespace.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        namespace: str,
        folder: Path,
        *flags: str | Path,
        proxy: Proxy | None = None,
        confined: bool = False,
        self_managed: bool = False,
    ) -> None:
        super().__init__(control_plane, namespace)
        self.user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
        self.apply(*permissions(namespace, confined=confined, self_managed=self_managed), FAST)
        self.kubeconfig = (proxy or control_plane).kubeconfig_for(ACCOUNT, namespace)
        own = (f"--certificate-secret={namespace}-tls", f"--webhook-configuration={namespace}") if self_managed else ()
        self.flags = ("--kubeconfig", self.kubeconfig, *own, *flags)
        self.operator = Operator(folder, "--namespace", namespace, *self.flags, self_managed=self_managed)

    def __enter__(self) -> Self:
        self.operator.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.operator.stop()
        for kind in ("clusterrolebindings", "clusterroles"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}"
            self.control_plane.delete(f"{path}?labelSelector={INSTANCE}%3D{self.namespace}")

    def register(self) -> None:
        """For its namespace alone, and without a caBundle: that is to be the operator's own."""
        self.apply(*registration(self.operator.url, self.namespace))

    def requests(self) -> list[Request]:
        """Everything that the operator asked of the API server, in order."""
        found = []
        # The log tells of every test before this one, too.
        lines = self.control_plane.audit_log.read_text().splitlines()
        for entry in (json.loads(line) for line in lines if self.user in line):
            # Whoever shows no valid token has no name.
            if entry["user"].get("username") != self.user or entry["stage"] != "ResponseComplete":
                continue
            about = entry.get("objectRef") or {}
            resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource"))))
            code = (entry.get("responseStatus") or {}).get("code", 0)
            names = about.get("name", ""), about.get("namespace", "")
            found.append(Request(entry["verb"], about.get("apiGroup", ""), resource, *names, code))
        return found

    def writes(self) -> list[Request]:
        """But for the Lease."""
        return [each for each in self.requests() if each.writes and each.resource != "leases"]


def registration(url: str, namespace: str, **trust: str) -> list[Manifest]:
    """The webhook configurations of whoever answers at the URL, for a namespace alone and called as that is."""
    made = webhook_configurations(lambda path: {"url": url + path, **trust})
    for each in made:
        each["metadata"] = {"name": namespace}
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        each["webhooks"][0]["namespaceSelector"] = selector
    return made


def permissions(namespace: str, *, confined: bool = False, self_managed: bool = False) -> list[Manifest]:
    """The ServiceAccount and what the chart binds to it, by the name of the namespace where it has no other."""
    named = (f"fullnameOverride={namespace}", f"serviceAccount.name={ACCOUNT}", "rbac.aggregate=false")
    given = () if self_managed else ("certificates.provider=secret", "certificates.secretName=files")
    where = (f"namespaces={{{namespace}}}",) if confined else ()
    made = manifests(namespace, namespace, *named, *given, *where)
    return [each for each in made if "Role" in each["kind"] or each["kind"] == "ServiceAccount"]
