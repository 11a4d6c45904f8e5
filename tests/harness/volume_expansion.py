"""A DittoServer on volumes that grow, by a driver that is at work beside it, and somebody who reconciles it."""

import asyncio
from contextlib import suppress
from typing import Any

from app.cluster.errors import ClusterError
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, STATEFUL_SETS
from app.storage import quantity
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.harness.reconciler_namespace import ReconcilerNamespace, resource_version
from tests.harness.wait import until_async

NOON = "2026-02-01T12:00:00Z"
# The StatefulSet's controller may yet have to clean up what the tests before have left.
SECONDS = 120.0
SIZES = {"metadataSize": "1Gi", "cacheSize": "1Gi"}


class ExpansionNamespace(ReconcilerNamespace):
    """A server on volumes that grow, and somebody who reconciles it for as long as it takes.

    `later` is when the last time asked for another.
    """

    requeue_after: float | None = None

    @property
    def storage_class(self) -> str:
        return self.namespace

    async def create_ready_server(self, until: str = "Bound", **sizes: str) -> Manifest:
        """The pod of a server with these sizes, whose claims are bound."""
        await self.create_sized_server(**sizes)
        await self.reconcile_until(until)
        await until_async(lambda: self.pod is not None, SECONDS)
        return await self.make_pod_ready()

    async def create_sized_server(self, **sizes: str) -> None:
        """A new server with these sizes, heard of but not reconciled."""
        metadata = {"name": "files", "namespace": self.namespace}
        manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": self.spec(**sizes)}
        await self.cluster.create(DITTO_SERVERS, manifest)
        await until_async(lambda: self.key in self.informers.servers)

    async def make_pod_ready(self) -> Manifest:
        """The pod, of which its kubelet says that it is ready."""
        pod = await self.live(PODS, "files-0")
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
        await self.cluster.patch_status(PODS, {"metadata": identity(pod), "status": status})
        await self.settle()
        return pod

    async def settle(self) -> None:
        await self.reconcile_until("Reconciled", "Reconciling")

    def spec(self, **sizes: str) -> Manifest:
        return {"storage": {**SIZES, **sizes, "storageClassName": self.storage_class}}

    async def change_sizes(self, **sizes: str) -> None:
        """Another spec, which is heard of."""
        await self.edit(spec=self.spec(**sizes))

    async def edit(self, **fields: Any) -> None:
        live = await self.live(DITTO_SERVERS)
        changed = await self.cluster.replace(DITTO_SERVERS, {**live, **fields})
        await until_async(lambda: self.informers.servers.version(self.key) >= int(resource_version(changed)))

    async def reconcile_until(self, reason: str, kind: str = "StorageReady") -> str:
        """Reconciles until a condition of the current generation has this reason, and gives its message."""
        async with asyncio.timeout(SECONDS):
            while True:
                self.requeue_after = None
                with suppress(ClusterError):
                    self.requeue_after = await self.reconciler.reconcile(self.key)
                live = await self.live(DITTO_SERVERS)
                found = conditions(live).get(kind)
                current = found and found["observedGeneration"] == live["metadata"]["generation"]
                if found and current and found["reason"] == reason and self.requeue_after != 0:
                    return str(found["message"])
                await asyncio.sleep(0 if self.requeue_after == 0 else 0.02)

    async def claim_sizes(self) -> dict[str, int]:
        """What the claims have, in Gi."""
        claims = await self.cluster.list(CLAIMS, self.namespace)
        return {each["metadata"]["name"]: gibibytes(each["status"]["capacity"]) for each in claims.items}

    async def template_sizes(self) -> dict[str, str]:
        return template_sizes(await self.live(STATEFUL_SETS))


def template_sizes(stateful_set: Manifest) -> dict[str, str]:
    templates = stateful_set["spec"]["volumeClaimTemplates"]
    return {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in templates}


def identity(manifest: Manifest) -> Manifest:
    return {name: manifest["metadata"][name] for name in ("name", "namespace", "uid")}


def gibibytes(quantities: Manifest) -> int:
    return quantity.parse(quantities["storage"]) // 2**30


async def until_adopted(site: ExpansionNamespace) -> None:
    """By the StatefulSet that there is, and nobody else."""
    await until_async(lambda: _owners(site) == [site.stateful_set and site.stateful_set["metadata"]["uid"]], SECONDS)


def _owners(site: ExpansionNamespace) -> list[str]:
    owners = (site.pod or {"metadata": {}})["metadata"].get("ownerReferences") or []
    return [each["uid"] for each in owners]
