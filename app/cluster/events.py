"""Records Kubernetes Events about DittoServers, and counts repeated ones. It never delays or fails what it reports."""

import asyncio
import hashlib
import logging
import platform
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, Conflict, NamespaceTerminating, NotFound
from app.cluster.reader import EVENTS
from app.storage.events import Event
from app.storage.unstructured import Manifest

COMPONENT = "dittofs-operator"
QUEUE_SIZE = 1000
MESSAGE_CHARACTERS = 1024

# Like the spam filter of client-go: a burst of Events per server, then one in this many seconds.
BURST_SIZE = 25
REFILL_SECONDS = 300.0
# With more servers than these, the one that was quiet for longest gets its burst back.
FILTERED_SERVERS = 4096

log = logging.getLogger(__name__)


class EventRecorder:
    """Queues Events and sends them in the background; `reporter` names this instance of the operator."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime], reporter: str = platform.node()) -> None:
        self._cluster = cluster
        self._clock = clock
        self._reporter = reporter
        self._filter = _SpamFilter()
        self._queue: deque[Manifest] = deque()
        self._recorded = asyncio.Event()
        self._is_full = False

    def record(self, server: Mapping[str, Any], event: Event) -> None:
        """Queues an Event for `run`, or drops it when the server had many recently or the queue is full."""
        now = self._clock()
        if not self._filter.admits(server["metadata"]["uid"], now):
            return

        if len(self._queue) >= QUEUE_SIZE:
            if not self._is_full:
                log.warning("events dropped", extra={"reason": f"{QUEUE_SIZE} are waiting to be sent"})
            self._is_full = True
            return

        self._queue.append(_manifest(server, event, now, self._reporter))
        self._recorded.set()

    async def run(self) -> None:
        while True:
            await self._recorded.wait()
            await self._send_all()

    async def drain(self, seconds: float) -> None:
        """Sends what is still queued after `run` has ended, and gives up after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._send_all()
        except TimeoutError:
            log.warning("events not sent", extra={"events": len(self._queue), "reason": "the process ends"})

    async def _send_all(self) -> None:
        while self._queue:
            event = self._queue[0]
            metadata, involved = event["metadata"], event["involvedObject"]
            try:
                try:
                    await self._cluster.create(EVENTS, event)
                except Conflict:
                    counted = await self._cluster.get(EVENTS, metadata["name"], metadata["namespace"])
                    changes = {"count": (counted.get("count") or 0) + 1, "lastTimestamp": event["lastTimestamp"]}
                    await self._cluster.replace(EVENTS, {**counted, **changes})
            except ClusterError as error:
                # When another replica counted it just now, or it or its namespace is gone, nobody has to do anything.
                is_normal = isinstance(error, Conflict | NotFound | NamespaceTerminating)
                about = {"namespace": metadata["namespace"], "kind": involved["kind"], "object": involved["name"]}
                extra = {**about, "event": event["reason"], "reason": str(error)}
                log.log(logging.INFO if is_normal else logging.WARNING, "event not sent", extra=extra)
            # An Event stays queued while it is sent, so that `drain` still finds it after `run` was cancelled.
            self._queue.popleft()

        self._recorded.clear()
        self._is_full = False


class _SpamFilter:
    """Keeps a token bucket for each server, by UID: the tokens left, and the time of the last Event."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def admits(self, uid: str, now: datetime) -> bool:
        tokens, since = self._buckets.pop(uid, (BURST_SIZE, now))
        # A clock that is set back must not cost the server any tokens.
        tokens = min(BURST_SIZE, tokens + max(0.0, (now - since).total_seconds()) / REFILL_SECONDS)

        admitted = tokens >= 1
        self._buckets[uid] = (tokens - admitted, now)
        if len(self._buckets) > FILTERED_SERVERS:
            self._buckets.popitem(last=False)
        return admitted


def _manifest(server: Mapping[str, Any], event: Event, now: datetime, reporter: str) -> Manifest:
    metadata = server["metadata"]
    message = " ".join(event.message.split())[:MESSAGE_CHARACTERS]
    timestamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # The same Event has the same name in every replica and after a restart, so that it is counted. The length before
    # each part keeps the end of one from passing for the beginning of the next.
    digest = hashlib.sha256()
    for part in map(str.encode, (metadata["uid"], event.type, event.reason, message)):
        digest.update(len(part).to_bytes(8) + part)

    return {
        "apiVersion": EVENTS.version,
        "kind": EVENTS.kind,
        "metadata": {"name": f"{metadata['name']}.{digest.hexdigest()[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": server["apiVersion"],
            "kind": server["kind"],
            **{name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
        },
        "type": event.type,
        "reason": event.reason,
        "message": message,
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": reporter,
    }
