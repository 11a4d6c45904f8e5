"""The operator treats what users can write as mere data.

Nothing that they write into a ConfigMap or on a pod makes the operator write outside of the server's namespace, or
create a pod that the DittoServer does not ask for.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cluster.client import Cluster
from app.cluster.errors import NotFound
from app.cluster.reader import CONFIG_MAPS, PODS, STATEFUL_SETS, Resource
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.objects import stateful_set
from app.storage.pod import CONFIG_HASH, PodRevision
from app.storage.reading import read
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.editing import edit
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, owner_of, run_informers
from tests.harness.recorded_writes import Recording
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

SAVED_STATE = "dittofs.io/stateful-set"
ELSEWHERE = "kube-public"


class Target(ReconcilerNamespace):
    """A server in a namespace whose users tamper with everything that they may change."""

    def __init__(self, cluster: Cluster, *args: Any) -> None:
        super().__init__(cluster, *args)
        self.recording = Recording(cluster)
        self.writer = Writer(self.recording, self.informers, self.may_write)
        self.reconciler = Reconciler(self.recording, self.informers, self.writer, self.record_event, self.now)
        self.server: Manifest = {}
        self.original: Manifest = {}

    async def create_ready_server(self) -> None:
        self.server = await self.create_server()
        await self.reconcile()
        await until_async(lambda: self.pod is not None)
        self.original = await self.live(STATEFUL_SETS)

    async def annotate(self, resource: Resource, name: str, **annotations: str | None) -> None:
        def change(live: Manifest) -> Manifest:
            changed = {**(live["metadata"].get("annotations") or {}), **annotations}
            return {**live, "metadata": {**live["metadata"], "annotations": changed}}

        await edit(self.cluster, resource, (self.namespace, name), change)

    async def remove_stateful_set(self) -> None:
        """Deletes it as an operator does that is interrupted right afterwards."""
        await self.delete(STATEFUL_SETS, orphan=True)
        await until_async(lambda: self.stateful_set is None)

    async def settle(self) -> None:
        for _ in range(4):
            await self.reconciler.reconcile(self.key)

    def check_writes(self) -> None:
        """Fails on a write outside of the namespace, and on a pod template that the spec does not ask for."""
        spec = read(self.server).server.spec
        rendered = stateful_set(owner_of(self.server), spec, PodRevision(config_hash="hash"))["spec"]["template"]

        for request in self.recording.writes:
            assert request.path.startswith(f"/api/v1/namespaces/{self.namespace}/") or re.match(
                f"/apis/[^/]+/v1[^/]*/namespaces/{self.namespace}/", request.path
            ), request.path

            if "/statefulsets" in request.path and "template" in (request.body or {}).get("spec", {}):
                template = json.loads(json.dumps(request.body["spec"]["template"]))
                digest = template["metadata"].pop("annotations", {}).get(CONFIG_HASH, "0" * 64)
                assert re.fullmatch("[0-9a-f]{64}", digest)
                expected = {**rendered, "metadata": {"labels": rendered["metadata"]["labels"]}}
                assert template == expected


@pytest.fixture
async def target(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[Target]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        target = Target(cluster, informers, namespace)
        await target.create_ready_server()
        yield target


def hostile_stateful_set(target: Target, namespace: str, name: str, uid: str) -> Manifest:
    """Builds a saved StatefulSet as the operator used to write it, with a pod that takes over the node."""
    live = target.original
    container = {"name": "c", "image": "evil", "securityContext": {"privileged": True}}
    env = [{"secretRef": {"name": "tokens-of-another-tenant"}}]

    template = {
        "metadata": {"labels": live["spec"]["selector"]["matchLabels"]},
        "spec": {"hostPID": True, "containers": [{**container, "envFrom": env}]},
    }
    reference = {**owner_of(target.server).reference, "uid": uid}

    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": live["metadata"]["uid"],
        "resourceVersion": live["metadata"]["resourceVersion"],
        "managedFields": [],
        "ownerReferences": [reference],
    }
    return {"metadata": metadata, "spec": {**live["spec"], "template": template}}


@pytest.mark.parametrize("elsewhere", ["", ELSEWHERE])
async def test_a_saved_statefulset_is_never_created(target: Target, elsewhere: str) -> None:
    saved = hostile_stateful_set(target, elsewhere or target.namespace, "files", target.server["metadata"]["uid"])
    await target.annotate(CONFIG_MAPS, "files-config", **{SAVED_STATE: json.dumps(saved)})
    await target.remove_stateful_set()

    await target.settle()

    target.check_writes()

    assert (await target.live(STATEFUL_SETS))["spec"]["template"]["spec"]["containers"][0]["name"] == "dittofs"
    assert SAVED_STATE not in (await target.live(CONFIG_MAPS, "files-config"))["metadata"]["annotations"]
    assert [event.type for event in target.events if event.reason == "SavedStateIgnored"] == ["Warning"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=60)


@dataclass(frozen=True)
class Saved:
    """A hostile StatefulSet in an annotation: its namespace, name and owner, and the length at which it is cut off."""

    elsewhere: str
    name: str
    uid: str
    cut: int | None

    def text(self, target: Target) -> str:
        namespace, uid = self.elsewhere or target.namespace, self.uid or target.server["metadata"]["uid"]
        return json.dumps(hostile_stateful_set(target, namespace, self.name, uid))[: self.cut]


SAVED = st.builds(
    Saved,
    elsewhere=st.sampled_from(["", ELSEWHERE, "../../x"]),
    name=st.sampled_from(["files", "other", "", ".."]),
    uid=st.sampled_from(["", "00000000-0000-0000-0000-000000000000"]),
    cut=st.none() | st.integers(0, 800),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(note=SAVED | JSON.map(json.dumps) | TEXT, digest=TEXT | st.just("0" * 64) | SAVED, removed=st.booleans())
async def test_no_content_leads_to_foreign_writes(
    target: Target, note: str | Saved, digest: str | Saved, *, removed: bool
) -> None:
    """The saved state may be from a backup, of another version, truncated or made up."""
    await until_async(lambda: target.stateful_set is not None)
    note, digest = (value.text(target) if isinstance(value, Saved) else value for value in (note, digest))

    await target.annotate(CONFIG_MAPS, "files-config", **{SAVED_STATE: note})
    with suppress(NotFound):  # The pod may be gone for a moment.
        await target.annotate(PODS, "files-0", **{CONFIG_HASH: digest})
    if removed:
        await target.remove_stateful_set()

    await target.settle()

    target.check_writes()
    target.recording.writes.clear()
