import json
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import Cluster
from app.cluster.errors import Forbidden, NotFound, Unavailable
from app.cluster.overlay import Overlay
from app.cluster.reader import PODS
from app.cluster.snapshot import Snapshot
from app.cluster.survey import Survey, list_events, list_servers, survey
from app.storage.usage import Usage
from tests.controlplane.cluster import ControlPlane
from tests.harness.kubelet import kubelet
from tests.harness.server_table import server

pytestmark = pytest.mark.anyio

LABELS = {"app": "dittofs-server", "instance": "files"}
CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "cache-files-0"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "files-api", "labels": LABELS},
    "spec": {"type": "NodePort", "selector": LABELS, "ports": [{"name": "api", "port": 8080}]},
}
STRAY = {**CLAIM, "metadata": {"name": "other"}}
# It may list servers and pods, but not ask nodes.
ROLE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [dittofs.dittofs.com], resources: [dittoservers], verbs: [list]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: NAMESPACE}]
"""


def pod(node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "dittofs", "image": "sample"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0", "labels": LABELS}, "spec": spec}


@pytest.fixture
def live(control_plane: ControlPlane, crd: None, namespace: str) -> ControlPlane:
    """Creates a server with its objects, and another claim. The pod's node is named like the namespace."""
    manifests = (server(), CLAIM, STRAY, SERVICE, pod(namespace))
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input="\n".join(map(json.dumps, manifests)))
    return control_plane


async def survey_with(control_plane: ControlPlane, namespace: str, kubeconfig: Path | None = None) -> Survey:
    async with Cluster.connect(kubeconfig or control_plane.kubeconfig) as cluster:
        return await survey(cluster, namespace, cluster.stats)


async def test_objects_of_servers_are_found(live: ControlPlane, namespace: str) -> None:
    result = await survey_with(live, namespace)

    assert result.servers.keys() == {(namespace, "files")}
    assert (result.claims or {}).keys() == {(namespace, "cache-files-0")}
    assert result.pods.keys() == {(namespace, "files-0")}
    assert result.stateful_sets == {}


async def test_the_live_state_is_of_one_namespace(live: ControlPlane, namespace: str) -> None:
    result = await survey_with(live, namespace)
    live_state = result.live_state((namespace, "files"))

    assert live_state is not None
    assert live_state.claims.keys() == {"cache-files-0"}
    assert live_state.pod == result.pods[namespace, "files-0"]
    assert live_state.services["files-api"]["spec"]["type"] == "NodePort"
    assert live_state.may_restart

    elsewhere = result.live_state(("elsewhere", "files"))

    assert elsewhere is not None
    assert (elsewhere.claims, elsewhere.pod) == ({}, None)


async def test_a_namespace_is_one_of_all(live: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(live.kubeconfig) as cluster:
        assert (namespace, "files") in (await survey(cluster)).servers
        assert (await survey(cluster, "default")).claims == {}


async def test_a_kubelet_reports_used_space(live: ControlPlane, namespace: str) -> None:
    claim = {"namespace": namespace, "name": "cache-files-0"}
    volume = {"name": "cache", "pvcRef": claim, "usedBytes": 2**30, "capacityBytes": 5 * 2**30}
    with kubelet(live, namespace, {"pods": [{"podRef": {}, "volume": [volume]}]}):
        result = await survey_with(live, namespace)

    assert result.gaps == ()
    assert result.usages == {(namespace, "cache-files-0"): Usage(2**30, 5 * 2**30)}


async def test_a_missing_node_is_a_gap(live: ControlPlane, namespace: str) -> None:
    result = await survey_with(live, namespace)
    assert result.usages == {}
    assert result.gaps == (f'used space is unknown on 1 of 1 nodes: nodes "{namespace}" not found',)


async def test_a_forbidden_list_is_a_gap(live: ControlPlane, namespace: str) -> None:
    live.kubectl("apply", "--namespace", namespace, "-f", "-", input=ROLE.replace("NAMESPACE", namespace))
    result = await survey_with(live, namespace, live.kubeconfig_for("reader", namespace))

    assert result.servers.keys() == {(namespace, "files")}
    assert result.claims is None
    assert result.live_state((namespace, "files")) is None

    assert PODS not in result.unknown
    claims, sets, services, classes, used = result.gaps

    assert claims.startswith("persistentvolumeclaims are unknown: forbidden: ")
    assert sets.startswith("statefulsets are unknown: forbidden: ")
    assert services.startswith("services are unknown: forbidden: ")
    assert classes.startswith("storageclasses are unknown: forbidden: ")
    assert used.startswith("used space is unknown on 1 of 1 nodes: forbidden: ")
    assert result.classes.gap


async def test_servers_must_be_readable(live: ControlPlane, namespace: str) -> None:
    live.kubectl("create", "serviceaccount", "nobody", "--namespace", namespace)
    with pytest.raises(Forbidden):
        await survey_with(live, namespace, live.kubeconfig_for("nobody", namespace))


async def test_servers_must_be_known() -> None:
    with pytest.raises(Unavailable, match="dittoservers are unknown: neither a snapshot nor a cluster was given"):
        await survey(Overlay([]))


async def test_a_node_name_never_alters_the_path(control_plane: ControlPlane) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        with pytest.raises(NotFound, match="cannot exist by that name"):
            await cluster.stats("..")


async def test_a_cluster_and_its_snapshot_agree(live: ControlPlane, namespace: str, tmp_path: Path) -> None:
    kinds = "dittoservers,statefulsets,pods,persistentvolumeclaims,storageclasses"
    (tmp_path / "saved.yaml").write_text(live.kubectl("get", kinds, "-A", "-o", "yaml", "--show-managed-fields").stdout)
    saved = await survey(Snapshot(tmp_path), namespace)
    async with Cluster.connect(live.kubeconfig) as cluster:
        result = await survey(cluster, namespace)

    assert saved.servers == result.servers
    assert saved.claims == result.claims
    assert result.claims
    assert saved.classes == result.classes


async def test_servers_are_selected_by_name_and_label(live: ControlPlane, namespace: str) -> None:
    labelled = {**server(), "metadata": {"name": "other", "labels": {"team": "media"}}}
    live.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(labelled))

    async with Cluster.connect(live.kubeconfig) as cluster:
        named = await survey(cluster, namespace, names=["files"])
        selected = await survey(cluster, namespace, labels="team=media")
        with pytest.raises(NotFound, match=f"no DittoServer none in namespace {namespace}; there are: files, other"):
            await survey(cluster, namespace, names=["files", "none"])
        with pytest.raises(NotFound, match="in any namespace"):
            await survey(cluster, names=["surely-none"])

    assert named.servers.keys() == {(namespace, "files")}
    assert selected.servers.keys() == {(namespace, "other")}


async def test_a_server_of_another_namespace_is_located(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    items = [{**server(), "metadata": {"name": "files", "namespace": namespace}} for namespace in ("media", "backup")]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    with pytest.raises(NotFound) as error:
        await list_servers(Snapshot(file), "other", ["files"])

    expected = (
        "no DittoServer files in namespace other; there is one in namespace backup, media: choose it with --namespace"
    )
    assert str(error.value) == expected


async def test_only_nodes_of_selected_servers_are_asked(live: ControlPlane, namespace: str) -> None:
    other = server("other")
    live.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(other))

    async with Cluster.connect(live.kubeconfig) as cluster:
        result = await survey(cluster, namespace, cluster.stats, names=["other"])

    assert result.gaps == ()


async def test_events_about_a_server_are_listed(live: ControlPlane, namespace: str) -> None:
    about = [("DittoServer", "files"), ("Pod", "files-0"), ("Service", "any"), ("Pod", "other-0"), ("ConfigMap", "any")]
    for index, (kind, name) in enumerate(about):
        involved = {"kind": kind, "name": name, "namespace": namespace}
        event = {"metadata": {"name": f"e{index}"}, "involvedObject": involved, "reason": "Test", "type": "Normal"}
        live.create(f"/api/v1/namespaces/{namespace}/events", event)

    async with Cluster.connect(live.kubeconfig) as cluster:
        listing = await list_events(cluster, (namespace, "files"))
    tested = {item["metadata"]["name"] for item in listing.items if item["reason"] == "Test"}

    assert listing.gap is None
    assert tested == {"e0", "e1", "e2"}


async def test_forbidden_events_are_a_gap(live: ControlPlane, namespace: str) -> None:
    live.kubectl("create", "serviceaccount", "nobody", "--namespace", namespace)
    async with Cluster.connect(live.kubeconfig_for("nobody", namespace)) as cluster:
        listing = await list_events(cluster, (namespace, "files"))

    assert listing.items == ()
    assert str(listing.gap).startswith("Events are unknown: forbidden: ")
