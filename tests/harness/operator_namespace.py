"""A namespace of the real API server in which the operator works with the permissions of the chart and no others."""

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
# helm renders the permissions once, for a namespace of this name.
_ANY = "any-namespace"
_KINDS = (CLAIMS, CONFIG_MAPS, DITTO_SERVERS, EVENTS, LEASES, PODS, SECRETS, SERVICES, STATEFUL_SETS)
# By the names that kubectl accepts.
RESOURCES = {name: kind for kind in _KINDS for name in (kind.kind.lower(), kind.plural)} | {"pvc": CLAIMS}


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
    """Does in a namespace what a user does.

    Reads bypass kubectl, which takes longer to start than the tests take to wait for anything.
    """

    def __init__(self, control_plane: ControlPlane, name: str) -> None:
        self.control_plane = control_plane
        self.namespace = name

    def kubectl(self, *args: str, **options: Any) -> str:
        return self.control_plane.kubectl("--namespace", self.namespace, *args, **options).stdout

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, manifests)))

    def patch(self, kind: str, name: str, **change: Any) -> None:
        self.control_plane.patch(f"{self._path(kind)}/{name}", change)

    def get(self, kind: str, name: str) -> Any:
        """Returns the object, or None when it does not exist."""
        return self.control_plane.get(f"{self._path(kind)}/{name}")

    def list_all(self, kind: str) -> list[Any]:
        resource, listed = RESOURCES[kind], self.control_plane.get(self._path(kind))
        about = {"apiVersion": resource.version, "kind": resource.kind}
        return [{**about, **item} for item in listed["items"]]

    def put_secret(self, name: str, **values: str) -> None:
        """Creates the Secret, or changes it to have exactly these keys."""
        # With stringData, kubectl apply would leave keys in data that are no longer wanted.
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})

    def condition(self, server: str, kind: str) -> Any:
        """Returns the condition of this type, or None while the server has none."""
        status = (self.get("dittoserver", server) or {}).get("status") or {}
        return next((entry for entry in status.get("conditions") or [] if entry["type"] == kind), None)

    def template(self, server: str) -> Any:
        """Returns the pod template, or None while the StatefulSet does not exist."""
        stateful_set = self.get("statefulset", server)
        return stateful_set and stateful_set["spec"]["template"]

    def events(self, server: str) -> dict[str, str]:
        """Returns the messages of the server's Events by reason."""
        about_servers = [event for event in self.list_all("events") if event["involvedObject"]["kind"] == "DittoServer"]
        return {e["reason"]: e["message"] for e in about_servers if e["involvedObject"]["name"] == server}

    def wait_until_observed(self, *servers: str) -> None:
        """Waits until each server has been reconciled in its current generation."""
        until(lambda: all(self._is_observed(server) for server in servers))

    def _path(self, kind: str) -> str:
        return Selection(RESOURCES[kind], self.namespace).path

    def _is_observed(self, server: str) -> bool:
        live = self.get("dittoserver", server)
        generation = ((live or {}).get("status") or {}).get("observedGeneration")
        return bool(live) and generation == live["metadata"]["generation"]


class OperatorNamespace(Namespace):
    """Runs the operator inside a `with`; `flags` are further flags of `serve`.

    The operator may reach the API server through a `proxy`; kubectl never does. When `confined`, it has no permission
    outside of the namespace. When `self_managed`, it gets no certificate, and its Secret and webhook configurations are
    named after the namespace.
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
        self._begun = control_plane.audit_log.stat().st_size
        self.user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
        for manifest in permissions(namespace, confined=confined, self_managed=self_managed):
            control_plane.apply(_path_of(manifest), manifest)
        control_plane.apply("/apis/storage.k8s.io/v1/storageclasses/fast", FAST)
        self.kubeconfig = (proxy or control_plane).kubeconfig_for(ACCOUNT, namespace)
        names = (f"--certificate-secret={namespace}-tls", f"--webhook-configuration={namespace}")
        self.flags = ("--kubeconfig", self.kubeconfig, *(names if self_managed else ()), *flags)
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
        """Registers its webhooks for this namespace, without a caBundle: the operator has to add its own."""
        self.apply(*registration(self.operator.url, self.namespace))

    def requests(self) -> list[Request]:
        """Returns all requests of the operator to the API server, in order."""
        return requests_of(self.control_plane, self.user, self._begun)

    def writes(self) -> list[Request]:
        """Returns its writes, without those to the Lease."""
        return [request for request in self.requests() if request.writes and request.resource != "leases"]


def requests_of(control_plane: ControlPlane, user: str, since: int = 0) -> list[Request]:
    """Returns all requests of a user to the API server, in order, from this size of the audit log on."""
    requests = []
    # The log has the requests of everybody.
    lines = control_plane.audited(since)

    for entry in (json.loads(line) for line in lines if user.encode() in line):
        # A client without a valid token has no username.
        if entry["user"].get("username") != user or entry["stage"] != "ResponseComplete":
            continue

        about = entry.get("objectRef") or {}
        resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource"))))
        code = (entry.get("responseStatus") or {}).get("code", 0)
        names = about.get("name", ""), about.get("namespace", "")
        requests.append(Request(entry["verb"], about.get("apiGroup", ""), resource, *names, code))

    return requests


def registration(url: str, namespace: str, **trust: str) -> list[Manifest]:
    """Returns webhook configurations that call this URL, for one namespace and named after it."""
    configurations = webhook_configurations(lambda path: {"url": url + path, **trust})

    for configuration in configurations:
        configuration["metadata"] = {"name": namespace}
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        configuration["webhooks"][0]["namespaceSelector"] = selector

    return configurations


def permissions(namespace: str, *, confined: bool = False, self_managed: bool = False) -> list[Manifest]:
    """Renders the ServiceAccount and the roles that the chart binds to it, named after the namespace."""
    values = [f"fullnameOverride={_ANY}", f"serviceAccount.name={ACCOUNT}", "rbac.aggregate=false"]
    if not self_managed:
        values += ["certificates.provider=secret", "certificates.secretName=files"]
    if confined:
        values.append(f"namespaces={{{_ANY}}}")

    rendered = manifests(_ANY, _ANY, *values)
    chosen = [manifest for manifest in rendered if "Role" in manifest["kind"] or manifest["kind"] == "ServiceAccount"]
    objects: list[Manifest] = json.loads(json.dumps(chosen).replace(_ANY, namespace))
    return objects


def _path_of(manifest: Manifest) -> str:
    """Returns the path of an account, a role or a binding."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{namespace}/{manifest['kind'].lower()}s/{metadata['name']}"
