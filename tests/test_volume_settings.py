"""The settings of single volumes at the real API server: classes, labels and annotations of claims, data sources."""

import asyncio
from typing import Any

import pytest

from app.cluster.reader import CLAIMS, PODS, SERVICES, STATEFUL_SETS, STORAGE_CLASSES
from app.storage.claim_metadata import RECORD
from app.storage.unstructured import Manifest, is_terminating
from tests.harness.reconciler_namespace import Retry, resource_version
from tests.harness.server_table import snapshot
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import (
    SECONDS,
    ExpansionNamespace,
    open_expansion_namespace,
    template_sizes,
    until_adopted,
)
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

METADATA, CONTENT, CACHE = "metadata-files-0", "content-files-0", "cache-files-0"
SELECTOR = {"app": "dittofs-server", "instance": "files"}

site = pytest.fixture(open_expansion_namespace)


async def labels_of(site: ExpansionNamespace, claim: str) -> dict[str, str]:
    """Returns the labels of a claim besides those that the StatefulSet's controller sets."""
    labels = (await site.live(CLAIMS, claim))["metadata"].get("labels") or {}
    return {key: value for key, value in labels.items() if SELECTOR.get(key) != value}


async def annotations_of(site: ExpansionNamespace, claim: str) -> dict[str, str]:
    """Returns the annotations of a claim besides those of volume controllers and the record."""
    annotations = (await site.live(CLAIMS, claim))["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if "kubernetes.io/" not in key and key != RECORD}


async def edit(site: ExpansionNamespace, **settings: Any) -> None:
    await site.change_sizes(**settings)
    await site.settle()


async def test_new_claims_need_no_write(site: ExpansionNamespace) -> None:
    cache = {"labels": {"team": "a"}, "annotations": {"example.com/backup": "daily"}}

    await site.create_ready_server(cache=cache)

    assert await labels_of(site, CACHE) == cache["labels"]
    assert await annotations_of(site, CACHE) == cache["annotations"]
    assert await labels_of(site, METADATA) == {}
    for claim in (METADATA, CACHE):
        entries = (await site.live(CLAIMS, claim))["metadata"]["managedFields"]
        assert "dittofs-operator" not in {entry["manager"] for entry in entries}


async def test_live_claims_follow_the_spec(site: ExpansionNamespace) -> None:
    pod = await site.create_ready_server(cache={"labels": {"team": "a", "tier": "1"}})
    stateful_set = await site.live(STATEFUL_SETS)
    await put_metadata(site, CACHE, labels={"owner": "them"}, annotations={"example.com/theirs": "x"})

    await edit(site, cache={"labels": {"team": "b", "zone": ""}, "annotations": {"example.com/a": "b"}})

    assert await labels_of(site, CACHE) == {"team": "b", "zone": "", "owner": "them"}
    assert await annotations_of(site, CACHE) == {"example.com/a": "b", "example.com/theirs": "x"}

    await edit(site, metadata={"labels": {"team": "c"}})

    assert await labels_of(site, CACHE) == {"owner": "them"}
    assert await annotations_of(site, CACHE) == {"example.com/theirs": "x"}
    assert await labels_of(site, METADATA) == {"team": "c"}

    await edit(site)

    assert await labels_of(site, METADATA) == {}
    assert RECORD not in (await site.live(CLAIMS, METADATA))["metadata"].get("annotations", {})
    assert (await site.live(STATEFUL_SETS))["metadata"]["uid"] == stateful_set["metadata"]["uid"]
    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]


async def apply_metadata(site: ExpansionNamespace, claim: str, **metadata: Any) -> Manifest:
    """Changes the metadata of a claim as another client."""
    about = {"name": claim, "namespace": site.namespace, **metadata}
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about}
    return await site.cluster.apply(CLAIMS, manifest, "another")


async def put_metadata(site: ExpansionNamespace, claim: str, **metadata: Any) -> None:
    """Changes the metadata of a claim as another client, and waits until the informers have that."""
    changed = await apply_metadata(site, claim, **metadata)
    key = site.namespace, claim
    await until_async(lambda: site.informers.claims.version(key) >= int(resource_version(changed)))


async def test_only_differences_are_written_to_claims(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await edit(site, cache={"labels": {"team": "a"}})
    versions = [resource_version(await site.live(CLAIMS, claim)) for claim in (METADATA, CACHE)]

    await site.reconcile()

    assert [resource_version(await site.live(CLAIMS, claim)) for claim in (METADATA, CACHE)] == versions


async def test_claims_of_an_earlier_server_get_labels(site: ExpansionNamespace) -> None:
    """As after a restore by hand: they have none of the operator's labels, and others of their own."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": site.storage_class,
    }
    about = {"name": CACHE, "namespace": site.namespace, "labels": {"owner": "them", "team": "z"}}
    await site.cluster.create(
        CLAIMS, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": spec}
    )

    await site.create_ready_server(cache={"labels": {"team": "a"}})

    assert await labels_of(site, CACHE) == {"owner": "them", "team": "a"}

    await edit(site)

    assert await labels_of(site, CACHE) == {"owner": "them"}


async def test_a_rejected_label_holds_up_nothing(site: ExpansionNamespace) -> None:
    """The webhook would have said that there is no such value."""
    await site.create_ready_server()
    bad = site.spec(cache={"labels": {"team": "a b"}}, metadata={"labels": {"team": "a"}})

    await site.edit(spec={**bad, "nfsPort": 2050})
    message = await site.reconcile_until("ClaimMetadataRejected")

    assert message.startswith(f"volume claim {CACHE} lacks changes of its labels and annotations: ")
    assert await site.condition("StorageReady") == ("True", "ClaimMetadataRejected")
    assert await site.condition("Reconciling") == ("True", "ClaimMetadataRejected")
    assert await site.condition("Ready") == ("True", "Available")
    assert await labels_of(site, METADATA) == {"team": "a"}
    assert (await site.live(SERVICES, "files-file"))["spec"]["ports"][0]["port"] == 2050
    assert "ClaimMetadataRejected" in {event.reason for event in site.events}
    with pytest.raises(Retry, match="lacks changes of its labels"):
        await site.reconcile()

    await edit(site, cache={"labels": {"team": "a"}})

    assert await site.condition("StorageReady") == ("True", "Bound")
    assert await labels_of(site, CACHE) == {"team": "a"}


async def test_a_terminating_claim_is_left_alone(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await put_metadata(site, CACHE, finalizers=["example.com/in-use"])
    await site.delete(CLAIMS, CACHE)
    await until_async(lambda: is_terminating(site.informers.claims.get((site.namespace, CACHE)) or {"metadata": {}}))

    await site.change_sizes(cache={"labels": {"team": "a"}}, metadata={"labels": {"team": "a"}})
    await site.reconcile_until("ClaimTerminating")

    assert await labels_of(site, METADATA) == {"team": "a"}
    assert await labels_of(site, CACHE) == {}

    # Now the claim goes, and nobody knows when its StatefulSet creates it again.
    await apply_metadata(site, CACHE, finalizers=[])


async def test_volumes_of_different_classes_grow_or_not(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    fixed = f"{site.namespace}-fixed"
    driver.put_class(fixed, expandable=False)
    metadata = {"storageClassName": fixed}
    pod = await site.create_ready_server(metadata=metadata)

    await site.change_sizes(metadata=metadata, metadataSize="2Gi", cacheSize="3Gi")
    message = await site.reconcile_until("ResizeRefused", "Stalled")

    assert f'StorageClass "{fixed}" of volume claim {METADATA} cannot expand volumes' in message
    listing = await site.cluster.list(STORAGE_CLASSES)
    # Tests that ran before have left classes of their own.
    expandable = sorted(live["metadata"]["name"] for live in listing.items if live.get("allowVolumeExpansion"))
    assert site.storage_class in expandable
    assert f"classes that can: {', '.join(expandable)};" in message

    async with asyncio.timeout(SECONDS):
        while not site.stateful_set or template_sizes(site.stateful_set) != {"metadata": "1Gi", "cache": "3Gi"}:
            await site.reconcile_until("ResizeRefused", "Stalled")
    assert await classes_of_templates(site) == {"metadata": fixed, "cache": site.storage_class}

    await edit(site, metadata=metadata, cacheSize="3Gi")

    assert await site.claim_sizes() == {METADATA: 1, CACHE: 3}
    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]


async def classes_of_templates(site: ExpansionNamespace) -> dict[str, str]:
    templates = (await site.live(STATEFUL_SETS))["spec"]["volumeClaimTemplates"]
    return {template["metadata"]["name"]: template["spec"].get("storageClassName") for template in templates}


async def test_a_class_that_moves_to_the_volumes_changes_nothing(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    before = await site.live(STATEFUL_SETS)

    own = {"storageClassName": site.storage_class}
    await edit(site, storageClassName=None, metadata=own, cache=own)

    assert await site.live(STATEFUL_SETS) == before
    assert await site.condition("StorageReady") == ("True", "Bound")


async def test_a_recreated_statefulset_keeps_its_templates(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    driver.snapshots = {"nightly", "of-content"}
    cache = {"labels": {"team": "a"}, **snapshot()}
    await site.create_ready_server(cache=cache)
    live = await site.live(CLAIMS, CACHE)
    template = (await site.live(STATEFUL_SETS))["spec"]["volumeClaimTemplates"][1]

    # The template cannot follow what the claim does.
    await edit(site, cacheSize="2Gi", cache={"labels": {"team": "b"}})

    grown = (await site.live(STATEFUL_SETS))["spec"]["volumeClaimTemplates"][1]
    assert grown == {**template, "spec": {**template["spec"], "resources": {"requests": {"storage": "2Gi"}}}}
    assert grown["spec"]["dataSourceRef"]["name"] == "nightly"
    assert await labels_of(site, CACHE) == {"team": "b"}

    content = {"labels": {"tier": "1"}, **snapshot("of-content")}
    await site.change_sizes(cacheSize="2Gi", contentSize="1Gi", content=content)
    await site.reconcile_until("Bound")
    await until_adopted(site)

    templates = (await site.live(STATEFUL_SETS))["spec"]["volumeClaimTemplates"]
    assert [entry["metadata"]["name"] for entry in templates] == ["metadata", "content", "cache"]
    assert templates[2] == grown
    assert (await site.live(CLAIMS, CONTENT))["spec"]["dataSourceRef"]["name"] == "of-content"
    assert await labels_of(site, CONTENT) == {"tier": "1"}
    assert (await site.live(CLAIMS, CACHE))["metadata"]["uid"] == live["metadata"]["uid"]


async def test_a_restore_says_what_it_waits_for(site: ExpansionNamespace, driver: VolumeDriver) -> None:
    await site.create_sized_server(cache=snapshot())
    await site.reconcile_until("ClaimPending")
    await until_async(lambda: bool(site.informers.warnings.about(site.key)) and is_bound(site, METADATA))

    message = await site.reconcile_until("ClaimPending")

    assert message.startswith(
        f"volume claim {CACHE} is Pending: it waits for VolumeSnapshot nightly: failed to provision"
    )
    assert 'volumesnapshots.snapshot.storage.k8s.io "nightly" not found' in message

    driver.snapshots = {"nightly"}
    await site.reconcile_until("Bound")

    assert (await site.live(CLAIMS, CACHE))["spec"]["dataSourceRef"]["name"] == "nightly"


def is_bound(site: ExpansionNamespace, claim: str) -> bool:
    live = site.informers.claim((site.namespace, claim))
    return live is not None and live.phase == "Bound"
