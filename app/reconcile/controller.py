"""Queues servers by the events of informers, and reconciles as many at once as the API server can bear.

This is the one place that handles what goes wrong with a DittoServer.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from time import monotonic

from prometheus_client import Counter, Gauge, Histogram

from app import logs
from app.cluster.informers import Informers
from app.cluster.reader import (
    CLAIMS,
    CONFIG_MAPS,
    DITTO_SERVERS,
    EVENTS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
)
from app.reconcile.concurrency import ConcurrencyLimit
from app.reconcile.dependents import Dependents
from app.reconcile.queue import Queue
from app.reconcile.reconciler import Reconciler
from app.storage.names import INSTANCE
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import server_of_claim

# controller-runtime's names and labels, so that its dashboards and alerts serve here too.
_NAME = "dittoserver"
TOTAL = Counter("controller_runtime_reconcile", "Reconciles by result.", ["controller", "result"])
for _result in ("success", "requeue_after", "error"):
    TOTAL.labels(_NAME, _result)
ERRORS = Counter("controller_runtime_reconcile_errors", "Reconciles that failed.", ["controller"]).labels(_NAME)
TIME = Histogram("controller_runtime_reconcile_time_seconds", "How long a reconcile took.", ["controller"]).labels(
    _NAME
)
ACTIVE = Gauge("controller_runtime_active_workers", "Workers that are reconciling.", ["controller"]).labels(_NAME)
MAX_WORKERS = Gauge(
    "controller_runtime_max_concurrent_reconciles",
    "Maximum number of workers, which adapts to how the API server answers.",
    ["controller"],
)
UNFINISHED = Gauge(
    "workqueue_unfinished_work_seconds",
    "For how long the keys that are being processed have been, in total; it grows while a worker is stuck.",
    ["name"],
).labels(_NAME)
LONGEST = Gauge(
    "workqueue_longest_running_processor_seconds",
    "For how long the key that has been processed for longest has been.",
    ["name"],
).labels(_NAME)

# What wakes a server besides the events of informers.
START, RETRY, RECHECK = "start", "retry", "recheck"
ID_BYTES = 4

# How many servers of one event are queued at once: to queue all of them would keep the event loop from the webhook.
MAX_KEYS_PER_TURN = 100

log = logging.getLogger(__name__)


class Controller:
    """Reconciles while `run` runs; it makes up for events at other times when it runs again."""

    def __init__(self, informers: Informers, reconciler: Reconciler, concurrency: ConcurrencyLimit) -> None:
        self._informers = informers
        self._reconciler = reconciler
        self._concurrency = concurrency
        self._queue: Queue | None = None
        # Keys that are not queued yet, whether they are urgent, and what woke them; first in, first out.
        self._pending: OrderedDict[ObjectKey, tuple[bool, str]] = OrderedDict()
        # What woke the keys that are queued, for the log.
        self._triggers: dict[ObjectKey, str] = {}
        # Why the last reconcile of a server has failed: a reason is logged once, and not for each retry.
        self._failures: dict[ObjectKey, str] = {}
        self._wake = asyncio.Event()
        self._finishing = False
        self._busy = 0
        self._dependents = Dependents()
        concurrency.start_handlers.append(self._wake.set)
        MAX_WORKERS.labels(_NAME).set_function(lambda: concurrency.limit)

        def handle_server(key: ObjectKey, manifest: Manifest) -> None:
            if key in informers.servers:
                self._dependents.put(key, manifest)
            else:
                self._dependents.remove(key)
                self._failures.pop(key, None)
                if self._queue is not None:
                    log.info("server deleted", extra={"namespace": key[0], "server": key[1]})
            self._add([key], DITTO_SERVERS.kind)

        def handle_owned(kind: str, key: ObjectKey, manifest: Manifest) -> None:
            labels = manifest["metadata"].get("labels") or {}
            self._add([(key[0], labels.get(INSTANCE, ""))], f"{kind} {key[1]}")

        def handle_claim(key: ObjectKey, _: Manifest) -> None:
            self._add([(key[0], server_of_claim(key[1]) or "")], f"{CLAIMS.kind} {key[1]}")

        def handle_secret(key: ObjectKey, _: Manifest) -> None:
            self._add(self._dependents.of_secret(key), f"{SECRETS.kind} {key[1]}")

        def handle_class(key: ObjectKey, _: Manifest) -> None:
            self._add(self._dependents.of_class(key[1]), f"{STORAGE_CLASSES.kind} {key[1]}")

        informers.servers.event_handlers.append(handle_server)
        for key in informers.servers:
            # No event follows if only this process changes the server.
            self._dependents.put(key, informers.servers.get(key) or {})
        for resource, store in (
            (STATEFUL_SETS, informers.stateful_sets),
            (SERVICES, informers.services),
            (CONFIG_MAPS, informers.config_maps),
            (PODS, informers.pods),
        ):
            store.event_handlers.append(partial(handle_owned, resource.kind))
        informers.claims.event_handlers.append(handle_claim)
        informers.secrets_metadata.event_handlers.append(handle_secret)
        informers.classes.event_handlers.append(handle_class)

        # Not urgent: an Event only explains, and a tenant may write as many as they like.
        informers.warnings.event_handlers.append(lambda key: self._add([key], EVENTS.kind, urgent=False))

    async def run(self) -> None:
        """Runs until cancelled, or until `finish` is called and the workers are done."""
        await self._informers.wait_for_sync()
        await self._informers.fetch_generated_secrets()
        self._queue = queue = Queue()
        self._pending = OrderedDict.fromkeys(self._informers.servers, (False, START))
        self._triggers.clear()
        UNFINISHED.set_function(lambda: sum(self._unfinished_seconds()))
        LONGEST.set_function(lambda: max(self._unfinished_seconds(), default=0.0))

        try:
            async with asyncio.TaskGroup() as group:
                while not self._finishing:
                    for _ in range(min(len(self._pending), MAX_KEYS_PER_TURN)):
                        key, (urgent, trigger) = self._pending.popitem(last=False)
                        if key in self._informers.servers:
                            queue.add(key, monotonic(), urgent=urgent)
                            if self._triggers.get(key) in (None, RETRY, RECHECK):
                                self._triggers[key] = trigger

                    while self._may_start() and (next_key := queue.take(monotonic())):
                        self._busy += 1
                        group.create_task(self._correlate(next_key, queue))

                    if self._pending:
                        await asyncio.sleep(0)
                        continue

                    # Wait until a key is due and a worker free, or something happens.
                    self._wake.clear()
                    wait = queue.wait(monotonic()) if self._busy < self._concurrency.allowed else None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(None if wait is None else max(wait, self._concurrency.pause)):
                            await self._wake.wait()
        finally:
            self._queue = None

    @property
    def running(self) -> bool:
        return self._queue is not None

    def wake(self, key: ObjectKey, trigger: str) -> None:
        """Has the server reconciled, while the controller runs."""
        self._add([key], trigger)

    def finish(self) -> None:
        self._finishing = True
        self._wake.set()

    def _may_start(self) -> bool:
        """Tells whether another reconcile may start beside those that are under way."""
        return self._busy < self._concurrency.allowed and not self._concurrency.pause

    def _unfinished_seconds(self) -> list[float]:
        # A queue without keys that wait counts as false.
        return [] if self._queue is None else self._queue.unfinished_seconds(monotonic())

    async def _correlate(self, key: ObjectKey, queue: Queue) -> None:
        """Reconciles the server; all lines that are logged of that have the same fields."""
        namespace, name = key
        trigger, identity = self._triggers.pop(key, START), secrets.token_hex(ID_BYTES)
        with logs.correlate(reconcile_id=identity, namespace=namespace, server=name, trigger=trigger):
            await self._work(key, queue)

    async def _work(self, key: ObjectKey, queue: Queue) -> None:
        started = monotonic()
        result = "error"
        ACTIVE.inc()

        try:
            # After a rewind nothing is decided until everything was listed again.
            await self._informers.wait_for_sync()
            outcome = await self._reconciler.reconcile(key)

            if outcome.retry:
                level = self._failure_level(key, outcome.retry, logging.WARNING)
                log.log(level, "not reconciled", extra={"reason": outcome.retry})
                self._fail(key, queue)
            elif outcome.requeue_after is not None:
                queue.done(key, monotonic())
                queue.add_after(key, monotonic(), outcome.requeue_after)
                self._triggers.setdefault(key, RECHECK)
                result = "requeue_after"
            else:
                queue.done(key, monotonic())
                result = "success"
        except Exception as error:
            # What is wrong with one server must not keep the others from being reconciled.
            log.log(self._failure_level(key, repr(error), logging.ERROR), "reconcile failed", exc_info=True)
            self._fail(key, queue)
        else:
            if not outcome.retry and key in self._failures:
                del self._failures[key]
                log.info("reconciled again")
        finally:
            self._busy -= 1
            self._wake.set()
            ACTIVE.dec()
            TOTAL.labels(_NAME, result).inc()
            seconds = monotonic() - started
            TIME.observe(seconds)
            if result == "error":
                ERRORS.inc()

            log.debug("reconcile ended", extra={"result": result, "milliseconds": round(seconds * 1000, 3)})

    def _failure_level(self, key: ObjectKey, reason: str, level: int) -> int:
        """Returns the level for a failure: `level` for one that is new, and debug for one that goes on."""
        before = self._failures.get(key)
        if key in self._informers.servers:
            self._failures[key] = reason
        return logging.DEBUG if reason == before else level

    def _fail(self, key: ObjectKey, queue: Queue) -> None:
        queue.failed(key, monotonic())
        self._triggers.setdefault(key, RETRY)

    def _add(self, keys: Iterable[ObjectKey], trigger: str, *, urgent: bool = True) -> None:
        if self._queue is None:
            return

        for key in keys:
            was_urgent, first_trigger = self._pending.get(key, (False, trigger))
            self._pending[key] = urgent or was_urgent, first_trigger
        self._wake.set()
