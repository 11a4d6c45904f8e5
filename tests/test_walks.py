"""Random walks of edits: what `plan` says about a restart is what becomes of the pod template."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli.plan import Outcome, preview
from app.cluster.client import Request
from app.cluster.reader import DITTO_SERVERS, STATEFUL_SETS, Resource
from app.manifests import parse
from app.storage.pod import RESTARTED_AT
from app.storage.spec import API_VERSION, KIND
from app.storage.unstructured import Manifest, ObjectKey, is_terminating
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, resource_version, run_informers
from tests.harness.recorded_writes import Recording
from tests.harness.server_table import CERTIFICATE, IMAGE
from tests.harness.spec_edits import AT_THE_API_SERVER, SPEC_EDITS, FieldEdit
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

# A server settles after two reconciles, and one that gets more volumes after some more.
MAX_RECONCILES = 20
DSN = "postgres://u:p@db:5432/files"
S3_KEYS = {"accessKeyId": "a", "secretAccessKey": "b", "endpoint": "https://s3.example.com", "token": "t"}
NAMED_SECRETS: dict[str, dict[str, str]] = {
    "s3": {**S3_KEYS, "other": "https://other.example.com"},
    "other-s3": S3_KEYS,
    "jwt": {"key": "k" * 32, "other": "o" * 32},
    "admin": {"password": "first-password", "other": "other-password"},
    "ca": {"ca.crt": CERTIFICATE, "other": CERTIFICATE * 2},
    "dsn": {"url": DSN, "other": f"{DSN}2"},
}
START: Manifest = {"image": IMAGE, "storage": {"metadataSize": "10Gi", "storageClassName": ""}}

# The fields that an edit changes, and a value by which it asks for a restart; None leaves that as it is.
Step = tuple[list[FieldEdit], str | None]
STEPS = st.tuples(SPEC_EDITS, st.none() | st.none() | st.none() | st.sampled_from(["1", "2"]))


class Walker:
    """One server of its own in the namespace, edited as often as a test likes."""

    def __init__(self, site: ReconcilerNamespace, writes: Sequence[Request]) -> None:
        self.site = site
        self.writes = writes
        self.key: ObjectKey = site.namespace, f"walker-{secrets.token_hex(4)}"

    async def create(self) -> None:
        await self.site.cluster.create(DITTO_SERVERS, self.manifest(START, {}))
        await until_async(lambda: self.key in self.site.informers.servers)
        await self.settle()

    async def delete(self) -> None:
        await self.site.delete(DITTO_SERVERS, self.key[1])

    async def take(self, step: Step) -> None:
        """Previews an edit and applies it, unless it would be refused. Fails where the preview was wrong."""
        live, before = await self.live(DITTO_SERVERS), await self.live(STATEFUL_SETS)
        edits, restart = step
        spec, annotations = live["spec"], live["metadata"].get("annotations") or {}
        for edit in edits:
            spec = edit.apply(spec)
        if restart:
            annotations = {**annotations, RESTARTED_AT: restart}

        outcome = await self.preview(self.manifest(spec, annotations))
        if outcome.refused:
            return

        wanted = {**live, "metadata": {**live["metadata"], "annotations": annotations}, "spec": spec}
        written = await self.site.cluster.replace(DITTO_SERVERS, wanted)
        await until_async(lambda: self.site.informers.servers.version(self.key) >= int(resource_version(written)))
        await self.settle()

        after = await self.live(STATEFUL_SETS)
        runs = before["spec"]["replicas"] > 0 and after["spec"]["replicas"] > 0
        changes = list(differences(before["spec"]["template"], after["spec"]["template"]))
        assert outcome.restarts == (runs and bool(changes)), f"{step}: {outcome.effects} but {changes}"

    async def preview(self, manifest: Manifest) -> Outcome:
        documents = parse(yaml.safe_dump(manifest), "edit.yaml")
        [outcome] = (await preview(documents, self.site.cluster, self.key[0])).outcomes
        return outcome

    async def settle(self) -> None:
        """Reconciles until nothing is left to write: what the API server stores otherwise is not written for ever."""
        for _ in range(MAX_RECONCILES):
            number = len(self.writes)
            requeue_after = await self.site.reconcile(self.key)
            if self.is_being_recreated():
                await until_async(lambda: not self.is_being_recreated())
                continue
            is_there = self.key in self.site.informers.stateful_sets
            if is_there and len(self.writes) == number and requeue_after != 0:
                return
        raise AssertionError(f"it still writes {[request.path for request in self.writes[number:]]}")

    def is_being_recreated(self) -> bool:
        """Tells whether the StatefulSet is about to go, to be recreated with more volumes."""
        stateful_set = self.site.informers.stateful_sets.get(self.key)
        return stateful_set is not None and is_terminating(stateful_set)

    async def live(self, resource: Resource) -> Manifest:
        return await self.site.cluster.get(resource, self.key[1], self.key[0])

    def manifest(self, spec: Manifest, annotations: Manifest) -> Manifest:
        metadata = {"name": self.key[1], "namespace": self.key[0], "annotations": annotations}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def differences(before: Any, after: Any, path: str = "") -> Sequence[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted({*before, *after})
        return [line for name in names for line in differences(before.get(name), after.get(name), f"{path}.{name}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for position, pair in pairs for line in differences(*pair, f"{path}[{position}]")]
    return [] if before == after else [f"{path}: {json.dumps(before)} to {json.dumps(after)}"]


@pytest.fixture
async def new_walker(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[Callable[[], Walker]]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        recording = Recording(cluster)
        site = ReconcilerNamespace(recording, informers, namespace)
        for name, values in NAMED_SECRETS.items():
            await site.put_secret(name, **values)
        yield lambda: Walker(site, recording.writes)


@settings(AT_THE_API_SERVER, max_examples=25)
@given(walk=st.lists(STEPS, min_size=6, max_size=12))
async def test_plan_announces_exactly_the_restarts(new_walker: Callable[[], Walker], walk: list[Step]) -> None:
    walker = new_walker()
    await walker.create()

    for step in walk:
        await walker.take(step)

    await walker.delete()


async def test_plan_announces_that_a_volume_restarts(new_walker: Callable[[], Walker]) -> None:
    walker = new_walker()
    await walker.create()

    await walker.take(([FieldEdit(("storage", "contentSize"), "50Gi")], None))

    templates = (await walker.live(STATEFUL_SETS))["spec"]["volumeClaimTemplates"]
    assert [template["metadata"]["name"] for template in templates] == ["metadata", "content", "cache"]
    await walker.delete()
