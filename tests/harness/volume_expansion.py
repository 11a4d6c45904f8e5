"""A DittoServer that the test reconciles, on volumes that a volume driver expands."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, STATEFUL_SETS
from app.storage import quantity
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, run_informers
from tests.harness.volume_driver import VolumeDriver
from tests.harness.wait import until_async

NOON = "2026-02-01T12:00:00Z"
# Long, because the StatefulSet controller may still be busy with the objects of earlier tests.
SECONDS = 120.0
SIZES = {"metadataSize": "1Gi", "cacheSize": "1Gi"}


class ExpansionNamespace(ReconcilerNamespace):
    """A namespace with a server on volumes that can be expanded.

    `requeue_after` is the delay in seconds that the last reconciliation asked for.
    """

    requeue_after: float | None = None

    @property
    def storage_class(self) -> str:
        return self.namespace

    async def create_ready_server(self, until: str = "Bound", **sizes: Any) -> Manifest:
        """Creates a server with these sizes and returns its pod, ready and with bound claims."""
        await self.create_sized_server(**sizes)
        await self.reconcile_until(until)
        await until_async(lambda: self.pod is not None, SECONDS)

        return await self.make_pod_ready()

    async def create_sized_server(self, **sizes: Any) -> None:
        """Creates a server with these sizes and waits until the informers have it; does not reconcile it."""
        metadata = {"name": "files", "namespace": self.namespace}
        manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": self.spec(**sizes)}
        await self.cluster.create(DITTO_SERVERS, manifest)
        await until_async(lambda: self.key in self.informers.servers)

    async def make_pod_ready(self) -> Manifest:
        """Reports the pod ready, as its kubelet does, and returns it."""
        pod = await self.live(PODS, "files-0")
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
        await self.cluster.patch_status(PODS, {"metadata": identity(pod), "status": status})
        await self.settle()
        return pod

    async def settle(self) -> None:
        await self.reconcile_until("Reconciled", "Reconciling")

    def spec(self, **sizes: Any) -> Manifest:
        return {"storage": {**SIZES, "storageClassName": self.storage_class, **sizes}}

    async def change_sizes(self, **sizes: Any) -> None:
        """Changes the sizes, or the settings of volumes, and waits until the informers have them."""
        await self.edit(spec=self.spec(**sizes))

    async def reconcile_until(self, reason: str, kind: str = "StorageReady") -> str:
        """Reconciles until a condition of the current generation has this reason; returns its message."""
        async with asyncio.timeout(SECONDS):
            while True:
                self.requeue_after = (await self.reconciler.reconcile(self.key)).requeue_after

                live = await self.live(DITTO_SERVERS)
                condition = conditions(live).get(kind)
                current = condition and condition["observedGeneration"] == live["metadata"]["generation"]
                if condition and current and condition["reason"] == reason and self.requeue_after != 0:
                    return str(condition["message"])

                await asyncio.sleep(0 if self.requeue_after == 0 else 0.02)

    async def claim_sizes(self) -> dict[str, int]:
        """Returns the capacity of each claim in Gi."""
        claims = await self.cluster.list(CLAIMS, self.namespace)
        return {claim["metadata"]["name"]: gibibytes(claim["status"]["capacity"]) for claim in claims.items}

    async def template_sizes(self) -> dict[str, str]:
        return template_sizes(await self.live(STATEFUL_SETS))


def template_sizes(stateful_set: Manifest) -> dict[str, str]:
    templates = stateful_set["spec"]["volumeClaimTemplates"]
    return {claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"] for claim in templates}


def identity(manifest: Manifest) -> Manifest:
    return {name: manifest["metadata"][name] for name in ("name", "namespace", "uid")}


def gibibytes(quantities: Manifest) -> int:
    return quantity.parse(quantities["storage"]) // 2**30


async def until_adopted(site: ExpansionNamespace) -> None:
    """Waits until the pod belongs to the current StatefulSet and to nothing else."""
    await until_async(lambda: _owners(site) == [site.stateful_set and site.stateful_set["metadata"]["uid"]], SECONDS)


def _owners(site: ExpansionNamespace) -> list[str]:
    owners = (site.pod or {"metadata": {}})["metadata"].get("ownerReferences") or []
    return [owner["uid"] for owner in owners]


async def open_expansion_namespace(
    control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver
) -> AsyncIterator[ExpansionNamespace]:
    """Serves as a fixture: `site = pytest.fixture(open_expansion_namespace)`."""
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield ExpansionNamespace(cluster, informers, namespace)
