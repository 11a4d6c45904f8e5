import json
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import Cluster
from app.cluster.errors import Forbidden, NotFound, Unavailable
from app.cluster.lookup import Overlay
from app.cluster.snapshot import Snapshot
from app.cluster.survey import Survey, survey
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
STRAY = {**CLAIM, "metadata": {"name": "other"}}
# What it may read is not what it may ask of nodes.
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
    """A server, a claim of its, another claim, and a pod on a node of the namespace's name, which may not exist."""
    made = "---\n".join(json.dumps(each) + "\n" for each in (server(), CLAIM, STRAY, pod(namespace)))
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=made)
    return control_plane


async def of(control_plane: ControlPlane, namespace: str, kubeconfig: Path | None = None) -> Survey:
    async with Cluster.connect(kubeconfig or control_plane.kubeconfig) as cluster:
        return await survey(cluster, namespace, cluster.stats)


async def test_what_belongs_to_servers_is_found(live: ControlPlane, namespace: str) -> None:
    found = await of(live, namespace)

    assert found.servers.keys() == {(namespace, "files")}
    assert (found.claims or {}).keys() == {(namespace, "cache-files-0")}
    assert found.pods.keys() == {(namespace, "files-0")}
    assert found.stateful_sets == {}


async def test_the_situation_of_a_server_is_that_of_its_namespace(live: ControlPlane, namespace: str) -> None:
    found = await of(live, namespace)
    live_state = found.live_state((namespace, "files"))

    assert live_state is not None
    assert live_state.claims.keys() == {"cache-files-0"}
    assert live_state.pod == found.pods[namespace, "files-0"]
    assert live_state.may_restart

    elsewhere = found.live_state(("elsewhere", "files"))

    assert elsewhere is not None
    assert (elsewhere.claims, elsewhere.pod) == ({}, None)


async def test_a_namespace_is_one_of_all(live: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(live.kubeconfig) as cluster:
        assert (namespace, "files") in (await survey(cluster)).servers
        assert (await survey(cluster, "default")).claims == {}


async def test_a_kubelet_says_how_full_a_volume_is(live: ControlPlane, namespace: str) -> None:
    claim = {"namespace": namespace, "name": "cache-files-0"}
    volume = {"name": "cache", "pvcRef": claim, "usedBytes": 2**30, "capacityBytes": 5 * 2**30}
    with kubelet(live, namespace, {"pods": [{"podRef": {}, "volume": [volume]}]}):
        found = await of(live, namespace)

    assert found.gaps == ()
    assert found.usages == {(namespace, "cache-files-0"): Usage(2**30, 5 * 2**30)}


async def test_a_node_that_is_gone_says_nothing_of_how_full_volumes_are(live: ControlPlane, namespace: str) -> None:
    found = await of(live, namespace)
    assert found.usages == {}
    assert found.gaps == (f'used space is unknown on 1 of 1 nodes: nodes "{namespace}" not found',)


async def test_what_may_not_be_read_is_a_gap_and_takes_nothing_else_away(live: ControlPlane, namespace: str) -> None:
    live.kubectl("apply", "--namespace", namespace, "-f", "-", input=ROLE.replace("NAMESPACE", namespace))
    found = await of(live, namespace, live.kubeconfig_for("reader", namespace))

    assert found.servers.keys() == {(namespace, "files")}
    assert found.claims is None
    assert found.live_state((namespace, "files")) is None

    claims, sets, classes, used = found.gaps

    assert claims.startswith("persistentvolumeclaims are unknown: forbidden: ")
    assert sets.startswith("statefulsets are unknown: forbidden: ")
    assert classes.startswith("storageclasses are unknown: forbidden: ")
    assert used.startswith("used space is unknown on 1 of 1 nodes: forbidden: ")
    assert found.classes.gap


async def test_without_the_servers_there_is_nothing_to_tell(live: ControlPlane, namespace: str) -> None:
    live.kubectl("create", "serviceaccount", "nobody", "--namespace", namespace)
    with pytest.raises(Forbidden):
        await of(live, namespace, live.kubeconfig_for("nobody", namespace))


async def test_of_files_alone_there_is_nothing_to_tell() -> None:
    with pytest.raises(Unavailable, match="dittoservers are unknown: neither a snapshot nor a cluster was given"):
        await survey(Overlay([]))


async def test_a_node_that_cannot_be_asked_for_by_its_name_is_not_asked(control_plane: ControlPlane) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        with pytest.raises(NotFound, match="cannot exist by that name"):
            await cluster.stats("..")


async def test_a_cluster_and_what_kubectl_saved_of_it_are_surveyed_alike(
    live: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    kinds = "dittoservers,statefulsets,pods,persistentvolumeclaims,storageclasses"
    (tmp_path / "saved.yaml").write_text(live.kubectl("get", kinds, "-A", "-o", "yaml", "--show-managed-fields").stdout)
    saved = await survey(Snapshot(tmp_path), namespace)
    async with Cluster.connect(live.kubeconfig) as cluster:
        found = await survey(cluster, namespace)

    assert saved.servers == found.servers
    assert saved.claims == found.claims
    assert found.claims
    assert saved.classes == found.classes
