"""The chart's roles allow exactly what the operator calls: no call is refused, and no permission is unused."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.permissions import Permission
from app.storage.spec import GROUP
from app.storage.takeover import FINALIZER
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy
from tests.controlplane.proxy import Request as ProxyRequest
from tests.harness.nodes import crash_pod, node, run_pod_on, set_pod
from tests.harness.operator_namespace import ACCOUNT, OperatorNamespace, Request, permissions
from tests.harness.operator_process import Operator
from tests.harness.server_table import server, snapshot, storage
from tests.harness.volume_driver import VolumeDriver
from tests.harness.wait import until


def allows(permission: Permission, request: Request) -> bool:
    wanted = Permission(request.group, request.resource, request.verb, permission.name)
    return permission == wanted and permission.name in ("", request.name)


# No call uses these: the plugin OwnerReferencesPermissionEnforcement requires them, as a test below shows.
OF_THE_PLUGIN = {
    Permission(GROUP, "dittoservers/finalizers", "update"),
    Permission("", "configmaps", "delete"),
}


CONFIG_MAP: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sample"}}


def granted(manifests: list[Manifest]) -> set[Permission]:
    roles = [manifest for manifest in manifests if manifest["kind"] in ("Role", "ClusterRole")]
    return {
        Permission(*parts)
        for role in roles
        for rule in role["rules"]
        for parts in product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]))
    }


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Runs a control plane with the plugin and without other DittoServers: the operator looks after all namespaces."""
    plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    with ControlPlane(programs(os.environ), tmp_path_factory.mktemp("rbac"), plugin) as running:
        running.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
        running.wait_until_established("dittoservers.dittofs.dittofs.com")

        running.kubectl("create", "namespace", "probe")
        kubectl_apply(running, "probe", *permissions("probe"))
        # The plugin learns of a new kind within half a minute, and refuses everything until then.
        until(lambda: try_apply(running, "probe", owned(CONFIG_MAP)).returncode == 0, pause=0.5)
        yield running


@pytest.mark.parametrize("confined", [False, True], ids=["whole cluster", "one namespace"])
def test_every_permission_is_used_and_no_call_is_refused(
    enforcing: ControlPlane, tmp_path: Path, *, confined: bool
) -> None:
    namespace = "confined" if confined else "everywhere"
    enforcing.kubectl("create", "namespace", namespace)
    shipped = granted(permissions(namespace, confined=confined, self_managed=True))
    # A confined operator learns only by asking that it may look at nothing that belongs to no namespace.
    attempts = {
        ("list", "storageclasses", ""),
        ("get", "nodes", f"node-{namespace}"),
        ("get", "priorityclasses", "none"),
    }
    expected = attempts if confined else set()

    with Proxy(enforcing, tmp_path) as proxy:
        operated = OperatorNamespace(enforcing, namespace, tmp_path, proxy=proxy, confined=confined, self_managed=True)
        if not confined:
            operated.operator = Operator(tmp_path, *operated.flags, self_managed=True)
        operated.register()
        # As before Kubernetes 1.32, objects are listed before they are watched.
        proxy.fault(lambda request: "sendInitialEvents" in request.query, answer=422)
        with operated:
            try:
                exercise_everything(operated, proxy)
            finally:
                # A refused call explains more than its consequences.
                assert refused(operated) <= expected

    # A watch appears in the audit log when it ends.
    watches = {permission for permission in shipped if permission.verb == "watch"}
    until(lambda: not unused(watches, operated.requests()))

    assert unused(shipped, operated.requests()) == OF_THE_PLUGIN
    assert refused(operated) == expected


def refused(operated: OperatorNamespace) -> set[tuple[str, str, str]]:
    requests = [request for request in operated.requests() if request.code == 403]
    return {(request.verb, request.resource, request.name) for request in requests}


def unused(permissions: set[Permission], requests: list[Request]) -> set[Permission]:
    return {permission for permission in permissions if not any(allows(permission, request) for request in requests)}


def exercise_everything(operated: OperatorNamespace, proxy: Proxy) -> None:
    """Makes the operator send every kind of request that it ever sends to the API server."""
    create(operated)
    grow(operated)
    lose_a_node(operated)
    end_with_an_error(operated)
    lose_labels(operated)
    change(operated)
    change_what_cannot_be_applied(operated, proxy)
    remove(operated)
    adopt(operated)
    release(operated)
    damage_the_certificate(operated)
    judge(operated)


def create(operated: OperatorNamespace) -> None:
    operated.put_secret("dsn", dsn="postgres://u:p@db:5432/files")
    database = {"postgresSecretRef": {"name": "dsn", "key": "dsn"}}
    operated.apply(server(metrics={"enabled": True}, database=database))

    until(lambda: operated.template("files") is not None)


def grow(operated: OperatorNamespace) -> None:
    with VolumeDriver(operated.control_plane, operated.namespace) as driver:
        sizes = storage(storageClassName=driver.storage_class)
        operated.apply(server("growing", **sizes))
        until(lambda: operated.get("pod", "growing-0") and reason(operated) == "Bound")

        operated.patch("dittoserver", "growing", spec={"storage": {"cacheSize": "10Gi"}})
        until(lambda: "StatefulSetRecreated" in operated.events("growing") and reason(operated) == "Bound")

    operated.kubectl("delete", "dittoserver", "growing")


def lose_a_node(operated: OperatorNamespace) -> None:
    with node(operated) as name:
        operated.apply(server("lost"))
        run_pod_on(operated, name, "lost-0")
        set_pod(operated, "lost-0", ready=False)
        until(lambda: any(request.resource == "nodes" for request in operated.requests()))

    operated.kubectl("delete", "dittoserver", "lost")


def end_with_an_error(operated: OperatorNamespace) -> None:
    """Lets a server end: the operator asks for its log, which no kubelet has here."""
    with node(operated) as name:
        operated.apply(server("failing"))
        run_pod_on(operated, name, "failing-0")
        crash_pod(operated, "failing-0")
        until(lambda: any(request.resource == "pods/log" for request in operated.requests()))

    operated.kubectl("delete", "dittoserver", "failing")


def lose_labels(operated: OperatorNamespace) -> None:
    """Lets a pod lose its labels: the operator asks for it by its name."""
    until(lambda: operated.get("pod", "files-0") is not None)
    operated.kubectl("label", "pod", "files-0", "app-")
    until(lambda: (operated.condition("files", "Ready") or {}).get("reason") == "PodLabelsMissing")

    operated.kubectl("delete", "pod", "files-0")
    until(lambda: (operated.condition("files", "Ready") or {}).get("reason") != "PodLabelsMissing")


def reason(operated: OperatorNamespace) -> str:
    return str((operated.condition("growing", "StorageReady") or {}).get("reason"))


def change(operated: OperatorNamespace) -> None:
    """Changes a Secret twice: the second Event only raises the count of the first."""
    for password in ("q", "r"):
        before = operated.template("files")
        operated.put_secret("dsn", dsn=f"postgres://u:{password}@db:5432/files")
        until(lambda before=before: operated.template("files") != before)  # type: ignore[misc]

    until(lambda: restarts(operated) == [2])


def restarts(operated: OperatorNamespace) -> list[int]:
    return [event["count"] for event in operated.list_all("events") if event["reason"] == "Restarting"]


def change_what_cannot_be_applied(operated: OperatorNamespace, proxy: Proxy) -> None:
    faults = [
        proxy.fault(is_apply_of(kind), times=1, answer=422) for kind in ("configmaps", "services", "statefulsets")
    ]
    spec = {"image": "example.com/dittofs:2", "metrics": {"port": 9191}}
    operated.patch("dittoserver", "files", spec=spec)

    until(lambda: all(fault.taken for fault in faults))
    until(lambda: "example.com/dittofs:2" in json.dumps(operated.template("files")))


def is_apply_of(kind: str) -> Callable[[ProxyRequest], bool]:
    return lambda request: "force" in request.query and f"/{kind}/" in request.path


def remove(operated: OperatorNamespace) -> None:
    operated.patch("dittoserver", "files", spec={"metrics": {"enabled": False}, "database": None})

    until(lambda: not operated.get("service", "files-metrics"))
    until(lambda: not operated.get("secret", "files-postgres"))


def adopt(operated: OperatorNamespace) -> None:
    """Deletes a server without its objects, which the next server of this name adopts.

    A reconcile that began before would give an object back to the server, and the garbage collector would delete it.
    """
    operated.kubectl("annotate", "dittoserver", "files", f"{PAUSED_ANNOTATION}=true")
    until(lambda: (operated.condition("files", "Reconciling") or {}).get("reason") == "Paused")

    orphans = (("statefulset", "files"), ("configmap", "files-config"), ("service", "files-api"))
    operated.kubectl("delete", "dittoserver", "files", "--cascade=orphan")
    assert not any(owners(operated, *orphan) for orphan in orphans)

    operated.apply(server())

    until(lambda: all(owners(operated, *orphan) for orphan in orphans))


def release(operated: OperatorNamespace) -> None:
    """Lets the operator remove the finalizer of the Go operator."""
    operated.patch("dittoserver", "files", metadata={"finalizers": [FINALIZER]})

    until(lambda: not operated.get("dittoserver", "files")["metadata"].get("finalizers"))


def owners(operated: OperatorNamespace, kind: str, name: str) -> Any:
    return operated.get(kind, name)["metadata"].get("ownerReferences")


def damage_the_certificate(operated: OperatorNamespace) -> None:
    operated.patch("secret", f"{operated.namespace}-tls", data={"tls.key": None})
    until(lambda: "tls.key" in operated.get("secret", f"{operated.namespace}-tls")["data"])


def judge(operated: OperatorNamespace) -> None:
    """Sends reviews that need what the informers lack: a class, a Secret, a claim, a dry run, what a pod names."""
    secret = operated.get("secret", f"{operated.namespace}-tls")
    (operated.operator.folder / "ca.crt").write_bytes(base64.b64decode(secret["data"]["ca.crt"]))

    at = {"metadata": {"name": "other", "namespace": operated.namespace}}
    credentials = {"credentialsSecretRef": {"secretName": "none-such"}}
    small, large = (server(s3=credentials, **storage(metadataSize=size)) | at for size in ("10Gi", "20Gi"))
    unknown_class = server(**storage(storageClassName="none-such")) | at
    dry_run = server(resources={"limits": {"memory": "1Gi"}}) | at
    pod = {"spec": {"priorityClassName": "none", "serviceAccountName": "none"}}
    naming = server(podTemplate=pod, **storage(cache=snapshot("none"))) | at

    reviews = (review(unknown_class), review(small), review(large, small), review(naming), review(dry_run))
    for question in reviews:
        response = operated.operator.post(VALIDATE_PATH, question)

    assert response["allowed"]
    assert not [text for text in response.get("warnings", []) if "resources" in text]


# What the plugin requires.


@pytest.mark.parametrize("permission", sorted(OF_THE_PLUGIN))
def test_the_plugin_requires_each_unused_permission(enforcing: ControlPlane, permission: Permission) -> None:
    namespace = f"without-{permission.resource.replace('/', '-')}"
    enforcing.kubectl("create", "namespace", namespace)
    complete = permissions(namespace)
    kubectl_apply(enforcing, namespace, *map(partial(without, permission), complete))
    if permission.verb == "delete":
        kubectl_apply(enforcing, namespace, CONFIG_MAP)

    refused = try_apply(enforcing, namespace, owned(CONFIG_MAP))

    assert "cannot set" in refused.stderr

    kubectl_apply(enforcing, namespace, *complete)
    until(lambda: try_apply(enforcing, namespace, owned(CONFIG_MAP)).returncode == 0)


def without(permission: Permission, manifest: Manifest) -> Manifest:
    rules = [
        {**rule, "resources": [resource], "verbs": [verb]}
        for rule in manifest.get("rules", [])
        for resource, verb in product(rule["resources"], rule["verbs"])
        if (resource, verb) != (permission.resource, permission.verb)
    ]
    return {**manifest, "rules": rules} if rules else manifest


def owned(manifest: Manifest) -> Manifest:
    """Adds an owner reference to a DittoServer that does not exist."""
    owner = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "DittoServer", "name": "files", "uid": "0", "controller": True}
    references = [{**owner, "blockOwnerDeletion": True}]
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": references}}


def try_apply(control_plane: ControlPlane, namespace: str, manifest: Manifest) -> CompletedProcess[str]:
    """Applies the object as the operator does; a dry run, because the garbage collector would delete the object."""
    apply = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", "--namespace", namespace)
    account = f"--as=system:serviceaccount:{namespace}:{ACCOUNT}"
    return control_plane.kubectl(*apply, account, input=json.dumps(manifest), check=False)


def kubectl_apply(control_plane: ControlPlane, namespace: str, *manifests: Manifest) -> None:
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump_all(manifests))
