"""Collects DittoServers and their volumes for a person who asks once. It never writes.

What may not be read becomes a gap: a line that says what is unknown, and why.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.reader import (
    CLAIMS,
    DITTO_SERVERS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    EventReader,
    Listing,
    Reader,
    Resource,
)
from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.object_defaults import pod_defaults
from app.storage.objects import SELECTOR
from app.storage.pod import pod_name
from app.storage.resize import may_restart
from app.storage.services import service_names
from app.storage.unstructured import Manifest, ObjectKey, namespaced_key
from app.storage.usage import Usage, usages
from app.storage.volumes import server_of_claim
from app.storage.workload import restarted_at

# As many names as a person reads who has mistyped one.
MAX_SUGGESTIONS = 10

# Returns the Summary API of a node's kubelet.
Stats = Callable[[str], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Survey:
    """The objects of DittoServers, by namespace and name.

    What is in no mapping does not exist, unless it is of a resource in `unknown`, which could not be listed; a gap says
    why. `claims` is None when they are unknown.
    """

    servers: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    claims: Mapping[ObjectKey, Claim] | None = None
    stateful_sets: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    pods: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    services: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    usages: Mapping[ObjectKey, Usage] = field(default_factory=dict)
    unknown: Collection[Resource] = ()
    gaps: tuple[str, ...] = ()

    def live_state(self, key: ObjectKey) -> LiveState | None:
        """Returns None when the claims are unknown."""
        if self.claims is None:
            return None

        namespace, name = key
        server, stateful_set = self.servers.get(key), self.stateful_sets.get(key)
        # In a file, a StatefulSet need not be complete.
        template = ((stateful_set or {}).get("spec") or {}).get("template") or {}
        services = {service: self.services.get((namespace, service)) for service in service_names(name)}
        return LiveState(
            claims={claim.name: claim for (within, _), claim in self.claims.items() if within == namespace},
            classes=self.classes,
            # What the operator's settings are, only whoever asks can say.
            defaults=pod_defaults(template),
            stateful_set=stateful_set,
            pod=self.pods.get((namespace, pod_name(name))),
            services={service: manifest for service, manifest in services.items() if manifest},
            may_restart=server is None or may_restart(server),
            restarted_at=restarted_at(server) if server else None,
        )


async def survey(
    reader: Reader,
    namespace: str | None = None,
    stats: Stats | None = None,
    names: Collection[str] = (),
    labels: str = "",
) -> Survey:
    """Surveys a namespace, or all of them; with `names` or `labels`, only these servers.

    Raises ClusterError when the DittoServers cannot be listed, and NotFound when there is none of a name.
    """
    servers = await list_servers(reader, namespace, names, labels)

    async with asyncio.TaskGroup() as group:
        tasks = {
            # Claims are selected by name: those that were restored or provisioned by hand lack our labels.
            CLAIMS: group.create_task(_list(reader, CLAIMS, namespace)),
            # Those of the Go operator have no labels at all.
            STATEFUL_SETS: group.create_task(_list(reader, STATEFUL_SETS, namespace)),
            PODS: group.create_task(_list(reader, PODS, namespace, SELECTOR)),
            SERVICES: group.create_task(_list(reader, SERVICES, namespace, SELECTOR)),
            STORAGE_CLASSES: group.create_task(_list(reader, STORAGE_CLASSES)),
        }
    listings = {resource: task.result() for resource, task in tasks.items()}
    gaps = [f"{resource.plural} are unknown: {listing.gap}" for resource, listing in listings.items() if listing.gap]

    claims: dict[ObjectKey, Claim] | None = None
    if not listings[CLAIMS].gap:
        manifests = _by_key(listings[CLAIMS])
        claims = {key: Claim.read(manifest) for key, manifest in manifests.items() if server_of_claim(key[1])}

    pods, classes = _by_key(listings[PODS]), listings[STORAGE_CLASSES]
    of_servers = [pods[key] for key in ((within, pod_name(name)) for within, name in servers) if key in pods]
    measured, unmeasured = await _measure(stats, of_servers) if stats else ({}, None)
    return Survey(
        servers=servers,
        claims=claims,
        stateful_sets=_by_key(listings[STATEFUL_SETS]),
        pods=pods,
        services=_by_key(listings[SERVICES]),
        classes=StorageClasses(tuple(StorageClass.read(item) for item in classes.items), classes.gap),
        usages=measured,
        unknown=[resource for resource, listing in listings.items() if listing.gap],
        gaps=(*gaps, unmeasured) if unmeasured else tuple(gaps),
    )


async def list_servers(
    reader: Reader, namespace: str | None = None, names: Collection[str] = (), labels: str = ""
) -> dict[ObjectKey, Manifest]:
    """Lists the DittoServers of a namespace, or of all of them; with `names` or `labels`, only these.

    Raises ClusterError when they cannot be listed, and NotFound when there is none of a name.
    """
    listing = await reader.list(DITTO_SERVERS, namespace, labels)
    if listing.gap:
        raise Unavailable(f"{DITTO_SERVERS.plural} are unknown: {listing.gap}")
    servers = _by_key(listing)
    if not names:
        return servers

    missing = sorted(set(names) - {name for _, name in servers})
    if missing:
        raise NotFound(await _explain_missing(reader, missing, servers, namespace))
    return {key: manifest for key, manifest in servers.items() if key[1] in names}


async def _explain_missing(
    reader: Reader, missing: Sequence[str], servers: Collection[ObjectKey], namespace: str | None
) -> str:
    """Says where servers of these names are, or else which servers there are."""
    where = f"in namespace {namespace}" if namespace else "in any namespace"
    what = f"no {DITTO_SERVERS.kind} {', '.join(missing)} {where}"

    everywhere = await _list(reader, DITTO_SERVERS) if namespace else Listing()
    elsewhere = sorted({within for within, name in _by_key(everywhere) if name in missing})[:MAX_SUGGESTIONS]
    if elsewhere:
        return f"{what}; there is one in namespace {', '.join(elsewhere)}: choose it with --namespace"

    others = ", ".join(sorted({name for _, name in servers})[:MAX_SUGGESTIONS])
    return f"{what}; there are: {others}" if others else f"{what}; there are none"


async def list_events_of(reader: EventReader, servers: Collection[ObjectKey]) -> dict[ObjectKey, Listing]:
    """Lists the Events about each server and its objects, and others: the caller has to select."""
    counts = Counter(namespace for namespace, _ in servers)
    # Of several servers in a namespace, all Events of the namespace cost less than those about each.
    shared = {namespace: await _select_events(reader, namespace, "") for namespace in counts if counts[namespace] > 1}
    return {key: shared.get(key[0]) or await list_events(reader, key) for key in servers}


async def list_events(reader: EventReader, server: ObjectKey) -> Listing:
    """Lists the Events about a server and its objects, and others: the caller has to select."""
    namespace, name = server
    selectors = [f"involvedObject.name={name}", f"involvedObject.name={pod_name(name)}"]
    # An API server reads all Events of the namespace for each list, so that there is not one for each claim.
    selectors += [f"involvedObject.kind={resource.kind}" for resource in (CLAIMS, SERVICES)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_select_events(reader, namespace, fields)) for fields in selectors]
    listings = [task.result() for task in tasks]

    items = {item["metadata"]["name"]: item for listing in listings for item in listing.items}
    return Listing(tuple(items.values()), next((listing.gap for listing in listings if listing.gap), None))


async def _select_events(reader: EventReader, namespace: str, fields: str) -> Listing:
    try:
        return await reader.events(namespace, fields)
    except ClusterError as error:
        return Listing(gap=f"Events are unknown: {error}")


async def _list(reader: Reader, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
    try:
        return await reader.list(resource, namespace, labels)
    except ClusterError as error:
        return Listing(gap=str(error))


async def _measure(stats: Stats, pods: Iterable[Manifest]) -> tuple[dict[ObjectKey, Usage], str | None]:
    """Asks every node that runs a pod of a server. Returns the usages, and a gap where some nodes do not answer."""
    nodes = sorted({pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")})

    async def ask(node: str) -> Mapping[str, Any] | ClusterError:
        try:
            return await stats(node)
        except ClusterError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(node)) for node in nodes]
    answers = [task.result() for task in tasks]

    measured = dict(usage for answer in answers if not isinstance(answer, ClusterError) for usage in usages(answer))
    # One reason is enough for a person who may ask none of the nodes.
    reasons = [answer for answer in answers if isinstance(answer, ClusterError)]
    if not reasons:
        return measured, None
    return measured, f"used space is unknown on {len(reasons)} of {len(nodes)} nodes: {reasons[0]}"


def _by_key(listing: Listing) -> dict[ObjectKey, Manifest]:
    return {namespaced_key(item): item for item in listing.items}
