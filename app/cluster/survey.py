"""What there is of DittoServers and their volumes, for a person who asks once. It never writes.

What may not be read is a gap: a line that says what is unknown, and why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.cluster.errors import ClusterError, Unavailable
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, STATEFUL_SETS, STORAGE_CLASSES, Listing, Reader, Resource
from app.cluster.snapshot import DEFAULT_NAMESPACE
from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.objects import SELECTOR
from app.storage.pod import pod_name
from app.storage.resize import may_restart
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.usage import Usage, usages
from app.storage.volumes import server_of_claim

# What the kubelet of a node says of its pods.
Stats = Callable[[str], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Survey:
    """By namespace and name; what is in none of the mappings does not exist, or is unknown where a gap says so.

    `claims` are None when they are unknown.
    """

    servers: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    claims: Mapping[ObjectKey, Claim] | None = None
    stateful_sets: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    pods: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    usages: Mapping[ObjectKey, Usage] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    def live_state(self, key: ObjectKey) -> LiveState | None:
        """Of one server and its volumes; None when its claims are unknown."""
        if self.claims is None:
            return None
        namespace, name = key
        server = self.servers.get(key)
        return LiveState(
            claims={claim.name: claim for (within, _), claim in self.claims.items() if within == namespace},
            classes=self.classes,
            stateful_set=self.stateful_sets.get(key),
            pod=self.pods.get((namespace, pod_name(name))),
            may_restart=server is None or may_restart(server),
        )


async def survey(reader: Reader, namespace: str | None = None, stats: Stats | None = None) -> Survey:
    """Of a namespace, or of all. Raises ClusterError when there is no telling which DittoServers there are."""
    servers = await reader.list(DITTO_SERVERS, namespace)
    if servers.gap:
        raise Unavailable(f"{DITTO_SERVERS.plural} are unknown: {servers.gap}")
    async with asyncio.TaskGroup() as group:
        asked = {
            # By name: a claim that was restored or provisioned by hand has no label of ours.
            CLAIMS: group.create_task(_listed(reader, CLAIMS, namespace)),
            STATEFUL_SETS: group.create_task(_listed(reader, STATEFUL_SETS, namespace, SELECTOR)),
            PODS: group.create_task(_listed(reader, PODS, namespace, SELECTOR)),
            STORAGE_CLASSES: group.create_task(_listed(reader, STORAGE_CLASSES)),
        }
    found = {resource: task.result() for resource, task in asked.items()}
    pods, classes = _by_key(found[PODS]), found[STORAGE_CLASSES]
    used, unmeasured = await _used(stats, pods) if stats else ({}, ())
    return Survey(
        servers=_by_key(servers),
        claims=_claims(found[CLAIMS]),
        stateful_sets=_by_key(found[STATEFUL_SETS]),
        pods=pods,
        classes=StorageClasses(tuple(StorageClass.read(each) for each in classes.items), classes.gap),
        usages=used,
        gaps=(*_gaps(found), *unmeasured),
    )


async def _listed(reader: Reader, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
    try:
        return await reader.list(resource, namespace, labels)
    except ClusterError as error:
        return Listing(gap=str(error))


async def _used(stats: Stats, pods: Mapping[ObjectKey, Manifest]) -> tuple[dict[ObjectKey, Usage], tuple[str, ...]]:
    """Asks every node that has a pod of a server. One reason is enough for a person who may ask none of them."""
    nodes = sorted({pod["spec"]["nodeName"] for pod in pods.values() if pod["spec"].get("nodeName")})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_summary(stats, node)) for node in nodes]
    found = [task.result() for task in tasks]
    reasons = [each for each in found if isinstance(each, ClusterError)]
    used = {key: usage for each in found if not isinstance(each, ClusterError) for key, usage in usages(each)}
    some = f" on {len(reasons)} of {len(nodes)} nodes"
    return used, (f"used space is unknown{some}: {reasons[0]}",) if reasons else ()


async def _summary(stats: Stats, node: str) -> Mapping[str, Any] | ClusterError:
    try:
        return await stats(node)
    except ClusterError as error:
        return error


def _gaps(found: Mapping[Resource, Listing]) -> Iterator[str]:
    for resource, listing in found.items():
        if listing.gap:
            yield f"{resource.plural} are unknown: {listing.gap}"


def _claims(listing: Listing) -> dict[ObjectKey, Claim] | None:
    if listing.gap:
        return None
    return {key: Claim.read(each) for key, each in _by_key(listing).items() if server_of_claim(key[1])}


def _by_key(listing: Listing) -> dict[ObjectKey, Manifest]:
    metadata = [(item["metadata"], item) for item in listing.items]
    return {(each.get("namespace") or DEFAULT_NAMESPACE, each["name"]): item for each, item in metadata}
