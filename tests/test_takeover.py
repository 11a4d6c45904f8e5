"""Servers that the Go operator created, with and without their StatefulSet, taken over at the real API server."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import pytest

from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, SECRETS, STATEFUL_SETS
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness import go_operator
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import NOON, SECONDS, ExpansionNamespace, identity
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

CLAIM_NAMES = tuple(f"{volume}-files-0" for volume in go_operator.SIZES)


class Takeover(ExpansionNamespace):
    """A namespace in which the Go operator has created a server named files."""

    control_plane: ControlPlane
    password: str
    pods: list[str]

    def create(self, *manifests: Manifest) -> None:
        """Creates objects as the Go operator does."""
        options = ("--namespace", self.namespace, f"--field-manager={go_operator.FIELD_MANAGER}", "--validate=false")
        items = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.control_plane.kubectl("create", *options, "-f", "-", input=json.dumps(items))

    async def create_go_server(self, *, finalizer: bool = True) -> str:
        """Creates the DittoServer, and returns its uid."""
        metadata: Manifest = {"name": "files", "namespace": self.namespace}
        if finalizer:
            metadata["finalizers"] = [go_operator.FINALIZER]
        spec = go_operator.spec(self.storage_class)
        self.create({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
        await until_async(lambda: self.key in self.informers.servers)
        return str((await self.live(DITTO_SERVERS))["metadata"]["uid"])

    async def run_go_server(self, *, legacy: bool = False) -> Manifest:
        """Lets the Go operator's server run, and returns its pod, ready and with bound claims."""
        uid = await self.create_go_server()
        self.create(*go_operator.left_behind("files", uid, self.storage_class, self.password, legacy=legacy))
        await self.wait_for_claims()
        await until_async(lambda: self.pod is not None, SECONDS)
        return await self.report_ready()

    async def keep_claims(self) -> None:
        """Leaves only the claims of a server."""
        self.create(*go_operator.claims("files", self.storage_class))
        await self.wait_for_claims()

    async def wait_for_claims(self) -> None:
        def is_bound(claim: str) -> bool:
            live = self.informers.claim((self.namespace, claim))
            return live is not None and live.phase == "Bound"

        await until_async(lambda: all(map(is_bound, CLAIM_NAMES)), SECONDS)

    async def report_ready(self) -> Manifest:
        """Reports the current pod ready, as its kubelet does."""
        pod = await self.live(PODS, "files-0")
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
        await self.cluster.patch_status(PODS, {"metadata": identity(pod), "status": status})
        return pod

    async def take_over(self) -> None:
        """Reconciles until nothing is left to do, and notes every pod that has started since."""
        first = self.pod and self.pod["metadata"]["uid"]
        async with asyncio.timeout(SECONDS):
            while not await self.is_settled():
                uid = self.pod and self.pod["metadata"]["uid"]
                if uid and uid not in (first, *self.pods):
                    self.pods.append(uid)
                    await self.report_ready()
                await asyncio.sleep(0.02)

    async def is_settled(self) -> bool:
        """Reconciles, and returns whether there was nothing to do, and nothing is left for others to do."""
        result = await self.reconciler.reconcile(self.key)
        status = conditions(await self.live(DITTO_SERVERS))
        reasons = {kind: status[kind]["reason"] for kind in ("Ready", "Reconciling", "StorageReady")}
        expected = {"Ready": "Available", "Reconciling": "Reconciled", "StorageReady": "Bound"}
        return not result.retry and result.requeue_after != 0 and reasons == expected


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver) -> AsyncIterator[Takeover]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        takeover = Takeover(cluster, informers, namespace)
        takeover.control_plane, takeover.password, takeover.pods = control_plane, secrets.token_urlsafe(18), []
        yield takeover


def mounts(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Returns claim and folder by the path at which the server finds them."""
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    [container] = pod["spec"]["containers"]
    return {
        mount["mountPath"]: (volumes[mount["name"]], mount.get("subPath", ""))
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
    }


def check_mounts(pod: Manifest) -> None:
    """Asserts that the server finds its database where the Go operator has put it."""
    path = go_operator.MOUNT_PATHS["controlplane"]
    assert mounts(pod)[path] == ("controlplane-files-0", "")


async def claim_uids(site: Takeover) -> dict[str, str]:
    claims = (await site.cluster.list(CLAIMS, site.namespace)).items
    return {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in claims}


async def check_nothing_is_written(site: Takeover) -> None:
    """Asserts that there is nothing left to do, also for an operator that has just started."""
    resources = (CLAIMS, PODS, SECRETS, STATEFUL_SETS, DITTO_SERVERS)

    async def versions() -> dict[str, str]:
        items = [item for resource in resources for item in (await site.cluster.list(resource, site.namespace)).items]
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}

    before = await versions()
    async with run_informers(site.cluster, site.namespace) as informers:
        await ExpansionNamespace(site.cluster, informers, site.namespace).reconcile()

    assert await versions() == before


async def test_a_server_that_runs_restarts_once(site: Takeover) -> None:
    before = await site.run_go_server()
    claims = await claim_uids(site)

    await site.take_over()

    assert len(site.pods) == 1
    assert site.pods != [before["metadata"]["uid"]]
    check_mounts(await site.live(PODS, "files-0"))
    assert claims.items() <= (await claim_uids(site)).items()
    await check_nothing_is_written(site)


async def test_a_server_without_its_statefulset_finds_its_data(site: Takeover) -> None:
    await site.keep_claims()
    claims = await claim_uids(site)
    await site.create_go_server()

    await site.take_over()

    assert len(site.pods) == 1
    check_mounts(await site.live(PODS, "files-0"))
    assert claims.items() <= (await claim_uids(site)).items()
    retention = (await site.live(STATEFUL_SETS))["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert retention == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    await check_nothing_is_written(site)
