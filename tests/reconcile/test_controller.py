"""What wakes which server, and what becomes of a failure. Nothing is reconciled here but by the tests' own reconcilers;
what the stores hear is told them by the tests, besides the caches of an empty namespace.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic

import pytest
from prometheus_client import REGISTRY

from app.cluster.informers import Informers
from app.cluster.reader import STATEFUL_SETS
from app.reconcile.concurrency import COMPUTING, ConcurrencyLimit
from app.reconcile.controller import MAX_KEYS_PER_TURN, RECHECK, RETRY, START, Controller
from app.reconcile.reconciler import Reconciler, Result
from app.storage.facts import StorageClass
from app.storage.names import INSTANCE
from app.storage.unstructured import Manifest, ObjectKey
from tests.controlplane.cluster import ControlPlane
from tests.harness.log_lines import record_lines
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.server_table import s3, server, storage
from tests.harness.wait import until_async
from tests.harness.warning_events import event

pytestmark = pytest.mark.anyio

Reconcile = Callable[[ObjectKey], Awaitable[Result]]
NEWS = 2**40
MADE = {"creationTimestamp": "2026-11-27T03:00:00Z"}


class Own(Reconciler):
    """Does what the test says, and counts it by the name of the server."""

    def __init__(self, reconcile: Reconcile) -> None:
        self._reconcile_by_test = reconcile
        self.done: Counter[str] = Counter()

    async def reconcile(self, key: ObjectKey) -> Result:
        result = await self._reconcile_by_test(key)
        if not result.retry:
            self.done[key[1]] += 1
        return result


async def nothing(_: ObjectKey) -> Result:
    return Result()


class World:
    """Its versions go on from beyond those of the API server, which is not asked for any of it."""

    def __init__(self, informers: Informers, namespace: str) -> None:
        self.informers = informers
        self.namespace = namespace
        self._version = NEWS

    def named(self, name: str, **labels: str) -> Manifest:
        self._version += 1
        version = str(self._version)
        return {"metadata": {"name": name, "namespace": self.namespace, "resourceVersion": version, "labels": labels}}

    def server(self, name: str, **spec: object) -> Manifest:
        manifest = {**server(name, **spec), **self.named(name)}
        self.informers.servers.put(manifest)
        return manifest

    def secret(self, name: str) -> None:
        self.informers.secrets_metadata.put(self.named(name))

    def storage_class(self, name: str) -> None:
        manifest = self.named(name)
        del manifest["metadata"]["namespace"]
        self.informers.classes.put(manifest)
        self.informers.classes.remove(manifest)


@pytest.fixture
async def world(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[World]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield World(informers, namespace)


@asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(controller.run())
        await until_async(lambda: controller.running)
        try:
            yield task
        finally:
            task.cancel()


async def test_every_server_is_looked_at_in_the_beginning_though_nobody_listened_then(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(4))
    world.server("one")
    world.server("two")

    assert not controller.running

    async with running(controller):
        await until_async(lambda: own.done == {"one": 1, "two": 1})

    assert not controller.running


async def test_a_secret_wakes_exactly_the_servers_that_name_it(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    world.server("one", **s3(secretName="shared"))
    world.server("two", **s3(secretName="shared"))
    world.server("other", **s3(secretName="its-own"))
    async with running(controller):
        await until_async(lambda: own.done.total() == 3)
        world.secret("shared")
        await until_async(lambda: own.done == {"one": 2, "two": 2, "other": 1})
        world.secret("named-by-none")
        world.secret("its-own")
        await until_async(lambda: own.done == {"one": 2, "two": 2, "other": 2})
        for generated in ("one-jwt-secret", "one-admin-bootstrap-credentials", "one-postgres"):
            before = own.done["one"]
            world.secret(generated)
            await until_async(lambda before=before: own.done["one"] > before)  # type: ignore[misc]

        assert own.done == {"one": 5, "two": 2, "other": 2}


async def test_a_secret_wakes_servers_that_were_known_before_anybody_listened(world: World) -> None:
    world.server("one", **s3(secretName="its-own"))
    own = Own(nothing)
    async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
        await until_async(lambda: own.done == {"one": 1})
        world.secret("its-own")
        await until_async(lambda: own.done == {"one": 2}, 10)


async def test_no_turn_of_the_event_loop_takes_up_all_that_a_change_concerns(world: World) -> None:
    """However many that are: what the webhook has to do meanwhile comes in between."""

    def added() -> float:
        return REGISTRY.get_sample_value("workqueue_adds_total", {"name": "dittoserver"}) or 0

    async def turns() -> list[float]:
        """How many each one adds, until as many more were reconciled as there are."""
        before, adds = own.done.total(), [added()]
        while own.done.total() < before + many:
            await asyncio.sleep(0)
            adds.append(added())
        return [after - before for before, after in pairwise(adds)]

    many = 5 * MAX_KEYS_PER_TURN
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(4))
    for number in range(many):
        world.server(f"s{number}", **s3(secretName="shared"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(controller.run())

        assert max(await turns()) <= MAX_KEYS_PER_TURN

        idle = added()
        world.secret("shared")

        assert added() == idle
        assert max(await turns()) <= MAX_KEYS_PER_TURN
        assert added() == idle + many

        task.cancel()


async def test_a_secret_that_a_server_no_longer_names_does_not_wake_it(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    world.server("one", **s3(secretName="former"))
    world.server("two", **s3(secretName="former"))
    async with running(controller):
        await until_async(lambda: own.done.total() == 2)
        world.server("one", **s3(secretName="present"))
        await until_async(lambda: own.done["one"] == 2)
        world.secret("former")
        await until_async(lambda: own.done["two"] == 2)

        assert own.done["one"] == 2


async def test_a_class_wakes_those_that_name_it_and_those_that_name_none(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    world.server("fast", **storage(storageClassName="of-controller-fast"))
    world.server("slow", **storage(storageClassName="of-controller-slow"))
    world.server("any", storage={"metadataSize": "1Gi"})
    async with running(controller):
        await until_async(lambda: own.done.total() == 3)
        before = Counter(own.done)
        world.storage_class("of-controller-fast")
        await until_async(lambda: own.done["fast"] > before["fast"] and own.done["any"] > before["any"])

        assert own.done["slow"] == before["slow"]

    assert StorageClass("of-controller-fast") not in world.informers.storage_classes.known


async def test_what_belongs_to_a_server_wakes_it(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    world.server("one")
    world.server("two")
    informers = world.informers
    stores = (informers.stateful_sets, informers.services, informers.config_maps, informers.pods)
    async with running(controller):
        await until_async(lambda: own.done.total() == 2)
        for count, store in enumerate(stores, 2):
            store.put(world.named("stray"))
            store.put(world.named("of-nobody", instance="nobody"))
            store.put(world.named("of-one", instance="one"))
            await until_async(lambda count=count: own.done["one"] == count)  # type: ignore[misc]

        assert own.done == {"one": 5, "two": 1}


async def test_a_claim_wakes_its_server_by_name(world: World) -> None:
    own = Own(nothing)
    world.server("one")

    async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
        await until_async(lambda: own.done.total() == 1)
        for name in ("stray", "cache-of-nobody-0", "logs-one-0", "cache-one-1", "cache-one-0"):
            world.informers.claims.put(world.named(name))
        await until_async(lambda: own.done["one"] == 2)

    assert own.done == {"one": 2}


async def test_an_event_wakes_its_server_once(world: World) -> None:
    own = Own(nothing)
    world.server("one")
    world.server("two")

    async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
        await until_async(lambda: own.done.total() == 2)
        for name in ("stray-0", "one-0", "one-0", "one-1"):
            world.informers.warnings.put(event(name=name, metadata=world.named(name)["metadata"] | MADE))
        await until_async(lambda: own.done["one"] == 2)
        world.informers.claims.put(world.named("cache-two-0"))
        await until_async(lambda: own.done["two"] == 2)

    assert own.done == {"one": 2, "two": 2}


async def test_a_server_that_is_gone_is_forgotten(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    gone = world.server("gone", **s3(secretName="shared"))
    world.server("stays", **s3(secretName="shared"))
    async with running(controller):
        await until_async(lambda: own.done.total() == 2)
        world.informers.servers.remove(gone)
        world.secret("shared")
        await until_async(lambda: own.done["stays"] == 2)

        assert own.done["gone"] == 1


@pytest.mark.parametrize(
    ("failure", "message"), [(Result(retry="no answer"), "not reconciled"), (KeyError("spec"), "reconcile failed")]
)
async def test_what_fails_is_tried_again_and_keeps_no_other_from_its_turn(
    world: World, failure: Result | Exception, message: str
) -> None:
    tried: Counter[str] = Counter()

    async def fail_twice(key: ObjectKey) -> Result:
        tried[key[1]] += 1
        if key[1] != "broken" or tried["broken"] == 3:
            return Result()
        if isinstance(failure, Exception):
            raise failure
        return failure

    own = Own(fail_twice)
    world.server("broken")
    world.server("sound")
    before = errors()
    with record_lines(logging.DEBUG) as lines:
        async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
            await until_async(lambda: own.done == {"broken": 1, "sound": 1})

    assert tried == {"broken": 3, "sound": 1}
    assert errors() == before + 2

    about = [line for line in lines if line["message"] in (message, "reconciled again")]

    assert {line["server"] for line in about} == {"broken"}
    assert [line["trigger"] for line in about] == [START, RETRY, RETRY]
    assert [line["level"] == "DEBUG" for line in about] == [False, True, False]
    assert len({line["reconcile_id"] for line in about}) == 3


async def test_another_reason_is_logged_and_the_same_is_not(world: World) -> None:
    reasons = ["one", "one", "two", "two", "one", ""]

    async def fail(_: ObjectKey) -> Result:
        return Result(retry=reasons.pop(0))

    own = Own(fail)
    world.server("broken")
    with record_lines() as lines:
        async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
            await until_async(lambda: own.done == {"broken": 1})

    assert [(line["message"], line.get("reason")) for line in lines] == [
        ("not reconciled", "one"),
        ("not reconciled", "two"),
        ("not reconciled", "one"),
        ("reconciled again", None),
    ]


async def test_a_deletion_is_logged_by_the_leader_alone(world: World) -> None:
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    with record_lines() as lines:
        world.informers.servers.remove(world.server("one"))
        server = world.server("two")
        async with running(controller):
            await until_async(lambda: own.done == {"two": 1})
            world.informers.servers.remove(server)

    assert [(line["message"], line["server"]) for line in lines] == [("server deleted", "two")]


async def test_lines_name_the_event_that_woke_the_server(world: World) -> None:
    async def warn(_: ObjectKey) -> Result:
        logging.getLogger("app").warning("looked at")
        return Result(0.01) if own.done["one"] == 3 else Result()

    own = Own(warn)
    with record_lines() as lines:
        async with running(Controller(world.informers, own, ConcurrencyLimit(1))):
            world.server("one", **s3(secretName="keys"))
            await until_async(lambda: own.done["one"] == 1)
            world.secret("keys")
            await until_async(lambda: own.done["one"] == 2)
            world.informers.services.put(world.named("one-nfs", **{INSTANCE: "one"}))
            await until_async(lambda: own.done["one"] == 3)
            world.secret("of-nobody")
            world.server("one", **s3(secretName="keys"))
            await until_async(lambda: own.done["one"] == 5)

    assert {line["server"] for line in lines} == {"one"}
    assert [line["trigger"] for line in lines] == [
        "DittoServer",
        "Secret keys",
        "Service one-nfs",
        "DittoServer",
        RECHECK,
    ]


async def test_a_look_later_is_had(world: World) -> None:
    own = Own(lambda _: later())

    async def later() -> Result:
        return Result(0.01 if own.done["one"] < 2 else None)

    world.server("one")
    async with running(Controller(world.informers, own, ConcurrencyLimit(4))):
        await until_async(lambda: own.done["one"] == 3)


async def test_nothing_is_started_before_the_api_server_wants_it(world: World) -> None:
    own, concurrency, started = Own(nothing), ConcurrencyLimit(4), monotonic()
    concurrency.handle_answer(0.0, 0.5)

    world.server("one")
    async with running(Controller(world.informers, own, concurrency)):
        await until_async(lambda: own.done["one"] == 1)

    assert monotonic() >= started + 0.5


@pytest.mark.parametrize(("asks", "most_at_work"), [(False, COMPUTING), (True, 8)], ids=["computing", "asking"])
async def test_reconciles_that_wait_for_answers_make_room(world: World, asks: bool, most_at_work: int) -> None:
    concurrency, may_end = ConcurrencyLimit(8), asyncio.Event()
    for _ in range(8):
        concurrency.handle_request()
        concurrency.handle_answer(0.0, None)
    at_work = 0

    async def reconcile(_: ObjectKey) -> Result:
        nonlocal at_work
        at_work += 1
        if asks:
            concurrency.handle_request()
        await may_end.wait()
        return Result()

    for number in range(9):
        world.server(f"s{number}")
    async with running(Controller(world.informers, Own(reconcile), concurrency)):
        await until_async(lambda: at_work == most_at_work)
        await asyncio.sleep(0.05)
        assert at_work == most_at_work

        may_end.set()
        await until_async(lambda: at_work == 9)


async def test_what_is_in_work_is_brought_to_its_end_before_it_finishes(world: World) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait(_: ObjectKey) -> Result:
        begun.set()
        await may_end.wait()
        return Result()

    own = Own(wait)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    world.server("one")
    world.server("two")
    async with running(controller) as task:
        await begun.wait()
        controller.finish()
        world.server("three")
        await asyncio.wait([task], timeout=0.2)

        assert not task.done()

        may_end.set()
        await asyncio.wait_for(task, 30)

        assert not controller.running

    assert own.done.total() == 1


async def test_stuck_workers_show_in_the_metrics_until_the_end(world: World) -> None:
    async def never_end(_: ObjectKey) -> Result:
        await asyncio.Event().wait()
        return Result()

    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(f"workqueue_{name}", {"name": "dittoserver"}) or 0

    world.server("one")
    world.server("two")
    async with running(Controller(world.informers, Own(never_end), ConcurrencyLimit(2))):
        await until_async(lambda: sample("longest_running_processor_seconds") > 0.1)

        assert sample("longest_running_processor_seconds") < sample("unfinished_work_seconds")

    assert sample("longest_running_processor_seconds") == sample("unfinished_work_seconds") == 0


def errors() -> float:
    labels = {"controller": "dittoserver"}
    return REGISTRY.get_sample_value("controller_runtime_reconcile_errors_total", labels) or 0


async def test_nothing_is_reconciled_amid_a_rewind(world: World) -> None:
    """What one store says of the restored history must not be compared with what another says of the lost one."""
    own = Own(nothing)
    controller = Controller(world.informers, own, ConcurrencyLimit(1))
    [cache] = world.informers._reflectors[STATEFUL_SETS]
    async with running(controller):
        cache._synced.clear()
        world.server("one")
        await until_async(lambda: controller._busy == 1)

        assert own.done.total() == 0

        # As soon as everything was listed again, the server that waited is reconciled.
        cache.relist()
        await until_async(lambda: own.done == {"one": 1})
