"""Reconciling: how long new servers take and what they cost, in time, requests and memory; restart, idling, rotation.

Each number of servers has a control plane of its own, and so has the bare client that it is compared with.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from time import monotonic, sleep

from app.cluster.client import Cluster, Selection
from app.cluster.reader import CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.desired import config_hash_of
from app.storage.objects import Owner, admin_secret, config_map, jwt_secret, services, stateful_set
from app.storage.reading import read
from app.storage.unstructured import Manifest, ObjectKey
from tests.bench.figures import Figure
from tests.bench.sizes import Sizes
from tests.bench.surroundings import cluster
from tests.controlplane.cluster import ControlPlane
from tests.harness.fleet import (
    S3_VALUES,
    create_all,
    is_busy,
    large_secret,
    memory_megabytes,
    metric,
    namespaced_server,
    run_jobs,
    wait_until_quiet,
)
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.server_table import s3
from tests.harness.wait import until

NAMESPACE = "reconciled"
# The more the faster, up to here.
CONNECTIONS = 16
SECONDS = 1800.0
CHURN_SECONDS = 0.2
RECONCILING, GROWTH, LATER, MEMORY = (
    "Reconciling new servers",
    "How cost grows with the number of servers",
    "Restart, idling, rotation",
    "Memory",
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """Of so many new servers; `bare` is the time of the client that only makes the objects. Memory is in megabytes."""

    servers: int
    bare: float
    seconds: float
    writes: float
    secrets: float
    reads: float
    idle_memory: float
    memory: float

    @property
    def milliseconds_each(self) -> float:
        return 1000 * self.seconds / self.servers

    @property
    def kilobytes_each(self) -> float:
        return 1024 * (self.memory - self.idle_memory) / self.servers


def measure(sizes: Sizes, say: Say) -> Iterator[Figure | Cost]:
    """The costs among the figures are for the plot."""
    costs = []
    for number in sizes.growth:
        with cluster(NAMESPACE) as control_plane:
            bare = _bare(control_plane, number, say)
            rotation = _bare_rotation(control_plane, sizes) if number == sizes.many else 0.0
        with _operated() as operated:
            costs.append(_cost(operated, number, bare, sizes, say))
            yield costs[-1]
            yield from _figures(costs[-1])
            if number == sizes.many:
                yield from _later(operated, rotation, sizes, say)
    yield from _resizer(costs)


@contextmanager
def _operated() -> Iterator[OperatorNamespace]:
    with cluster(NAMESPACE) as control_plane:
        folder = control_plane.folder / "operator"
        folder.mkdir()
        operated = OperatorNamespace(control_plane, NAMESPACE, folder)
        for name in ("s3", "shared", "single"):
            operated.put_secret(name, **S3_VALUES)
        with operated:
            wait_until_quiet(operated)
            yield operated


def _bare(control_plane: ControlPlane, number: int, say: Say) -> float:
    begun = monotonic()
    asyncio.run(_make_bare(control_plane, number))
    seconds = monotonic() - begun
    say(f"{number} servers by a bare client: {seconds:.1f} s")
    return seconds


async def _make_bare(control_plane: ControlPlane, number: int) -> None:
    """The DittoServers and all that belongs to them."""

    async def make(server: Manifest) -> None:
        made = await client.create(DITTO_SERVERS, server)
        for resource, manifest in belongings(made):
            await client.create(resource, manifest)

    async with Cluster.connect(control_plane.kubeconfig) as client:
        await run_jobs(map(make, new_servers(number, 0)), CONNECTIONS)


def _bare_rotation(control_plane: ControlPlane, sizes: Sizes) -> float:
    """The seconds in which the templates of those that share a Secret are written anew, once all pods are there."""
    pods = Selection(PODS, NAMESPACE).path
    until(lambda: len(control_plane.get(pods)["items"]) == sizes.many, SECONDS, pause=1)
    begun = monotonic()
    asyncio.run(_change_templates(control_plane, sizes.sharing))
    return monotonic() - begun


async def _change_templates(control_plane: ControlPlane, number: int) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as client:
        servers = (await client.list(DITTO_SERVERS, NAMESPACE)).items[:number]
        templates = (_stateful_set(each, "1" * 64) for each in servers)
        await run_jobs((client.apply(STATEFUL_SETS, each) for each in templates), CONNECTIONS)


def new_servers(number: int, sharing: int) -> Iterator[Manifest]:
    """The first share a Secret with the others of them, the next has one of its own, and the rest have another."""
    for each in range(number):
        secret = "shared" if each < sharing else "single" if each == sharing else "s3"
        yield namespaced_server(f"s{each}", NAMESPACE, **s3(secretName=secret))


def belongings(server: Manifest) -> Iterator[tuple[Resource, Manifest]]:
    owner, spec = _owner(server), read(server).server.spec
    yield CONFIG_MAPS, config_map(owner, spec)
    yield SECRETS, jwt_secret(owner, b"j" * 64)
    yield SECRETS, admin_secret(owner, spec, "p" * 24)
    yield STATEFUL_SETS, _stateful_set(server, "0" * 64)
    for each in services(owner, spec):
        yield SERVICES, each


def _stateful_set(server: Manifest, digest: str) -> Manifest:
    return stateful_set(_owner(server), read(server).server.spec, digest)


def _owner(server: Manifest) -> Owner:
    metadata = server["metadata"]
    return Owner(metadata["name"], metadata["namespace"], metadata["uid"])


def _cost(operated: OperatorNamespace, number: int, bare: float, sizes: Sizes, say: Say) -> Cost:
    idle = memory_megabytes(operated.operator.pid)["VmRSS"]
    before = len(operated.requests())
    sharing = sizes.sharing if number == sizes.many else 0
    seconds = asyncio.run(
        until_all(
            operated.control_plane,
            DITTO_SERVERS,
            number,
            is_observed,
            lambda: create_all(operated.control_plane, DITTO_SERVERS, new_servers(number, sharing), CONNECTIONS),
        )
    )
    asked = operated.requests()[before:]
    kinds = Counter(f"{each.verb} {each.resource}" for each in asked if each.writes)
    say(f"{number} servers by the operator: {seconds:.1f} s")
    say(f"  writes: {', '.join(f'{times} {kind}' for kind, times in kinds.most_common())}")
    settled(operated)
    writes = [each for each in asked if each.writes and each.resource not in ("leases", "secrets")]
    return Cost(
        servers=number,
        bare=bare,
        seconds=seconds,
        writes=len(writes) / number,
        secrets=len([each for each in asked if each.verb == "create" and each.resource == "secrets"]) / number,
        reads=len([each for each in asked if each.verb in ("get", "list")]) / number,
        idle_memory=idle,
        memory=memory_megabytes(operated.operator.pid)["VmRSS"],
    )


def is_observed(server: Manifest) -> bool:
    informers = (server.get("status") or {}).get("observedGeneration")
    return bool(informers == server["metadata"]["generation"])


async def until_all(
    control_plane: ControlPlane,
    resource: Resource,
    number: int,
    holds: Callable[[Manifest], bool],
    do: Callable[[], None],
) -> float:
    """The seconds from `do`, which may go on in the meantime, until something holds for so many objects, by a watch."""
    store, there = Store(lambda manifest: {"metadata": manifest["metadata"]}), set[ObjectKey]()
    all_hold = asyncio.Event()

    def heard(key: ObjectKey, manifest: Manifest) -> None:
        if holds(manifest):
            there.add(key)
        if len(there) == number:
            all_hold.set()

    async with Cluster.connect(control_plane.kubeconfig) as client:
        reflector = Reflector(client, Selection(resource, NAMESPACE), store)
        async with asyncio.TaskGroup() as group, asyncio.timeout(SECONDS):
            watching = group.create_task(reflector.run())
            await reflector.wait_for_sync()
            store.event_handlers.append(heard)
            begun = monotonic()
            doing = group.create_task(asyncio.to_thread(do))
            await all_hold.wait()
            seconds = monotonic() - begun
            await doing
            watching.cancel()
    return seconds


def settled(operated: OperatorNamespace) -> None:
    """Waits until the claims and pods are there too, and nothing is left to do."""
    until(lambda: reconciled_nothing(operated), SECONDS, pause=0)


def reconciled_nothing(operated: OperatorNamespace, seconds: float = 3.0) -> bool:
    """Whether nothing was reconciled for so long."""
    before = metric(operated.operator, "controller_runtime_reconcile_total")
    sleep(seconds)
    return metric(operated.operator, "controller_runtime_reconcile_total") == before and not is_busy(operated.operator)


def _figures(cost: Cost) -> Iterator[Figure]:
    title, number = RECONCILING, f"{cost.servers} servers"
    yield Figure(title, f"{number}, a bare client", cost.bare, "s")
    yield Figure(title, f"{number}, the operator", cost.seconds, "s")
    yield Figure(title, f"{number}, operator to bare client", cost.seconds / cost.bare, at_most=1.5)
    yield Figure(title, f"{number}, writes each, generated Secrets aside", cost.writes, at_most=6)
    yield Figure(title, f"{number}, generated Secrets each", cost.secrets)
    yield Figure(title, f"{number}, reads each", cost.reads)


def _resizer(costs: list[Cost]) -> Iterator[Figure]:
    for each in costs:
        yield Figure(GROWTH, f"{each.servers} servers, time each", each.milliseconds_each, "ms")
        yield Figure(GROWTH, f"{each.servers} servers, memory each", each.kilobytes_each, "KB")
    first, last = costs[0], costs[-1]
    grown = last.milliseconds_each / first.milliseconds_each
    # What the API server itself takes longer for is not the operator's.
    bare = (last.bare / last.servers) / (first.bare / first.servers)
    ours = f"time each, {last.servers} to {first.servers} servers, the operator to the bare client"
    yield Figure(GROWTH, f"time each, {last.servers} to {first.servers} servers", grown, at_most=1.1)
    yield Figure(GROWTH, "the same of the bare client", bare)
    yield Figure(GROWTH, ours, grown / bare, at_most=1.1)


def _later(operated: OperatorNamespace, bare_rotation: float, sizes: Sizes, say: Say) -> Iterator[Figure]:
    number = sizes.many
    memory = memory_megabytes(operated.operator.pid)["VmHWM"]
    yield Figure(MEMORY, f"{number} servers, at most", memory, "MB", at_most=150)
    for name, servers in (("single", 1), ("shared", sizes.sharing)):
        seconds = _rotated(operated, name, servers)
        yield Figure(LATER, f"a Secret of {servers} rotated, until the last template changed", seconds, "s", 2)
    yield Figure(LATER, f"{sizes.sharing} templates changed by a bare client", bare_rotation, "s")
    yield Figure(LATER, f"{sizes.sharing} templates, the operator to a bare client", seconds / bare_rotation)
    settled(operated)
    yield from _restarted(operated, say)
    yield from _idle(operated, sizes, say)
    before = memory_megabytes(operated.operator.pid)["VmRSS"]
    yield Figure(MEMORY, f"{number} servers, after a restart", before, "MB", at_most=150)
    create_all(operated.control_plane, SECRETS, (large_secret(f"foreign-{n}", NAMESPACE) for n in range(sizes.foreign)))
    settled(operated)
    with_foreign = memory_megabytes(operated.operator.pid)["VmRSS"]
    yield Figure(MEMORY, f"the same with {sizes.foreign} foreign Secrets of 1 MB", with_foreign, "MB", at_most=150)
    yield from _churned(operated, sizes, say)


def _rotated(operated: OperatorNamespace, secret: str, servers: int) -> float:
    former = {each["metadata"]["name"]: config_hash_of(each) for each in operated.list_all("statefulsets")}

    def has_changed(stateful_set: Manifest) -> bool:
        return config_hash_of(stateful_set) != former[stateful_set["metadata"]["name"]]

    def rotate() -> None:
        operated.put_secret(secret, **{**S3_VALUES, "secretAccessKey": "rotated"})

    return asyncio.run(until_all(operated.control_plane, STATEFUL_SETS, servers, has_changed, rotate))


def _restarted(operated: OperatorNamespace, say: Say) -> Iterator[Figure]:
    say("restart")
    operated.operator.stop()
    before = len(operated.requests())
    begun = monotonic()
    operated.operator.start()
    servers = len(operated.list_all("dittoservers"))
    until(lambda: metric(operated.operator, "controller_runtime_reconcile_total") >= servers, SECONDS, pause=0.2)
    until(lambda: not is_busy(operated.operator), SECONDS, pause=0.2)
    seconds = monotonic() - begun
    settled(operated)
    asked = operated.requests()[before:]
    yield Figure(LATER, f"restart with {servers} servers, until all were looked at", seconds, "s")
    yield Figure(LATER, "writes after the restart, but for the Lease", _writes(asked), at_most=0)


def _idle(operated: OperatorNamespace, sizes: Sizes, say: Say) -> Iterator[Figure]:
    say(f"idle for {sizes.idle_seconds:.0f} s")
    before = len(operated.requests())
    sleep(sizes.idle_seconds)
    asked = [each for each in operated.requests()[before:] if each.verb != "watch"]
    lease = len([each for each in asked if each.resource == "leases"])
    minutes = sizes.idle_seconds / 60
    others = (len(asked) - lease) / minutes
    yield Figure(LATER, "requests in an idle minute, but for watches and the Lease", others, at_most=0)
    yield Figure(LATER, "requests in an idle minute for the Lease", lease / minutes)


def _churned(operated: OperatorNamespace, sizes: Sizes, say: Say) -> Iterator[Figure]:
    """Of the time, a tenth is to get used to it: what is taken from then on is growth."""
    say(f"churn for {sizes.churn_seconds:.0f} s")
    asyncio.run(_churn(operated.control_plane, sizes.many, sizes.churn_seconds / 10))
    before = memory_megabytes(operated.operator.pid)["VmRSS"]
    asyncio.run(_churn(operated.control_plane, sizes.many, sizes.churn_seconds))
    after = memory_megabytes(operated.operator.pid)["VmRSS"]
    yield Figure(MEMORY, "before the churn", before, "MB")
    yield Figure(MEMORY, f"after {sizes.churn_seconds / 60:.3g} minutes of it", after, "MB", at_most=150)
    yield Figure(MEMORY, "after to before", after / before, at_most=1.1)


async def _churn(control_plane: ControlPlane, servers: int, seconds: float) -> None:
    """One server after the other is deleted, made again and changed, five times a second."""
    async with Cluster.connect(control_plane.kubeconfig) as client:
        end = monotonic() + seconds
        for number in count():
            if monotonic() > end:
                return
            manifest = namespaced_server(f"s{number % servers}", NAMESPACE, **s3())
            if number % 2:
                live = await client.get(DITTO_SERVERS, manifest["metadata"]["name"], NAMESPACE)
                await client.delete(DITTO_SERVERS, live)
                await client.create(DITTO_SERVERS, manifest)
            else:
                spec = {**manifest["spec"], "nfsPort": 3000 + number % 99}
                await client.apply(DITTO_SERVERS, {**manifest, "spec": spec})
            await asyncio.sleep(CHURN_SECONDS)


def _writes(asked: list[Request]) -> int:
    return len([each for each in asked if each.writes and each.resource != "leases"])
