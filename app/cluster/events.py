"""Kubernetes Events about DittoServers: what is said again is counted. They never fail or hold up what they tell of."""

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
THIS_PROCESS = platform.node()
WAITING = 1000
MESSAGE_CHARACTERS = 1024

# As the spam filter of client-go: so many Events of one server at once, then one in so many seconds.
BURST, SECONDS_EACH = 25, 300.0
# Of more servers than these, the one that was quiet for longest may have its burst again.
SERVERS = 4096

log = logging.getLogger(__name__)


class EventRecorder:
    """`reporter` says which of several operators it was; of a pod, its name."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime], reporter: str = THIS_PROCESS) -> None:
        self._cluster = cluster
        self._clock = clock
        self._reporter = reporter
        self._filter = _SpamFilter()
        self._waiting: deque[Manifest] = deque()
        self._recorded = asyncio.Event()
        self._full = False

    def record(self, server: Mapping[str, Any], event: Event) -> None:
        """To be sent by `run`; dropped when the server has had many of late, or when too many are waiting."""
        now = self._clock()
        if not self._filter.admits(server["metadata"]["uid"], now):
            return
        if len(self._waiting) >= WAITING:
            self._note_full()
            return
        said = {"type": event.type, "reason": event.reason, "message": _one_line(event.message)}
        self._waiting.append(_event(server, said, now, self._reporter))
        self._recorded.set()

    async def run(self) -> None:
        while True:
            await self._recorded.wait()
            await self._send_all()

    async def drain(self, seconds: float) -> None:
        """At the end, when `run` no longer runs: what is still waiting is sent, or given up after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._send_all()
        except TimeoutError:
            log.warning("events not sent", extra={"events": len(self._waiting), "reason": "the process ends"})

    async def _send_all(self) -> None:
        while self._waiting:
            await self._send(self._waiting[0])
            # Only now: what was being sent when `run` was cancelled is still there for `drain`.
            self._waiting.popleft()
        self._recorded.clear()
        self._full = False

    async def _send(self, event: Manifest) -> None:
        try:
            await self._create_or_count(event)
        except ClusterError as error:
            # Somebody else counted it just now, or it or its namespace has gone: nothing that anybody has to mend.
            level = logging.INFO if isinstance(error, Conflict | NotFound | NamespaceTerminating) else logging.WARNING
            about = {"namespace": event["metadata"]["namespace"], "object": event["involvedObject"]["name"]}
            log.log(level, "event not sent", extra={**about, "event": event["reason"], "reason": str(error)})

    async def _create_or_count(self, event: Manifest) -> None:
        try:
            await self._cluster.create(EVENTS, event)
        except Conflict:
            metadata = event["metadata"]
            found = await self._cluster.get(EVENTS, metadata["name"], metadata["namespace"])
            count = (found.get("count") or 0) + 1
            await self._cluster.replace(EVENTS, {**found, "count": count, "lastTimestamp": event["lastTimestamp"]})

    def _note_full(self) -> None:
        if not self._full:
            self._full = True
            log.warning("events dropped", extra={"reason": f"{WAITING} are waiting to be sent"})


class _SpamFilter:
    """Buckets of tokens, by the uid of the server: what is left, and since when."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def admits(self, uid: str, now: datetime) -> bool:
        left, since = self._buckets.pop(uid, (BURST, now))
        # Clocks are set back at times, which must not cost the server what it has left.
        left = min(BURST, left + max(0.0, (now - since).total_seconds()) / SECONDS_EACH)
        admitted = left >= 1
        self._buckets[uid] = (left - admitted, now)
        if len(self._buckets) > SERVERS:
            self._buckets.popitem(last=False)
        return admitted


def _event(server: Mapping[str, Any], said: Mapping[str, str], now: datetime, reporter: str) -> Manifest:
    about = server["metadata"]
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # The same Event has the same name in every replica and after a restart, so that it is found again and counted.
    name = f"{about['name']}.{_digest(about['uid'], said['type'], said['reason'], said['message'])}"
    return {
        "apiVersion": EVENTS.version,
        "kind": EVENTS.kind,
        "metadata": {"name": name, "namespace": about["namespace"]},
        "involvedObject": {
            "apiVersion": server["apiVersion"],
            "kind": server["kind"],
            "name": about["name"],
            "namespace": about["namespace"],
            "uid": about["uid"],
            "resourceVersion": about["resourceVersion"],
        },
        **said,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": reporter,
    }


def _digest(*parts: str) -> str:
    """Each part with its length before it, so that what ends one cannot be taken for the beginning of the next."""
    digest = hashlib.sha256()
    for part in map(str.encode, parts):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:16]


def _one_line(message: str) -> str:
    return " ".join(message.split())[:MESSAGE_CHARACTERS]
