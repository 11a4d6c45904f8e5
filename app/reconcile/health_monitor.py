"""Asks the servers whose pods are ready how they are, at intervals and after changes. It asks the API server nothing.

It decides nothing: what a server has reported is for `storage.stores` to judge.
"""

import asyncio
import heapq
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

from prometheus_client import Counter

from app.cluster.informers import Informers
from app.dittofs.client import ServerClient
from app.dittofs.errors import ServerError, ServerUnreachable
from app.storage.facts import Unknown
from app.storage.names import INSTANCE
from app.storage.objects import service_name
from app.storage.pod import container_status, pod_name
from app.storage.rollout import is_ready
from app.storage.server_health import ServerHealth, api_url, image_version, metrics_url
from app.storage.unstructured import Manifest, ObjectKey, is_terminating

INTERVAL_SECONDS = 30.0
# After a failure a server is asked again sooner, and only the last of these failures counts: one may be by chance.
RETRY_SECONDS = 5.0
MAX_FAILURES = 3
# However often something changes, and whoever changes it.
SHORTEST_INTERVAL_SECONDS = 1.0
# For each server there is in the beginning, so that not all of them are asked at once.
SPREAD_SECONDS = 0.02
MAX_CONCURRENT = 16
# To look at the pods of all servers at once would keep the event loop from the webhook.
KEYS_PER_TURN = 50

REQUESTS = Counter(
    "dittofs_operator_server_health_requests",
    "Requests for the health of a server, by result: answered, unreachable or unexpected.",
    ["result"],
)
for _result in ("answered", "unreachable", "unexpected"):
    REQUESTS.labels(_result)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Server:
    """A server that is asked. `instance` is the container that answers, `due` when it is asked next."""

    instance: tuple[str, str]
    url: str | None = None
    asked: float = -inf
    due: float = inf
    is_asked: bool = False
    failures: int = 0
    report: ServerHealth | Unknown | None = None


class HealthMonitor:
    """Asks while `run` runs; `change_handlers` are called with the server whose report is another one than before.

    `jitter` returns a number in [0, 1), which keeps servers apart that became ready together.
    """

    def __init__(
        self,
        informers: Informers,
        client: ServerClient,
        interval_seconds: float = INTERVAL_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.change_handlers: list[Callable[[ObjectKey], None]] = []
        self._informers = informers
        self._client = client
        self._interval_seconds = interval_seconds
        self._retry_seconds = retry_seconds
        self._jitter = jitter

        self._servers: dict[ObjectKey, _Server] = {}
        # An entry that differs from the server's `due` is stale, and skipped when it comes up.
        self._heap: list[tuple[float, ObjectKey]] = []
        self._busy = 0
        self._wake = asyncio.Event()
        self._is_running = False

        informers.pods.event_handlers.append(self._handle_pod)
        informers.services.event_handlers.append(self._handle_service)
        informers.servers.event_handlers.append(self._handle_server)

    def report(self, key: ObjectKey) -> ServerHealth | Unknown | None:
        """Returns what the server has reported, or why it does not answer; None before it was asked."""
        server = self._servers.get(key)
        return server.report if server else None

    def ask_soon(self, key: ObjectKey) -> None:
        """Has the server asked as soon as possible, unless its pod is not ready."""
        if server := self._servers.get(key):
            self._schedule(key, server, max(monotonic(), server.asked + SHORTEST_INTERVAL_SECONDS))

    async def run(self) -> None:
        """Runs until cancelled, and forgets every report then."""
        await self._informers.wait_for_sync()
        self._is_running = True

        keys = list(self._informers.servers)
        for number, key in enumerate(keys):
            self._watch(key, len(keys) * SPREAD_SECONDS * self._jitter())
            if number % KEYS_PER_TURN == 0:
                await asyncio.sleep(0)

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    while self._busy < MAX_CONCURRENT and (due := self._take(monotonic())):
                        self._busy += 1
                        group.create_task(self._ask(*due))

                    wait = self._heap[0][0] - monotonic() if self._heap and self._busy < MAX_CONCURRENT else None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()
        finally:
            self._is_running = False
            self._servers.clear()
            self._heap.clear()

    def _handle_pod(self, _: ObjectKey, pod: Manifest) -> None:
        metadata = pod["metadata"]
        name = (metadata.get("labels") or {}).get(INSTANCE, "")
        if metadata["name"] == pod_name(name):
            self._watch((metadata["namespace"], name))

    def _handle_service(self, key: ObjectKey, service: Manifest) -> None:
        name = (service["metadata"].get("labels") or {}).get(INSTANCE, "")
        server = self._servers.get((key[0], name))
        if server and key[1] == service_name(name, "api") and api_url(service) != server.url:
            self.ask_soon((key[0], name))

    def _handle_server(self, key: ObjectKey, _: Manifest) -> None:
        if key not in self._informers.servers:
            self._servers.pop(key, None)
        elif key not in self._servers:
            self._watch(key)

    def _watch(self, key: ObjectKey, delay: float = 0.0) -> None:
        """Has the server asked after the delay, unless its pod is the one that was ready before, or is not ready."""
        if not self._is_running:
            return

        namespace, name = key
        pod = self._informers.pods.get((namespace, pod_name(name)))
        if pod is None or not is_ready(pod) or is_terminating(pod) or key not in self._informers.servers:
            self._servers.pop(key, None)
            return

        instance = pod["metadata"]["uid"], str(container_status(pod).get("containerID") or "")
        server = self._servers.get(key)
        if server is None or server.instance != instance:
            self._servers[key] = server = _Server(instance, asked=server.asked if server else -inf)
            self._schedule(key, server, max(monotonic() + delay, server.asked + SHORTEST_INTERVAL_SECONDS))

    def _schedule(self, key: ObjectKey, server: _Server, due: float) -> None:
        if due < server.due:
            server.due = due
            heapq.heappush(self._heap, (due, key))
            self._wake.set()

    def _take(self, now: float) -> tuple[ObjectKey, _Server] | None:
        """Returns the next server that is due."""
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            server = self._servers.get(key)
            # One that is still being asked becomes due again when that has ended.
            if server and server.due == due and not server.is_asked:
                server.asked, server.due, server.is_asked = now, inf, True
                return key, server
        return None

    async def _ask(self, key: ObjectKey, server: _Server) -> None:
        try:
            report: ServerHealth | Unknown | None = await self._request(key, server)
            result, server.failures = "answered", 0
        except ServerError as error:
            server.failures += 1
            result = "unreachable" if isinstance(error, ServerUnreachable) else "unexpected"
            # The first reason stays, as the same cause may show in different ways.
            is_known = isinstance(server.report, Unknown) or server.failures < MAX_FAILURES
            report = server.report if is_known else Unknown(str(error))
        except Exception:
            # What one server answers must not keep the others from being asked, or end the process.
            log.exception("answer not processed", extra={"namespace": key[0], "server": key[1]})
            server.failures += 1
            result, report = "unexpected", Unknown("the operator failed to process the answer, and its log says where")
        finally:
            self._busy -= 1
            self._wake.set()
            server.is_asked = False

        REQUESTS.labels(result).inc()

        if self._servers.get(key) is not server:
            return

        wait = self._retry_seconds if 0 < server.failures < MAX_FAILURES else self._interval_seconds
        asked_meanwhile, server.due = server.due, inf
        self._schedule(key, server, min(asked_meanwhile, monotonic() + wait * (0.9 + 0.2 * self._jitter())))

        if report != server.report:
            if isinstance(report, Unknown):
                extra = {"namespace": key[0], "server": key[1], "reason": report.why}
                log.warning("server does not answer", extra=extra)
            elif isinstance(server.report, Unknown):
                log.info("server answers again", extra={"namespace": key[0], "server": key[1]})
            server.report = report
            for handler in self.change_handlers:
                handler(key)

    async def _request(self, key: ObjectKey, server: _Server) -> ServerHealth:
        namespace, name = key
        services = self._informers.services
        api = service_name(name, "api")
        server.url = api_url(services.get((namespace, api)))
        if server.url is None:
            raise ServerError(f"there is no Service {api} that leads to its pod")

        health = await self._client.get_health(
            server.url, metrics_url(services.get((namespace, service_name(name, "metrics"))))
        )
        if health.reports_stores and health.version:
            return health

        # The version cannot change while the server runs, and metrics that did not answer for once are no news.
        earlier = server.report if isinstance(server.report, ServerHealth) else None
        if earlier and earlier.started_at == health.started_at:
            if earlier.reports_stores and not health.reports_stores:
                health = replace(health, store_errors=earlier.store_errors, reports_stores=True)
            return replace(health, version=earlier.version)

        pod = self._informers.pods.get((namespace, pod_name(name)))
        return replace(health, version=image_version(container_status(pod or {}).get("image")))
