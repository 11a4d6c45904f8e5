"""Queues servers by the events of informers, and reconciles them with a number of workers.

This is the one place that handles what goes wrong with a DittoServer.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from prometheus_client import Counter, Gauge, Histogram

from app.cluster.informers import Informers
from app.reconcile.dependents import Dependents
from app.reconcile.queue import Queue
from app.reconcile.reconciler import Reconciler
from app.storage.names import INSTANCE
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import server_of_claim

# controller-runtime's names and labels, so that its dashboards and alerts serve here too.
_NAME = "dittoserver"
TOTAL = Counter("controller_runtime_reconcile", "Reconciles by result.", ["controller", "result"])
ERRORS = Counter("controller_runtime_reconcile_errors", "Reconciles that failed.", ["controller"]).labels(_NAME)
TIME = Histogram("controller_runtime_reconcile_time_seconds", "How long a reconcile took.", ["controller"])
ACTIVE = Gauge("controller_runtime_active_workers", "Workers that are reconciling.", ["controller"]).labels(_NAME)
MAX_WORKERS = Gauge("controller_runtime_max_concurrent_reconciles", "Maximum number of workers.", ["controller"])

# How many servers of one event are queued at once: to queue all of them would keep the event loop from the webhook.
MAX_KEYS_PER_TURN = 100

log = logging.getLogger(__name__)


class Controller:
    """Reconciles while `run` runs; it makes up for events at other times when it runs again."""

    def __init__(self, informers: Informers, reconciler: Reconciler, workers: int) -> None:
        self._informers = informers
        self._reconciler = reconciler
        self._workers = workers
        self._queue: Queue | None = None
        # Keys that are not queued yet, and whether they are urgent; first in, first out.
        self._pending: OrderedDict[ObjectKey, bool] = OrderedDict()
        self._wake = asyncio.Event()
        self._finishing = False
        self._busy = 0
        self._dependents = Dependents()
        MAX_WORKERS.labels(_NAME).set(workers)

        def handle_server(key: ObjectKey, manifest: Manifest) -> None:
            if key in informers.servers:
                self._dependents.put(key, manifest)
            else:
                self._dependents.remove(key)
            self._add([key])

        def handle_owned_object(key: ObjectKey, manifest: Manifest) -> None:
            labels = manifest["metadata"].get("labels") or {}
            self._add([(key[0], labels.get(INSTANCE, ""))])

        informers.servers.event_handlers.append(handle_server)
        for store in (informers.stateful_sets, informers.services, informers.config_maps, informers.pods):
            store.event_handlers.append(handle_owned_object)
        informers.claims.event_handlers.append(lambda key, _: self._add([(key[0], server_of_claim(key[1]) or "")]))
        informers.secrets_metadata.event_handlers.append(lambda key, _: self._add(self._dependents.of_secret(key)))
        informers.classes.event_handlers.append(lambda key, _: self._add(self._dependents.of_class(key[1])))
        # Not urgent: an Event only explains, and a tenant may write as many as they like.
        informers.warnings.event_handlers.append(lambda key: self._add([key], urgent=False))

    async def run(self) -> None:
        """Runs until cancelled, or until `finish` is called and the workers are done."""
        await self._informers.wait_for_sync()
        self._queue = queue = Queue()
        self._pending = OrderedDict.fromkeys(self._informers.servers, False)
        try:
            async with asyncio.TaskGroup() as group:
                while not self._finishing:
                    for _ in range(min(len(self._pending), MAX_KEYS_PER_TURN)):
                        key, urgent = self._pending.popitem(last=False)
                        if key in self._informers.servers:
                            queue.add(key, monotonic(), urgent=urgent)

                    while self._busy < self._workers and (next_key := queue.take(monotonic())):
                        self._busy += 1
                        group.create_task(self._work(next_key, queue))

                    if self._pending:
                        await asyncio.sleep(0)
                        continue
                    # Wait until a key is due and a worker free, or something happens.
                    self._wake.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(queue.wait(monotonic()) if self._busy < self._workers else None):
                            await self._wake.wait()
        finally:
            self._queue = None

    @property
    def running(self) -> bool:
        return self._queue is not None

    def wake(self, key: ObjectKey) -> None:
        """Has the server reconciled, while the controller runs."""
        self._add([key])

    def finish(self) -> None:
        self._finishing = True
        self._wake.set()

    async def _work(self, key: ObjectKey, queue: Queue) -> None:
        namespace, name = key
        started = monotonic()
        result = "error"
        ACTIVE.inc()

        try:
            # After a rewind nothing is decided until everything was listed again.
            await self._informers.wait_for_sync()
            outcome = await self._reconciler.reconcile(key)

            if outcome.retry:
                log.warning("not reconciled", extra={"namespace": namespace, "object": name, "reason": outcome.retry})
                queue.failed(key, monotonic())
            elif outcome.requeue_after is not None:
                queue.done(key, monotonic())
                queue.add_after(key, monotonic(), outcome.requeue_after)
                result = "requeue_after"
            else:
                queue.done(key, monotonic())
                result = "success"
        except Exception:
            # What is wrong with one server must not keep the others from being reconciled.
            log.exception("reconcile failed", extra={"namespace": namespace, "object": name})
            queue.failed(key, monotonic())
        finally:
            self._busy -= 1
            self._wake.set()
            ACTIVE.dec()
            TOTAL.labels(_NAME, result).inc()
            TIME.labels(_NAME).observe(monotonic() - started)
            if result == "error":
                ERRORS.inc()

    def _add(self, keys: Iterable[ObjectKey], *, urgent: bool = True) -> None:
        if self._queue is None:
            return
        for key in keys:
            self._pending[key] = urgent or self._pending.get(key, False)
        self._wake.set()
