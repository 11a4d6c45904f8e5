"""Pods that lost their labels, beside the real StatefulSet controller: it releases them, and can create no other."""

import shlex
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, STATEFUL_SETS, Resource
from app.reconcile.unlabelled_pods import RECHECK, SEARCH_DELAY
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace
from tests.harness.volume_expansion import SECONDS, ExpansionNamespace, open_expansion_namespace
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
FINALIZER = "example.com/in-use"


site = pytest.fixture(open_expansion_namespace)


async def remove_labels(site: ExpansionNamespace, *names: str) -> Manifest:
    """Removes them from the pod, all where none is named, and waits until its controller has released it."""
    labels = (await site.live(PODS, "files-0"))["metadata"]["labels"]
    kept = {name: value for name, value in labels.items() if names and name not in names}
    await site.edit_metadata(PODS, "files-0", labels=kept)
    await until_async(lambda: not (site.pod or {"metadata": {}})["metadata"].get("ownerReferences"), SECONDS)
    await until_async(lambda: ((site.stateful_set or {}).get("status") or {}).get("replicas") == 0, SECONDS)
    return await site.live(PODS, "files-0")


async def until_missed(site: ExpansionNamespace) -> float | None:
    """Reconciles until the pod is missed, and again once it has been missed for long enough."""
    await site.reconcile()
    site.fixed_time = datetime.now(UTC) + SEARCH_DELAY + timedelta(seconds=1)
    return await site.reconcile()


def gets(site: ReconcilerNamespace) -> float:
    """The objects that were asked for, found or not."""
    labels = {"method": "GET", "host": site.cluster.connection.host}
    values = [
        REGISTRY.get_sample_value("rest_client_requests_total", {**labels, "code": code}) for code in ("200", "404")
    ]
    return sum(value or 0 for value in values)


async def message(site: ReconcilerNamespace, kind: str) -> str:
    return str(conditions(await site.live(DITTO_SERVERS))[kind]["message"])


@pytest.mark.parametrize("names", [(), ("app",), ("instance",)], ids=["all", "app", "instance"])
async def test_a_pod_without_labels_is_reported(
    site: ExpansionNamespace, control_plane: ControlPlane, names: tuple[str, ...]
) -> None:
    pod = await site.create_ready_server()
    await remove_labels(site, *names)

    await until_missed(site)

    assert await site.condition("Ready") == ("False", "PodLabelsMissing")
    assert await site.condition("Stalled") == ("True", "PodLabelsMissing")
    assert [told.reason for told in site.events][-1] == "PodLabelsMissing"
    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]

    command = (await message(site, "Ready")).partition("run: kubectl ")[2].partition(";")[0]
    control_plane.kubectl(*shlex.split(command))
    stateful_set = await site.live(STATEFUL_SETS)
    uid = stateful_set["metadata"]["uid"]
    await until_async(
        lambda: (
            [each["uid"] for each in (site.pod or {"metadata": {}})["metadata"].get("ownerReferences") or []] == [uid]
        ),
        SECONDS,
    )
    await site.reconcile_until("Reconciled", "Stalled")
    await site.reconcile_until("Available", "Ready")

    assert (await site.live(PODS, "files-0"))["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_a_missed_pod_is_looked_for_in_time(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await remove_labels(site)
    before = gets(site)

    assert 0 < (await site.reconcile() or 0) <= SEARCH_DELAY.total_seconds() + 1
    assert gets(site) == before

    assert await until_missed(site) == RECHECK.total_seconds()
    assert gets(site) == before + 1

    await site.reconcile()

    assert gets(site) == before + 1


async def test_a_deleted_pod_is_replaced_without_a_look(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    await remove_labels(site)
    await until_missed(site)

    await site.delete(PODS, "files-0")
    await until_async(lambda: site.pod is not None, SECONDS)
    before = gets(site)
    await site.reconcile()

    assert gets(site) == before
    assert await site.condition("Ready") == ("False", "PodStarting")
    assert await site.condition("Stalled") == ("False", "Reconciled")


async def test_a_pod_that_is_not_there_is_asked_for_once(site: ExpansionNamespace) -> None:
    quota = {"metadata": {"name": "none", "namespace": site.namespace}, "spec": {"hard": {"pods": "0"}}}
    await site.cluster.create(QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await site.create_sized_server()
    await site.reconcile()
    await until_async(lambda: bool(((site.stateful_set or {}).get("status") or {}).get("observedGeneration")), SECONDS)
    await site.reconcile()
    before = gets(site)

    for _ in range(3):
        await until_missed(site)
        site.fixed_time = datetime.now(UTC) + timedelta(hours=1)
        await site.reconcile()

    assert gets(site) == before + 1


async def test_restarts_of_a_pod_without_labels_are_held(site: ExpansionNamespace) -> None:
    await site.create_ready_server()
    template = await site.template()
    claim = "metadata-files-0"
    await site.edit_metadata(CLAIMS, claim, finalizers=[FINALIZER])
    await site.delete(CLAIMS, claim)
    await remove_labels(site)
    await until_missed(site)

    live = await site.live(DITTO_SERVERS)
    await site.edit(spec={**live["spec"], "image": "example.com/dittofs:2"})
    held = await site.reconcile_until("RestartHeldBack", "Stalled")

    assert f"volume claim {claim} is being deleted" in held
    assert await site.template() == template
    assert "delete the pod" not in await message(site, "Ready")

    await site.edit_metadata(CLAIMS, claim, finalizers=[])


async def test_a_foreign_pod_of_the_name_is_reported(site: ExpansionNamespace) -> None:
    container = {"name": "c", "image": "i"}
    metadata = {"name": "files-0", "namespace": site.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    await site.cluster.create(PODS, pod)
    await site.create_sized_server()
    await site.reconcile()
    await until_async(lambda: bool(((site.stateful_set or {}).get("status") or {}).get("observedGeneration")), SECONDS)

    await until_missed(site)

    assert await site.condition("Ready") == ("False", "PodNameTaken")
    assert "pod files-0 exists and is not this server's" in await message(site, "Ready")
