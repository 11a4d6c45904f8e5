"""Volumes that grow at the real API server, by a driver that the test plays, reconciled by hand."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.cluster.client import Cluster, Request
from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.desired import REFUSED_RECHECK_SECONDS
from app.storage.resize import ALLOW_DATA_LOSS
from app.storage.rollout import blocks
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from app.storage.volume_states import RESTART_FOR_RESIZE
from tests.controlplane.cluster import ControlPlane
from tests.harness.editing import edit
from tests.harness.guides import recovery_commands
from tests.harness.reconciler_namespace import Retry, resource_version
from tests.harness.server_table import claim
from tests.harness.volume_driver import Expansion, VolumeDriver
from tests.harness.volume_expansion import (
    NOON,
    SECONDS,
    ExpansionNamespace,
    identity,
    open_expansion_namespace,
    template_sizes,
    until_adopted,
)
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
CLAIM = "cache-files-0"


site = pytest.fixture(open_expansion_namespace)


async def test_volumes_grow_while_the_pod_goes_on(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server(contentSize="1Gi")
    before = await site.live(STATEFUL_SETS)
    await site.change_sizes(metadataSize="2Gi", contentSize="3Gi", cacheSize="4Gi")
    await site.settle()

    assert await site.claim_sizes() == {"metadata-files-0": 2, "content-files-0": 3, "cache-files-0": 4}
    assert await site.template_sizes() == {"metadata": "2Gi", "content": "3Gi", "cache": "4Gi"}

    after = await site.live(STATEFUL_SETS)

    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["template"] == before["spec"]["template"]

    await until_adopted(site)

    assert await same_pod(site, pod)


async def same_pod(site: ExpansionNamespace, pod: Manifest) -> bool:
    found = await site.live(PODS, "files-0")
    label = "controller-revision-hash"
    same_revision = found["metadata"]["labels"][label] == pod["metadata"]["labels"][label]
    return bool(found["metadata"]["uid"] == pod["metadata"]["uid"] and same_revision)


async def test_the_server_is_ready_all_the_while(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    unready = await watched(site, lambda found: conditions(found)["Ready"]["status"] != "True")
    await site.change_sizes(cacheSize="2Gi")
    await site.settle()

    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "2Gi"}
    assert [conditions(each)["Ready"] for each in unready] == []


async def watched(site: ExpansionNamespace, marks: Callable[[Manifest], bool]) -> list[Manifest]:
    """The server's objects from now on that are marked, as they come."""
    found: list[Manifest] = []
    site.informers.servers.event_handlers.append(
        lambda _, manifest: found.append(manifest) if marks(manifest) else None
    )
    return found


async def test_what_others_have_in_the_statefulset_stays_theirs(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    others = {
        "metadata": {"name": "files", "namespace": site.namespace, "annotations": {"example.com/by": "another"}},
        "spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}, "minReadySeconds": 5},
    }
    await site.cluster.apply(STATEFUL_SETS, {"apiVersion": "apps/v1", "kind": "StatefulSet", **others}, "another")
    await site.change_sizes(cacheSize="2Gi")
    await site.settle()
    made = await site.live(STATEFUL_SETS)

    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "2Gi"}
    assert made["metadata"]["annotations"]["example.com/by"] == "another"
    assert made["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 1
    assert made["spec"]["minReadySeconds"] == 5

    owners = {entry["manager"] for entry in made["metadata"]["managedFields"] if "minReady" in str(entry)}

    assert owners == {"another"}
    assert await same_pod(site, pod)


async def test_growth_waits_for_no_secret(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    await site.delete_known(SECRETS, "files-jwt-secret")
    await site.change_sizes(cacheSize="2Gi")

    assert "files-jwt-secret is gone" in await site.reconcile_until("SecretNotFound", "CredentialsReady")

    await site.reconcile_until("Bound")
    await until_grown(site, cache="2Gi")

    assert await same_pod(site, pod)


async def until_grown(site: ExpansionNamespace, **templates: str) -> None:
    """While something else keeps the server from being settled."""
    async with asyncio.timeout(30):
        while not site.stateful_set or not templates.items() <= template_sizes(site.stateful_set).items():
            with suppress(ClusterError):
                await site.reconcile()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("live", "wanted", "grows"),
    [("1Gi", "1024Mi", False), ("2Gi", "2048Mi", False), ("1Gi", "1025Mi", True)],
)
async def test_sizes_are_amounts(site: ExpansionNamespace, live: str, wanted: str, *, grows: bool) -> None:
    await site.create_ready_server(cacheSize=live)
    before = await site.live(STATEFUL_SETS)
    await site.change_sizes(cacheSize=wanted)
    await site.settle()
    after = await site.live(STATEFUL_SETS)

    assert (after["metadata"]["uid"] != before["metadata"]["uid"]) is grows


async def test_a_claim_in_decimal_units_grows_to_what_is_asked_for(site: ExpansionNamespace) -> None:
    """As one that somebody made by hand: 6G are less than 6Gi."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": site.namespace, "labels": {"app": "dittofs-server"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "6G"}},
            "storageClassName": site.storage_class,
        },
    }
    await site.cluster.create(CLAIMS, claim)
    await site.create_ready_server(cacheSize="6Gi")

    assert (await site.live(CLAIMS, CLAIM))["status"]["capacity"]["storage"] == "6Gi"


async def test_a_size_that_shrinks_is_left_as_it_is_and_told_of(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server(cacheSize="2Gi")
    await site.change_sizes(cacheSize="1Gi")

    assert "asks for 2Gi, more than storage.cacheSize 1Gi" in await site.reconcile_until("ClaimLarger")

    await site.settle()

    assert (await site.live(CLAIMS, CLAIM))["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert ("Warning", "ClaimLarger") in {(each.type, each.reason) for each in site.events}
    assert await same_pod(site, pod)


async def test_two_growths_in_a_row_end_with_the_second(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    await site.change_sizes(cacheSize="2Gi")
    for _ in range(4):
        await site.reconcile()
    await site.change_sizes(cacheSize="3Gi")
    await site.settle()

    assert await site.claim_sizes() == {"metadata-files-0": 1, CLAIM: 3}
    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "3Gi"}
    assert await same_pod(site, pod)


async def test_a_growth_that_is_taken_back_at_once_is_no_growth(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    driver.expansion = Expansion(seconds=3600)
    pod = await site.create_ready_server()
    await site.change_sizes(cacheSize="8Gi")
    await site.reconcile_until("Resizing")
    await site.change_sizes()
    await site.settle()
    claim = await site.live(CLAIMS, CLAIM)

    assert claim["spec"]["resources"]["requests"]["storage"] == str(2**30 + 1)
    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "1Gi"}
    assert await same_pod(site, pod)


async def test_a_server_that_is_stopped_grows(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await site.edit(spec={**site.spec(), "replicas": 0})
    await site.settle()
    await until_async(lambda: site.pod is None, SECONDS)
    await site.edit(spec={**site.spec(cacheSize="2Gi"), "replicas": 0})
    await site.settle()

    assert await site.claim_sizes() == {"metadata-files-0": 1, CLAIM: 2}
    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "2Gi"}
    assert await site.condition("Ready") == ("True", "Stopped")


async def test_a_class_that_is_gone_keeps_a_volume_from_growing_and_nothing_else(
    site: ExpansionNamespace, driver: VolumeDriver
) -> None:
    pod = await site.create_ready_server()
    driver.remove_class()
    await until_async(lambda: site.informers.storage_classes.named(site.storage_class) is None)
    await site.edit(spec={**site.spec(cacheSize="2Gi"), "service": {"annotations": {"example.com/a": "b"}}})
    said = await site.reconcile_until("ResizeRefused", "Stalled")

    assert "does not exist" in said
    assert "it can stay at 1Gi" in said
    assert (await site.live(SERVICES, "files-file"))["metadata"]["annotations"]["example.com/a"] == "b"
    assert await site.condition("Ready") == ("True", "Available")

    driver.put_class(expandable=True)
    await until_async(lambda: site.informers.storage_classes.named(site.storage_class) is not None)
    await site.settle()

    assert await site.claim_sizes() == {"metadata-files-0": 1, CLAIM: 2}
    assert await same_pod(site, pod)


def expandable(site: ExpansionNamespace) -> bool:
    found = site.informers.storage_classes.named(site.storage_class)
    return found is not None and found.expandable


async def test_a_class_that_cannot_expand_is_named_with_what_can(
    site: ExpansionNamespace, driver: VolumeDriver
) -> None:
    await site.create_ready_server()
    driver.put_class(expandable=False)
    await until_async(lambda: not expandable(site))
    await site.change_sizes(cacheSize="2Gi")

    assert "cannot expand volumes; classes that can:" in await site.reconcile_until("ResizeRefused", "Stalled")
    assert await site.reconcile() == REFUSED_RECHECK_SECONDS


async def test_what_the_driver_refuses_is_told_in_its_words_and_can_be_lowered(
    site: ExpansionNamespace, driver: VolumeDriver
) -> None:
    driver.expansion = Expansion(most="4Gi")
    pod = await site.create_ready_server()
    await site.change_sizes(metadataSize="2Gi", cacheSize="8Gi")
    said = await site.reconcile_until("ResizeRefused", "Stalled")

    assert said == (
        "storage.cacheSize 8Gi is refused, volume claim cache-files-0 stays at 1Gi: no volume has more than 4Gi; "
        "ask for 1Gi or more, and less than 8Gi"
    )
    assert (await site.claim_sizes())["metadata-files-0"] == 2
    assert await site.condition("Ready") == ("True", "Available")

    await site.change_sizes(metadataSize="2Gi", cacheSize="4Gi")
    await site.settle()

    assert await site.condition("Stalled") == ("False", "Reconciled")
    assert await site.claim_sizes() == {"metadata-files-0": 2, CLAIM: 4}
    assert await site.template_sizes() == {"metadata": "2Gi", "cache": "4Gi"}
    assert await same_pod(site, pod)


async def test_what_the_driver_refuses_can_be_lowered_to_what_there_is(
    site: ExpansionNamespace, driver: VolumeDriver
) -> None:
    driver.expansion = Expansion(most="1Gi")
    pod = await site.create_ready_server()
    await site.change_sizes(cacheSize="8Gi")
    await site.reconcile_until("ResizeRefused", "Stalled")
    await site.change_sizes()
    await site.settle()

    assert await site.condition("StorageReady") == ("True", "Bound")
    assert await site.condition("Stalled") == ("False", "Reconciled")
    assert await same_pod(site, pod)


async def test_a_quota_is_told_of_and_the_rest_grows(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    quota = {"metadata": {"name": "disks", "namespace": site.namespace}, "spec": {"hard": {"requests.storage": "4Gi"}}}
    await site.cluster.create(QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await until_enforced(site)
    await site.change_sizes(metadataSize="2Gi", cacheSize="8Gi")
    said = await site.reconcile_until("ResizeRefused", "Stalled")

    assert "exceeded quota: disks" in said
    assert "ask for 1Gi or more, and less than 8Gi" in said

    await until_async(lambda: capacity(site, "metadata-files-0") == "2Gi")
    await until_grown(site, metadata="2Gi")
    await site.reconcile_until("ResizeRefused", "Stalled")

    assert await site.template_sizes() == {"metadata": "2Gi", "cache": "1Gi"}
    with pytest.raises(Retry, match="exceeded quota"):
        await site.reconcile()

    await site.change_sizes(metadataSize="2Gi", cacheSize="2Gi")
    await site.settle()

    assert await site.claim_sizes() == {"metadata-files-0": 2, CLAIM: 2}
    assert await same_pod(site, pod)


async def until_enforced(site: ExpansionNamespace) -> None:
    """A quota holds once somebody has counted what there is."""
    async with asyncio.timeout(30):
        while True:
            if (await site.live(QUOTAS, "disks")).get("status", {}).get("used"):
                return
            await asyncio.sleep(0.02)


async def test_a_claim_that_others_let_grow_is_the_floor_and_nobody_fights(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    claim = await site.live(CLAIMS, CLAIM)
    operations = [{"op": "replace", "path": "/spec/resources/requests/storage", "value": "3Gi"}]
    path = f"/api/v1/namespaces/{site.namespace}/persistentvolumeclaims/{CLAIM}"
    request = Request("PATCH", path, [("fieldManager", "another")], operations, "application/json-patch+json")
    await site.cluster._request(request, "PersistentVolumeClaim")

    assert "asks for 3Gi, more than storage.cacheSize 1Gi" in await site.reconcile_until("ClaimLarger")

    await until_async(lambda: capacity(site) == "3Gi")
    await site.settle()
    claim_version = resource_version(await site.live(CLAIMS, CLAIM))
    stateful_set_version = resource_version(await site.live(STATEFUL_SETS))

    assert await site.reconcile() is None
    assert resource_version(await site.live(CLAIMS, CLAIM)) == claim_version
    assert resource_version(await site.live(STATEFUL_SETS)) == stateful_set_version
    assert claim["metadata"]["uid"] == (await site.live(CLAIMS, CLAIM))["metadata"]["uid"]

    await site.change_sizes(cacheSize="3Gi")
    await site.settle()

    assert await site.condition("StorageReady") == ("True", "Bound")
    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "3Gi"}
    assert await same_pod(site, pod)


def capacity(site: ExpansionNamespace, claim: str = CLAIM) -> str | None:
    found = site.informers.claim((site.namespace, claim))
    return found.capacity if found else None


async def test_claims_of_an_earlier_life_are_the_floor_or_grow(site: ExpansionNamespace) -> None:
    await site.create_ready_server(metadataSize="3Gi")
    await site.delete(DITTO_SERVERS)
    await until_async(lambda: site.stateful_set is site.pod is None and site.key not in site.informers.servers, SECONDS)
    await site.create_ready_server(metadataSize="2Gi", cacheSize="2Gi", until="ClaimLarger")

    assert await site.claim_sizes() == {"metadata-files-0": 3, CLAIM: 2}


async def claimed(site: ExpansionNamespace, name: str, storage_class: str) -> Manifest:
    """A claim that was there before the server, by a second at least: that is how exactly creation is told."""
    manifest: Manifest = claim(name, "1Gi", storage_class, namespace=site.namespace)
    made = await site.cluster.create(CLAIMS, manifest)
    created = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
    await until_async(lambda: datetime.now(UTC) >= created + timedelta(seconds=1))
    await until_async(lambda: (site.namespace, name) in site.informers.claims)
    return made


async def is_bound(site: ExpansionNamespace, name: str) -> None:
    await until_async(lambda: getattr(site.informers.claim((site.namespace, name)), "phase", "") == "Bound", SECONDS)


async def test_a_claim_of_another_class_is_reported_and_kept(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    left = await claimed(site, "metadata-files-0", "elsewhere")
    driver.bind(left)
    await is_bound(site, "metadata-files-0")

    await site.create_ready_server(until="StorageClassDiffers")

    await site.settle()
    server = await site.live(DITTO_SERVERS)
    metadata, cache = server["status"]["volumes"]

    assert 'metadata-files-0 is of StorageClass "elsewhere", not "' in metadata["message"]
    assert (metadata["storageClass"], metadata["phase"]) == ("elsewhere", "Bound")
    assert "message" not in cache
    assert await site.condition("Ready") == ("True", "Available")
    assert [each.reason for each in site.events].count("StorageClassDiffers") == 1
    assert await site.reconcile() is None
    assert resource_version(await site.live(DITTO_SERVERS)) == resource_version(server)
    assert (await site.live(CLAIMS, "metadata-files-0"))["metadata"]["uid"] == left["metadata"]["uid"]


async def test_a_claim_never_bound_is_named_until_it_is_deleted(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    left = await claimed(site, "metadata-files-0", "")
    await site.create_sized_server()

    said = await site.reconcile_until("ClaimPending")

    assert said == (
        f"volume claim metadata-files-0, created {left['metadata']['creationTimestamp']} before this server, "
        f'is without a StorageClass, not "{driver.storage_class}", and was never bound: '
        "it waits for a volume that somebody creates by hand; "
        "delete the claim and pod files-0 to have both recreated, unless the claim is about to be bound"
    )

    first = (await site.live(DITTO_SERVERS))["status"]["volumes"][0]
    await until_async(lambda: capacity(site) == "1Gi", SECONDS)
    await site.reconcile_until("ClaimPending")

    assert (await site.live(DITTO_SERVERS))["status"]["volumes"][0] == first

    await site.delete(CLAIMS, "metadata-files-0")
    await until_async(lambda: site.pod is not None, SECONDS)
    await site.delete(PODS, "files-0")

    assert await site.reconcile_until("Bound") == "every claim is bound"


async def test_a_claim_about_to_be_bound_is_reused(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    """As after a restore from a snapshot, which makes the claim first."""
    left = await claimed(site, "metadata-files-0", "")
    await site.create_sized_server()
    await site.reconcile_until("ClaimPending")

    driver.bind(left)

    assert "metadata-files-0 is without a StorageClass" in await site.reconcile_until("StorageClassDiffers")


@pytest.fixture
def impatient(site: ExpansionNamespace) -> ExpansionNamespace:
    """A file system that does not grow while it is in use is not waited for."""
    site.reconciler = Reconciler(
        site.cluster, site.informers, site.writer, site.record_event, site.now, resize_patience=timedelta(seconds=1)
    )
    return site


async def test_an_offline_resize_restarts_the_pod_once(impatient: ExpansionNamespace, driver: VolumeDriver) -> None:
    site = impatient
    driver.expansion = Expansion(offline=True)
    pod = await site.create_ready_server()
    await site.change_sizes(cacheSize="2Gi")
    await site.reconcile_until("Bound")

    assert (await site.claim_sizes())[CLAIM] == 2
    assert [each.message for each in site.events if each.reason == "Restarting"] == [
        "the pod restarts: the file system of volume claim cache-files-0 cannot grow while it is in use"
    ]
    assert not await same_pod(site, pod)


async def test_an_offline_resize_has_its_time_before_the_pod_restarts(
    site: ExpansionNamespace, driver: VolumeDriver
) -> None:
    driver.expansion = Expansion(offline=True)
    pod = await site.create_ready_server()
    await site.change_sizes(cacheSize="2Gi")
    said = await site.reconcile_until("FileSystemResizePending")

    assert said.endswith("the pod is restarted if the kubelet cannot do that while it is in use")

    await until_grown(site, cache="2Gi")
    later = None
    while not later:  # What is known may be out of date the first time.
        await site.reconcile_until("FileSystemResizePending")
        later = site.requeue_after

    assert 60 < later <= 121
    assert await same_pod(site, pod)


async def test_an_offline_resize_restarts_nothing_where_that_is_forbidden(
    impatient: ExpansionNamespace, driver: VolumeDriver
) -> None:
    site = impatient
    driver.expansion = Expansion(offline=True)
    pod = await site.create_ready_server()
    await site.edit(metadata={"annotations": {RESTART_FOR_RESIZE: "never"}}, spec=site.spec(cacheSize="2Gi"))

    assert RESTART_FOR_RESIZE in await site.reconcile_until("FileSystemResizePending")

    await until_grown(site, cache="2Gi")
    await site.reconcile()

    assert await same_pod(site, pod)


async def test_a_volume_that_is_added_restarts_the_pod_once(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server()
    await site.change_sizes(contentSize="1Gi")
    await until_restarted(site, pod)
    await site.make_pod_ready()
    renewed = await site.live(PODS, "files-0")

    assert {each["name"] for each in renewed["spec"]["volumes"]} >= {"metadata", "content", "cache"}
    assert {each["name"] for each in renewed["spec"]["containers"][0]["volumeMounts"]} >= {"content"}
    assert list(await site.template_sizes()) == ["metadata", "content", "cache"]
    assert await site.claim_sizes() == {"metadata-files-0": 1, "content-files-0": 1, CLAIM: 1}
    assert [each.message for each in site.events if each.reason == "Restarting"] == [
        "the pod restarts: volume content was added, and the volumes of a pod cannot change"
    ]


async def until_restarted(site: ExpansionNamespace, pod: Manifest) -> None:
    async with asyncio.timeout(30):
        while site.pod is None or site.pod["metadata"]["uid"] == pod["metadata"]["uid"]:
            await site.reconcile()
            await asyncio.sleep(0.02)


async def test_a_pod_whose_statefulset_was_removed_by_hand_gets_it_back_though_no_secret_can_be_read(
    site: ExpansionNamespace,
) -> None:
    pod = await site.create_ready_server()
    await site.delete(STATEFUL_SETS, orphan=True)
    await site.delete_known(SECRETS, "files-jwt-secret")
    await until_async(lambda: site.stateful_set is None, SECONDS)
    await site.reconcile()

    assert await site.exists(STATEFUL_SETS)
    assert not await site.exists(SECRETS, "files-jwt-secret")

    await until_adopted(site)

    assert await same_pod(site, pod)


FINALIZER = "example.com/in-use"


async def delete_claim(site: ExpansionNamespace, name: str = CLAIM) -> None:
    """Deletes it as kubectl does. The finalizer keeps it, as that of Kubernetes does while a pod on a node uses it."""
    await edit_finalizers(site, name, [FINALIZER])
    await site.delete(CLAIMS, name)
    await until_async(lambda: terminating(site, name))


async def edit_finalizers(site: ExpansionNamespace, name: str, finalizers: list[str]) -> None:
    def change(live: Manifest) -> Manifest:
        kept = [each for each in live["metadata"].get("finalizers") or [] if each != FINALIZER]
        return {**live, "metadata": {**live["metadata"], "finalizers": [*kept, *finalizers]}}

    await edit(site.cluster, CLAIMS, (site.namespace, name), change)


def terminating(site: ExpansionNamespace, name: str) -> bool:
    claim = site.informers.claim((site.namespace, name))
    return claim is not None and claim.terminating


async def rotate(site: ExpansionNamespace, **fields: Any) -> None:
    """Something for which the pod would restart."""
    live = await site.live(DITTO_SERVERS)
    await site.edit(spec={**live["spec"], "image": "example.com/dittofs:2", **fields})


async def allow_data_loss(site: ExpansionNamespace) -> None:
    await site.edit(metadata={"annotations": {ALLOW_DATA_LOSS: "true"}})


@pytest.mark.parametrize("claim", ["metadata-files-0", CLAIM])
async def test_no_restart_while_a_claim_is_deleted(site: ExpansionNamespace, claim: str) -> None:
    pod = await site.create_ready_server()
    template = await site.template()
    await delete_claim(site, claim)

    await rotate(site)
    held = await site.reconcile_until("RestartHeldBack", "Stalled")

    assert f"volume claim {claim} is being deleted" in held
    assert ALLOW_DATA_LOSS in held
    assert "persistentVolumeReclaimPolicy" in conditions(await site.live(DITTO_SERVERS))["StorageReady"]["message"]
    assert await site.condition("StorageReady") == ("False", "ClaimTerminating")
    assert await site.condition("Ready") == ("True", "Available")
    assert await site.template() == template
    assert await same_pod(site, pod)
    assert {("Warning", "RestartHeldBack"), ("Warning", "ClaimTerminating")} <= {
        (e.type, e.reason) for e in site.events
    }

    await allow_data_loss(site)
    await site.reconcile_until("Reconciled", "Stalled")

    assert await site.template() != template


async def test_a_deleted_claim_is_restored_from_its_volume(
    site: ExpansionNamespace, control_plane: ControlPlane
) -> None:
    """Runs the commands of the guide."""
    await site.create_ready_server()
    await delete_claim(site)
    volume = (await site.live(CLAIMS, CLAIM))["spec"]["volumeName"]
    commands = recovery_commands(server="files", claim=CLAIM, volume=volume)

    for command in commands:
        if command[0] == "wait":
            # The pod ends, and the finalizer of the claim goes with it.
            await site.reconcile_until("Stopped", "Ready")
            await edit_finalizers(site, CLAIM, [])
        await asyncio.to_thread(control_plane.kubectl, "--namespace", site.namespace, *command)

    await site.reconcile_until("Bound")

    assert (await site.live(CLAIMS, CLAIM))["spec"]["volumeName"] == volume


async def test_a_stop_waits_for_a_claim_that_is_deleted(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await delete_claim(site)

    await rotate(site, replicas=0)
    await site.reconcile_until("RestartHeldBack", "Stalled")

    assert (await site.live(STATEFUL_SETS))["spec"]["replicas"] == 1

    await allow_data_loss(site)
    await site.reconcile_until("Reconciled", "Stalled")

    assert (await site.live(STATEFUL_SETS))["spec"]["replicas"] == 0


async def test_a_resize_waits_for_a_claim_that_is_deleted(impatient: ExpansionNamespace, driver: VolumeDriver) -> None:
    site = impatient
    driver.expansion = Expansion(offline=True)
    pod = await site.create_ready_server()
    await delete_claim(site, "metadata-files-0")

    await site.change_sizes(cacheSize="2Gi")
    await site.reconcile_until("RestartHeldBack", "Stalled")

    assert await same_pod(site, pod)
    assert site.requeue_after is None

    await allow_data_loss(site)
    await edit_finalizers(site, "metadata-files-0", [])
    await until_restarted(site, pod)


async def test_a_stuck_pod_waits_for_a_claim_that_is_deleted(site: ExpansionNamespace) -> None:
    """The change is in the StatefulSet already, and the former pod in its way."""
    pod = await site.create_ready_server()
    await set_partition(site, 1)
    await rotate(site)
    await until_async(lambda: site.informers.servers.get(site.key) is not None)
    await site.reconcile()
    unready = {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": NOON}]}
    live = await site.live(PODS, "files-0")
    await site.cluster.patch_status(PODS, {"metadata": identity(live), "status": unready})

    await delete_claim(site)
    await set_partition(site, 0)
    await until_async(lambda: bool(site.pod and site.stateful_set and blocks(site.pod, site.stateful_set)))
    await site.reconcile_until("RestartHeldBack", "Stalled")

    assert await same_pod(site, pod)

    await allow_data_loss(site)
    await edit_finalizers(site, CLAIM, [])
    await until_restarted(site, pod)


async def set_partition(site: ExpansionNamespace, partition: int) -> None:
    """As somebody who wants to say when the pod is replaced."""
    spec = {"updateStrategy": {"rollingUpdate": {"partition": partition}}}
    metadata = {"name": "files", "namespace": site.namespace}
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}
    await site.cluster.apply(STATEFUL_SETS, manifest, "another")
    await until_async(lambda: _partition(site) == partition)


def _partition(site: ExpansionNamespace) -> int | None:
    strategy = (site.stateful_set or {"spec": {"updateStrategy": {}}})["spec"]["updateStrategy"]
    partition: int | None = strategy.get("rollingUpdate", {}).get("partition")
    return partition


async def test_no_restart_for_a_claim_removed_by_force(site: ExpansionNamespace) -> None:
    """Its finalizer was taken away: the pod still has the volume, and the next one would get an empty one."""
    pod = await site.create_ready_server()
    site.fixed_time = datetime.now(UTC) + timedelta(minutes=1)
    await site.delete(CLAIMS, CLAIM)
    with suppress(NotFound):
        await edit_finalizers(site, CLAIM, [])
    await until_async(lambda: site.informers.claim((site.namespace, CLAIM)) is None)

    assert "does not exist any more" in await site.reconcile_until("ClaimMissing")

    await rotate(site)

    assert "does not exist any more" in await site.reconcile_until("RestartHeldBack", "Stalled")
    assert await same_pod(site, pod)


async def test_a_claim_without_labels_grows(site: ExpansionNamespace) -> None:
    """As one that was restored from a snapshot or cloned."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": site.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": site.storage_class,
        },
    }
    await site.cluster.create(CLAIMS, claim)
    await site.create_ready_server()

    await site.change_sizes(cacheSize="2Gi")
    await site.settle()

    live = await site.live(CLAIMS, CLAIM)

    assert "app" not in (live["metadata"].get("labels") or {})
    assert live["status"]["capacity"]["storage"] == "2Gi"
    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "2Gi"}


async def test_an_unobserved_claim_keeps_its_template(site: ExpansionNamespace) -> None:
    """Of a server that was stopped before its claims were created."""
    metadata = {"name": "files", "namespace": site.namespace}
    spec = {**site.spec(), "replicas": 0}
    await site.cluster.create(
        DITTO_SERVERS, {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    )
    await until_async(lambda: site.key in site.informers.servers)
    await site.reconcile_until("Stopped", "Ready")

    await site.edit(spec={**site.spec(cacheSize="2Gi"), "replicas": 0})
    await site.reconcile_until("Stopped", "Ready")

    assert await site.template_sizes() == {"metadata": "1Gi", "cache": "1Gi"}

    await site.edit(spec=site.spec(cacheSize="2Gi"))
    await site.reconcile_until("Bound")

    assert (await site.claim_sizes())[CLAIM] == 2


async def others_set(site: ExpansionNamespace) -> None:
    """Another manager owns a field of the StatefulSet."""
    spec = {"minReadySeconds": 5}
    metadata = {"name": "files", "namespace": site.namespace}
    await site.cluster.apply(
        STATEFUL_SETS, {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}, "another"
    )
    await until_async(lambda: bool(site.stateful_set and site.stateful_set["spec"].get("minReadySeconds") == 5))


class Flaky(Cluster):
    """Requests for which `fails` holds are refused, once each time that it says so."""

    def __init__(self, cluster: Cluster, fails: Callable[[Request], bool]) -> None:
        super().__init__(cluster.connection)
        self._fails = fails

    async def _request(self, request: Request, *kinds: str) -> dict[str, Any]:
        if self._fails(request):
            raise Unavailable("the API server is busy")
        return await super()._request(request, *kinds)


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH"])
async def test_a_failure_costs_no_fields_of_others(site: ExpansionNamespace, method: str) -> None:
    """At the call that recreates the StatefulSet, or at those that give its fields back."""
    pod = await site.create_ready_server()
    await others_set(site)
    failures = {"left": 2}

    def fails(request: Request) -> bool:
        is_target = "/statefulsets" in request.path and request.method == method
        gone = site.stateful_set is None or site.stateful_set["metadata"]["uid"] != before
        if not (is_target and gone and failures["left"]):
            return False
        failures["left"] -= 1
        return True

    before = (await site.live(STATEFUL_SETS))["metadata"]["uid"]
    flaky = Flaky(site.cluster, fails)
    site.writer = Writer(flaky, site.informers, site.may_write)
    site.reconciler = Reconciler(flaky, site.informers, site.writer, site.record_event, site.now)
    await site.change_sizes(cacheSize="2Gi")
    await site.settle()
    await until_async(lambda: site.reconciler._resizer._removed == {})

    recreated = await site.live(STATEFUL_SETS)

    assert recreated["metadata"]["uid"] != before
    assert recreated["spec"]["minReadySeconds"] == 5

    owners = {entry["manager"] for entry in recreated["metadata"]["managedFields"] if "minReady" in str(entry)}

    assert owners == {"another"}
    assert failures["left"] < 2
    assert await same_pod(site, pod)


async def test_a_pod_without_its_statefulset_is_held_too(site: ExpansionNamespace) -> None:
    """What would be created is not what the pod was made of, and would replace it."""
    pod = await site.create_ready_server()
    await delete_claim(site)
    await site.delete(STATEFUL_SETS, orphan=True)
    await until_async(lambda: site.stateful_set is None)

    await rotate(site)
    await site.reconcile_until("RestartHeldBack", "Stalled")

    assert not await site.exists(STATEFUL_SETS)
    assert await same_pod(site, pod)

    await allow_data_loss(site)
    await site.reconcile_until("Reconciled", "Stalled")

    assert await site.exists(STATEFUL_SETS)


async def test_a_stopped_server_starts_without_a_false_alarm(site: ExpansionNamespace) -> None:
    metadata = {"name": "files", "namespace": site.namespace}
    spec = {**site.spec(), "replicas": 0}
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    await site.cluster.create(DITTO_SERVERS, manifest)
    await until_async(lambda: site.key in site.informers.servers)
    await site.reconcile_until("Stopped", "Ready")
    site.fixed_time = datetime.now(UTC) + timedelta(minutes=1)

    await site.edit(spec=site.spec())
    await site.reconcile()

    assert "ClaimMissing" not in {event.reason for event in site.events}
