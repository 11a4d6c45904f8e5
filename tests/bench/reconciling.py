"""Measures what new servers cost in time, requests and memory, and what a restart, idling and a rotation cost.

Each number of servers has its own control plane, and so has the bare client that the operator is compared with.
"""

import asyncio
import base64
import json
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
from app.storage.objects import Owner, admin_secret, config_map, jwt_secret, stateful_set
from app.storage.pod import PodRevision, config_hash_of
from app.storage.reading import read
from app.storage.services import services
from app.storage.unstructured import Manifest, ObjectKey
from tests.bench.figures import Figure
from tests.bench.sizes import Sizes
from tests.bench.surroundings import cluster
from tests.controlplane.cluster import ControlPlane
from tests.harness.editing import delete, edit
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
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import s3
from tests.harness.wait import until

NAMESPACE = "reconciled"
# More than this are not faster.
CONNECTIONS = 16
SECONDS = 1800.0
CHURN_SECONDS = 0.2
STEPS_SECONDS = 10.0
# Of the interpreter: free memory differs by this much from minute to minute.
FOREIGN_MEGABYTES = 1
RECONCILING, GROWTH, LATER, MEMORY = (
    "Reconciling new servers",
    "How cost grows with the number of servers",
    "Restart, idling, rotation",
    "Memory",
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """The cost of so many new servers.

    `bare` is the time of a client that only creates the objects. Memory is in megabytes.
    """

    servers: int
    bare: float
    seconds: float
    writes: float
    events: float
    secrets: float
    reads: float
    lines: float
    idle_memory: float
    memory: float

    @property
    def milliseconds_each(self) -> float:
        return 1000 * self.seconds / self.servers

    @property
    def kilobytes_each(self) -> float:
        return 1024 * (self.memory - self.idle_memory) / self.servers


def measure(sizes: Sizes, say: Say) -> Iterator[Figure | Cost]:
    """Yields figures, and costs for the plot."""
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
                yield Figure(MEMORY, "idle, without servers", costs[-1].idle_memory, "MB", at_most=75)
                yield from _later(operated, rotation, sizes, say)
                yield from _longest_step(operated, sizes, say)

    yield from _growth(costs)


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
    asyncio.run(_create_bare(control_plane, number))
    seconds = monotonic() - begun
    say(f"{number} servers by a bare client: {seconds:.1f} s")
    return seconds


async def _create_bare(control_plane: ControlPlane, number: int) -> None:
    """Creates the DittoServers and all their objects."""

    async def create(server: Manifest) -> None:
        live = await client.create(DITTO_SERVERS, server)
        for resource, manifest in belongings(live):
            await client.create(resource, manifest)

    async with Cluster.connect(control_plane.kubeconfig) as client:
        await run_jobs(map(create, new_servers(number, 0)), CONNECTIONS)


def _bare_rotation(control_plane: ControlPlane, sizes: Sizes) -> float:
    """Returns the seconds it takes to change the templates of the servers that share a Secret, once all pods exist."""
    pods = Selection(PODS, NAMESPACE).path
    until(lambda: len(control_plane.get(pods)["items"]) == sizes.many, SECONDS, pause=1)

    begun = monotonic()
    asyncio.run(_change_templates(control_plane, sizes.sharing))
    return monotonic() - begun


async def _change_templates(control_plane: ControlPlane, number: int) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as client:
        servers = (await client.list(DITTO_SERVERS, NAMESPACE)).items[:number]
        templates = (_stateful_set(server, "1" * 64) for server in servers)
        await run_jobs((client.apply(STATEFUL_SETS, template) for template in templates), CONNECTIONS)


def new_servers(number: int, sharing: int) -> Iterator[Manifest]:
    """Yields servers: the first ones share a Secret, the next has its own, and the rest share another."""
    for index in range(number):
        secret = "shared" if index < sharing else "single" if index == sharing else "s3"
        yield namespaced_server(f"s{index}", NAMESPACE, **s3(secretName=secret))


def belongings(server: Manifest) -> Iterator[tuple[Resource, Manifest]]:
    owner, spec = _owner(server), read(server).server.spec
    yield CONFIG_MAPS, config_map(owner, spec)
    yield SECRETS, jwt_secret(owner, b"j" * 64)
    yield SECRETS, admin_secret(owner, "p" * 24)
    yield STATEFUL_SETS, _stateful_set(server, "0" * 64)
    for service in services(owner, spec):
        yield SERVICES, service


def _stateful_set(server: Manifest, digest: str) -> Manifest:
    return stateful_set(_owner(server), read(server).server.spec, PodRevision(config_hash=digest))


def _owner(server: Manifest) -> Owner:
    metadata = server["metadata"]
    return Owner(metadata["name"], metadata["namespace"], metadata["uid"])


def _cost(operated: OperatorNamespace, number: int, bare: float, sizes: Sizes, say: Say) -> Cost:
    idle = memory_megabytes(operated.operator.pid)["VmRSS"]
    before, lines = len(operated.requests()), log_lines(operated)
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
    requests = operated.requests()[before:]
    kinds = Counter(f"{request.verb} {request.resource}" for request in requests if request.writes)

    say(f"{number} servers by the operator: {seconds:.1f} s")
    say(f"  writes: {', '.join(f'{times} {kind}' for kind, times in kinds.most_common())}")
    wait_until_settled(operated)

    writes = [
        request for request in requests if request.writes and request.resource not in ("leases", "secrets", "events")
    ]
    events = [request for request in requests if request.writes and request.resource == "events"]
    secrets = [request for request in requests if (request.verb, request.resource) == ("create", "secrets")]
    reads = [request for request in requests if request.verb in ("get", "list")]
    return Cost(
        servers=number,
        bare=bare,
        seconds=seconds,
        writes=len(writes) / number,
        events=len(events) / number,
        secrets=len(secrets) / number,
        reads=len(reads) / number,
        lines=(log_lines(operated) - lines) / number,
        idle_memory=idle,
        memory=memory_megabytes(operated.operator.pid)["VmRSS"],
    )


def log_lines(operated: OperatorNamespace) -> int:
    return operated.operator.log.read_bytes().count(b"\n")


def is_observed(server: Manifest) -> bool:
    generation = (server.get("status") or {}).get("observedGeneration")
    return bool(generation == server["metadata"]["generation"])


async def until_all(
    control_plane: ControlPlane,
    resource: Resource,
    number: int,
    holds: Callable[[Manifest], bool],
    do: Callable[[], None],
) -> float:
    """Calls `do` and watches until a condition holds for so many objects; returns the seconds from the call."""
    store, matching = Store(lambda manifest: {"metadata": manifest["metadata"]}), set[ObjectKey]()
    all_hold = asyncio.Event()

    def check(key: ObjectKey, manifest: Manifest) -> None:
        if holds(manifest):
            matching.add(key)
        if len(matching) == number:
            all_hold.set()

    async with Cluster.connect(control_plane.kubeconfig) as client:
        reflector = Reflector(client, Selection(resource, NAMESPACE), store)
        async with asyncio.TaskGroup() as group, asyncio.timeout(SECONDS):
            watching = group.create_task(reflector.run())
            await reflector.wait_for_sync()

            store.event_handlers.append(check)
            begun = monotonic()
            doing = group.create_task(asyncio.to_thread(do))
            await all_hold.wait()
            seconds = monotonic() - begun
            await doing
            watching.cancel()

    return seconds


def wait_until_settled(operated: OperatorNamespace) -> None:
    """Waits until claims and pods exist as well, and nothing is left to do."""
    until(lambda: reconciled_nothing(operated), SECONDS, pause=0)


def reconciled_nothing(operated: OperatorNamespace, seconds: float = 3.0) -> bool:
    """Waits so many seconds and tells whether nothing was reconciled meanwhile."""
    before = metric(operated.operator, "controller_runtime_reconcile_total")
    sleep(seconds)
    return metric(operated.operator, "controller_runtime_reconcile_total") == before and not is_busy(operated.operator)


def _figures(cost: Cost) -> Iterator[Figure]:
    title, number = RECONCILING, f"{cost.servers} servers"
    yield Figure(title, f"{number}, a bare client", cost.bare, "s")
    yield Figure(title, f"{number}, the operator", cost.seconds, "s")
    yield Figure(title, f"{number}, operator to bare client", cost.seconds / cost.bare, at_most=1.15)
    yield Figure(title, f"{number}, writes each, generated Secrets and Events aside", cost.writes, at_most=6)
    yield Figure(title, f"{number}, Events each", cost.events, at_most=1)
    yield Figure(title, f"{number}, generated Secrets each", cost.secrets)
    yield Figure(title, f"{number}, reads each", cost.reads)
    yield Figure(title, f"{number}, log lines each", cost.lines)


def _growth(costs: list[Cost]) -> Iterator[Figure]:
    for cost in costs:
        yield Figure(GROWTH, f"{cost.servers} servers, time each", cost.milliseconds_each, "ms")
        yield Figure(GROWTH, f"{cost.servers} servers, memory each", cost.kilobytes_each, "KB")

    first, last = costs[0], costs[-1]
    growth = last.milliseconds_each / first.milliseconds_each
    # The operator is not to blame where the API server itself takes longer.
    bare = (last.bare / last.servers) / (first.bare / first.servers)
    ours = f"time each, {last.servers} to {first.servers} servers, the operator to the bare client"
    yield Figure(GROWTH, f"time each, {last.servers} to {first.servers} servers", growth)
    yield Figure(GROWTH, "the same of the bare client", bare)
    yield Figure(GROWTH, ours, growth / bare, at_most=1)


def _later(operated: OperatorNamespace, bare_rotation: float, sizes: Sizes, say: Say) -> Iterator[Figure]:
    number = sizes.many
    memory = memory_megabytes(operated.operator.pid)["VmHWM"]
    yield Figure(MEMORY, f"{number} servers, at most", memory, "MB", at_most=95)

    for name, servers in (("single", 1), ("shared", sizes.sharing)):
        seconds = _rotate(operated, name, servers)
        yield Figure(LATER, f"a Secret of {servers} rotated, until the last template changed", seconds, "s", 2)
    yield Figure(LATER, f"{sizes.sharing} templates changed by a bare client", bare_rotation, "s")
    yield Figure(
        LATER, f"{sizes.sharing} templates, the operator to a bare client", seconds / bare_rotation, at_most=1.5
    )

    wait_until_settled(operated)
    yield from _restart(operated, say)
    yield from _idle(operated, sizes, say)

    before = memory_megabytes(operated.operator.pid)["VmRSS"]
    yield Figure(MEMORY, f"{number} servers, after a restart", before, "MB", at_most=95)
    create_all(operated.control_plane, SECRETS, (large_secret(f"foreign-{n}", NAMESPACE) for n in range(sizes.foreign)))
    wait_until_settled(operated)
    with_foreign = memory_megabytes(operated.operator.pid)["VmRSS"]
    more = with_foreign - before
    yield Figure(MEMORY, f"what {sizes.foreign} foreign Secrets of 1 MB add", more, "MB", at_most=FOREIGN_MEGABYTES)

    yield from _churn(operated, sizes, say)


def _rotate(operated: OperatorNamespace, secret: str, servers: int) -> float:
    hashes = {live["metadata"]["name"]: config_hash_of(live) for live in operated.list_all("statefulsets")}

    def has_changed(stateful_set: Manifest) -> bool:
        return config_hash_of(stateful_set) != hashes[stateful_set["metadata"]["name"]]

    def rotate() -> None:
        # To start kubectl would take up to a second of the time that is measured.
        asyncio.run(_change_secret(operated.control_plane, secret))

    return asyncio.run(until_all(operated.control_plane, STATEFUL_SETS, servers, has_changed, rotate))


async def _change_secret(control_plane: ControlPlane, name: str) -> None:
    def rotated(live: Manifest) -> Manifest:
        return {**live, "data": {**live["data"], "secretAccessKey": base64.b64encode(b"rotated").decode()}}

    async with Cluster.connect(control_plane.kubeconfig) as client:
        await edit(client, SECRETS, (NAMESPACE, name), rotated)


def _restart(operated: OperatorNamespace, say: Say) -> Iterator[Figure]:
    say("restart")
    operated.operator.stop()
    before = len(operated.requests())

    begun = monotonic()
    operated.operator.start()
    servers = len(operated.list_all("dittoservers"))
    until(lambda: metric(operated.operator, "controller_runtime_reconcile_total") >= servers, SECONDS, pause=0.2)
    until(lambda: not is_busy(operated.operator), SECONDS, pause=0.2)
    seconds = monotonic() - begun
    wait_until_settled(operated)

    requests = operated.requests()[before:]
    writes = [request for request in requests if request.writes and request.resource != "leases"]
    yield Figure(LATER, f"restart with {servers} servers, until all were looked at", seconds, "s", at_most=5)
    yield Figure(LATER, "writes after the restart, but for the Lease", len(writes), at_most=0)


def _idle(operated: OperatorNamespace, sizes: Sizes, say: Say) -> Iterator[Figure]:
    say(f"idle for {sizes.idle_seconds:.0f} s")
    before, lines = len(operated.requests()), log_lines(operated)
    sleep(sizes.idle_seconds)

    requests = [request for request in operated.requests()[before:] if request.verb != "watch"]
    lease = len([request for request in requests if request.resource == "leases"])
    minutes = sizes.idle_seconds / 60
    others = (len(requests) - lease) / minutes
    yield Figure(LATER, "requests in an idle minute, but for watches and the Lease", others, at_most=0)
    yield Figure(LATER, "requests in an idle minute for the Lease", lease / minutes)
    lines_a_day = (log_lines(operated) - lines) / minutes * 1440 / sizes.many
    yield Figure(LATER, "log lines per server and day, by an idle minute", lines_a_day, at_most=0)


def _longest_step(operated: OperatorNamespace, sizes: Sizes, say: Say) -> Iterator[Figure]:
    """Yields the longest step of the event loop: from a start on, in a rotation, and while servers change."""
    say("steps of the event loop")
    steps = operated.operator.folder / "steps.json"
    operated.operator.stop()
    operated.operator.module = ("tests.harness.event_loop_steps", steps)

    operated.operator.start()
    wait_until_settled(operated)
    operated.put_secret("shared", **{**S3_VALUES, "secretAccessKey": "rotated again"})
    asyncio.run(_change_servers(operated.control_plane, sizes.many, STEPS_SECONDS))
    wait_until_settled(operated)
    operated.operator.stop()

    longest: list[tuple[float, str]] = json.loads(steps.read_text())
    for seconds, what in longest[:5]:
        say(f"  {1000 * seconds:.1f} ms: {what}")
    title = f"longest step of the event loop with {sizes.many} servers: start, rotation, churn"
    yield Figure(LATER, title, 1000 * longest[0][0], "ms", at_most=5)


def _churn(operated: OperatorNamespace, sizes: Sizes, say: Say) -> Iterator[Figure]:
    """Yields the memory before and after a churn. A tenth of the time serves to warm up first."""
    say(f"churn for {sizes.churn_seconds:.0f} s")
    asyncio.run(_change_servers(operated.control_plane, sizes.many, sizes.churn_seconds / 10))

    before = memory_megabytes(operated.operator.pid)["VmRSS"]
    asyncio.run(_change_servers(operated.control_plane, sizes.many, sizes.churn_seconds))
    after = memory_megabytes(operated.operator.pid)["VmRSS"]

    yield Figure(MEMORY, "before the churn", before, "MB")
    yield Figure(MEMORY, f"after {sizes.churn_seconds / 60:.3g} minutes of it", after, "MB", at_most=95)
    yield Figure(MEMORY, "after to before", after / before, at_most=1.1)


async def _change_servers(control_plane: ControlPlane, servers: int, seconds: float) -> None:
    """Recreates or changes one server after the other, five times a second."""
    async with Cluster.connect(control_plane.kubeconfig) as client:
        end = monotonic() + seconds
        for number in count():
            if monotonic() > end:
                return

            manifest = namespaced_server(f"s{number % servers}", NAMESPACE, **s3())
            if number % 2:
                await delete(client, DITTO_SERVERS, (NAMESPACE, manifest["metadata"]["name"]))
                await client.create(DITTO_SERVERS, manifest)
            else:
                spec = {**manifest["spec"], "nfsPort": 3000 + number % 99}
                await client.apply(DITTO_SERVERS, {**manifest, "spec": spec})

            await asyncio.sleep(CHURN_SECONDS)
