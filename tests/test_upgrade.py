"""An upgrade of the operator restarts no pod: what it renders differently goes out with the next restart, all at once.

The pods are real as far as the StatefulSet's controller is concerned, and report to be ready as their kubelet would.
`pytest -s` shows writes and restarts of each step.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.cluster.reader import CONFIG_MAPS, DITTO_SERVERS, PODS, STATEFUL_SETS
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.objects import config_map
from app.storage.pod import CONFIG_FILE, RESTARTED_AT
from app.storage.reading import read
from app.storage.rendering import NEWEST, Rendering
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from app.storage.workload import rendering_of
from tests.controlplane.cluster import ControlPlane
from tests.harness.previous_version import write_objects
from tests.harness.reconciler_namespace import connect, owner_of, run_informers
from tests.harness.recorded_writes import Recording
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import NOON, SECONDS, ExpansionNamespace, identity, until_adopted
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

OLD = Rendering.SINGLE_FAMILY
S3_SECRET = {"accessKeyId": "AKID", "secretAccessKey": "secret"}


class Upgrade(ExpansionNamespace):
    """A server that the previous version left, and the operator of this version. `pods` are those it has had."""

    recording: Recording
    pods: list[str]

    async def start(self) -> None:
        """Lets the server run, as the previous version left it, with nothing reported by this one."""
        await self.put_secret("keys", **S3_SECRET)
        metadata = {"name": "files", "namespace": self.namespace}
        manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": self.spec()}
        await self.cluster.create(DITTO_SERVERS, manifest)
        await until_async(lambda: self.key in self.informers.servers)
        await write_objects(self, OLD)
        await until_async(lambda: self.pod is not None, SECONDS)
        await self.report_ready()

        self.recording = Recording(self.cluster)
        self.writer = Writer(self.recording, self.informers, self.may_write)
        self.reconciler = Reconciler(self.recording, self.informers, self.writer, self.record_event, self.now)

    def spec(self, **sizes: str) -> Manifest:
        s3 = {"credentialsSecretRef": {"secretName": "keys"}}
        return {**super().spec(**sizes), "s3": s3, "resources": {"limits": {"memory": "1Gi"}}}

    async def change(self, **fields: Any) -> None:
        await self.edit(spec={**self.spec(), **fields})

    async def annotate(self, **annotations: str | None) -> None:
        await self.edit(metadata={"annotations": annotations})

    async def report_ready(self) -> None:
        pod = await self.live(PODS, "files-0")
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
        await self.cluster.patch_status(PODS, {"metadata": identity(pod), "status": status})
        self.pods.append(pod["metadata"]["uid"])

    async def finish(self) -> tuple[list[str], int]:
        """Reconciles until nothing is left to do; returns the writes but those of a status, and counts restarts."""
        self.recording.writes.clear()
        begun = len(self.pods)
        async with asyncio.timeout(SECONDS):
            while not await self.is_settled():
                if self.pod and self.pod["metadata"]["uid"] not in self.pods:
                    await self.report_ready()
                await asyncio.sleep(0.02)

        requests = [
            f"{request.method} {request.path.partition('/namespaces/')[2]}" for request in self.recording.writes
        ]
        writes = [request.partition("/")[2] for request in requests if not request.endswith("/status")]
        restarts = len(self.pods) - begun
        print(f"writes: {writes}, restarts: {restarts}, status: {len(requests) - len(writes)}")
        return writes, restarts

    async def is_settled(self) -> bool:
        result = await self.reconciler.reconcile(self.key)
        live = await self.live(DITTO_SERVERS)
        found = conditions(live)
        reasons = {kind: found[kind]["reason"] for kind in ("Ready", "Reconciling", "StorageReady")}
        expected = {"Ready": "Available", "Reconciling": "Reconciled", "StorageReady": "Bound"}
        is_current = live["status"]["observedGeneration"] == live["metadata"]["generation"]
        return not result.retry and result.requeue_after != 0 and is_current and reasons == expected

    async def renderings(self) -> set[Rendering]:
        """Returns the renderings that pod template and configuration have."""
        config = (await self.live(CONFIG_MAPS, "files-config"))["data"][CONFIG_FILE]
        of_config = NEWEST if "default_remote_cache_size" in config else OLD
        return {rendering_of(await self.template()), of_config}

    async def pending(self) -> str | None:
        pending: str | None = (await self.live(DITTO_SERVERS))["status"].get("pendingRollout")
        return pending

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if event.reason in ("RolloutPending", "Restarting")]


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver) -> AsyncIterator[Upgrade]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        upgrade = Upgrade(cluster, informers, namespace)
        upgrade.pods = []
        await upgrade.start()
        yield upgrade


async def test_the_new_version_writes_nothing_but_the_status(site: Upgrade) -> None:
    before = await site.live(STATEFUL_SETS)

    assert await site.finish() == ([], 0)
    assert await site.finish() == ([], 0)

    assert (await site.live(STATEFUL_SETS))["spec"] == before["spec"]
    assert await site.renderings() == {OLD}
    assert site.reasons() == ["RolloutPending"]
    assert "set annotation dittofs.io/restartedAt" in (await site.pending() or "")


Trigger = Callable[[Upgrade], Awaitable[None]]
TRIGGERS: dict[str, Trigger] = {
    "an edit": lambda site: site.change(image="dittofs:2"),
    "a field that is removed": lambda site: site.change(resources=None),
    "an opt-in": lambda site: site.change(securityContext={"readOnlyRootFilesystem": True}),
    "a rotation": lambda site: site.put_secret("keys", **S3_SECRET, session="new"),
    "a request": lambda site: site.annotate(**{RESTARTED_AT: "noon"}),
}


@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS.keys())
async def test_everything_pending_goes_out_in_one_restart(site: Upgrade, trigger: Trigger) -> None:
    await site.finish()
    await trigger(site)
    writes, restarts = await site.finish()

    assert restarts == 1
    assert set(writes) == {"configmaps/files-config", "statefulsets/files"}
    assert await site.renderings() == {NEWEST}
    assert await site.pending() is None
    assert await site.finish() == ([], 0)
    assert site.reasons().count("RolloutPending") == 1


async def test_a_request_is_explained_and_its_removal_restarts_nothing(site: Upgrade) -> None:
    await site.annotate(**{RESTARTED_AT: "noon"})
    await site.finish()
    [restart] = [event for event in site.events if event.reason == "Restarting"]

    assert 'dittofs.io/restartedAt is "noon"' in restart.message
    assert Rendering.BOTH_FAMILIES.changes in restart.message

    await site.annotate()

    assert await site.finish() == ([], 0)

    await site.annotate(**{RESTARTED_AT: "one"})

    assert await site.finish() == (["statefulsets/files"], 1)


@pytest.mark.parametrize("fields", [{"nfsPort": 3049}, {"service": {"type": "NodePort"}}])
async def test_an_edit_without_a_restart_leaves_it_pending(site: Upgrade, fields: Manifest) -> None:
    await site.finish()
    await site.change(**fields)
    writes, restarts = await site.finish()

    assert restarts == 0
    assert all(write.startswith("services/") for write in writes)
    assert await site.renderings() == {OLD}
    assert await site.pending()


async def test_an_expansion_leaves_it_pending(site: Upgrade) -> None:
    await site.finish()
    await site.change_sizes(cacheSize="2Gi")
    _, restarts = await site.finish()
    await until_adopted(site)

    assert restarts == 0
    assert (await site.template_sizes())["cache"] == "2Gi"
    assert await site.renderings() == {OLD}
    assert site.reasons() == ["RolloutPending"]
    assert await site.finish() == ([], 0)


async def test_an_added_volume_restarts_once(site: Upgrade) -> None:
    await site.finish()
    await site.change_sizes(contentSize="1Gi")
    _, restarts = await site.finish()

    assert restarts == 1
    assert await site.renderings() == {NEWEST}
    assert await site.finish() == ([], 0)


async def test_a_pod_that_lost_its_statefulset_is_adopted_as_it_is(site: Upgrade) -> None:
    await site.finish()
    before = await site.template()
    await site.delete(STATEFUL_SETS, orphan=True)
    await until_async(lambda: site.stateful_set is None)

    async with run_informers(site.cluster, site.namespace) as informers:
        restarted = ExpansionNamespace(site.cluster, informers, site.namespace)
        await restarted.settle()
        await until_adopted(restarted)

    assert await site.template() == before
    assert await site.finish() == ([], 0)
    assert await site.renderings() == {OLD}


async def write_newest_configuration(site: Upgrade) -> None:
    """Does what an operator does that is interrupted before it has written the StatefulSet."""
    manifest = await site.live(DITTO_SERVERS)
    owner = owner_of(manifest)
    await site.writer.ensure(CONFIG_MAPS, config_map(owner, read(manifest).server.spec), owner)


@pytest.mark.parametrize("restarts", [0, 1])
async def test_a_rollout_that_was_interrupted_converges(site: Upgrade, restarts: int) -> None:
    await site.finish()
    if restarts:
        await site.change(image="dittofs:2")
    await write_newest_configuration(site)

    _, counted = await site.finish()

    assert counted == restarts
    # What asked for the restart may have been taken back meanwhile.
    assert await site.renderings() == {NEWEST if restarts else OLD}


async def test_a_server_that_was_stopped_starts_with_the_newest(site: Upgrade) -> None:
    await site.change(replicas=0)
    async with asyncio.timeout(SECONDS):
        while site.pod is not None:
            await site.reconciler.reconcile(site.key)
            await asyncio.sleep(0.02)

    assert await site.renderings() == {NEWEST}

    await site.change()
    writes, restarts = await site.finish()

    assert (writes, restarts) == (["statefulsets/files"], 1)
    assert await site.pending() is None
