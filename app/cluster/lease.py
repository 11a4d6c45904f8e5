"""Leader election by a Lease: of several replicas one may write. It never writes anything but the Lease.

As in client-go, a holder that could not renew in time stops before another may begin. What others say of time is not
believed: how long their record has not changed is measured here, by a clock that nobody sets. A record that went back
to an earlier version, because etcd was restored from a backup, says nothing about who leads: whoever led before may
believe for a while that it still does, so the Lease is not taken until that has run out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from prometheus_client import Gauge

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, Conflict, NotFound
from app.cluster.reader import LEASES

NAME = "dittofs-operator"

# controller-runtime's name and label.
LEADER = Gauge("leader_election_master_status", "1 while this process is the leader.", ["name"])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds: how long a record counts, after how long without renewal its holder stops, and between attempts."""

    duration: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Lease:
    """One candidate; `identity` is its own alone, a restarted process has another."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str, timing: LeaseTiming = LeaseTiming()) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._timing = timing
        self._renewed = float("-inf")
        self._record: dict[str, Any] | None = None
        self._seen = 0.0
        self._latest = 0
        self._rewound = float("-inf")

    def held(self) -> bool:
        """Whether it may be relied upon at this moment: also false for a process that was stopped for a while."""
        return monotonic() < self._renewed + self._timing.renew

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Leads whenever it is this one's turn, until `lead` ends of itself; the Lease is given back in the end.

        When cancelled it stops leading first.
        """
        try:
            finished = False
            while not finished:
                while not await self._try_acquire_or_renew():  # noqa: ASYNC110 - nobody says when the Lease is free
                    await asyncio.sleep(self._timing.retry)
                log.info("leading", extra={"identity": self._identity})
                finished = await self._lead(lead)
                log.info("no longer leading", extra={"identity": self._identity})
        finally:
            await self._release()

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Whether `lead` has ended of itself; otherwise the Lease is lost."""
        with LEADER.labels(NAME).track_inprogress():
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(_await(lead))
                while self.held():
                    await asyncio.wait([leading], timeout=self._timing.retry)
                    if leading.done():
                        return True
                    if not await self._try_acquire_or_renew() and self._is_anothers():
                        break
                leading.cancel()
        self._renewed = float("-inf")
        return False

    async def _try_acquire_or_renew(self) -> bool:
        """One attempt to take the Lease or to keep it, shorter than what is left of it."""
        begun = monotonic()
        try:
            async with asyncio.timeout(self._timing.renew / 2):
                taken = await self._acquire_or_renew()
        except (ClusterError, TimeoutError) as error:
            if isinstance(error, Conflict):
                self._record = None
            log.warning("lease not renewed", extra={"reason": str(error) or "no answer in time"})
            return False
        if taken:
            self._renewed = begun
        return taken

    async def _acquire_or_renew(self) -> bool:
        if self._record is None or self._is_anothers():
            try:
                self._observe(await self._cluster.get(LEASES, NAME, self._namespace))
            except NotFound:
                self._note_version(0)
                if not self._may_take_over():
                    return False
                self._observe(await self._cluster.create(LEASES, self._new()))
                return True
        record = self._record or {}
        if not self._may_take_over():
            return False
        if self._is_anothers() and monotonic() < self._seen + self._counts_for(record):
            return False
        self._observe(await self._cluster.replace(LEASES, {**record, "spec": self._claim(record.get("spec") or {})}))
        return True

    def _observe(self, record: dict[str, Any]) -> None:
        if self._record is None or _version(record) != _version(self._record):
            self._seen = monotonic()
        self._note_version(int(_version(record)))
        self._record = record

    def _note_version(self, version: int) -> None:
        if version < self._latest:
            self._rewound = monotonic()
            log.warning("lease went back to an earlier version", extra={"version": version, "known": self._latest})
        self._latest = version

    def _may_take_over(self) -> bool:
        """Whether nobody can believe any more that it leads by a record that a rewind has removed."""
        return self.held() or monotonic() > self._rewound + self._timing.duration

    def _is_anothers(self) -> bool:
        holder = ((self._record or {}).get("spec") or {}).get("holderIdentity")
        return bool(holder) and holder != self._identity

    def _counts_for(self, record: dict[str, Any]) -> float:
        return float(record["spec"].get("leaseDurationSeconds") or self._timing.duration)

    def _new(self) -> dict[str, Any]:
        metadata = {"name": NAME, "namespace": self._namespace}
        return {"apiVersion": LEASES.version, "kind": LEASES.kind, "metadata": metadata, "spec": self._claim({})}

    def _claim(self, spec: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = spec.get("holderIdentity") == self._identity
        return {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "acquireTime": (mine and spec.get("acquireTime")) or now,
            "renewTime": now,
            "leaseTransitions": (spec.get("leaseTransitions") or 0) + (not mine),
        }

    async def _release(self) -> None:
        """So that the next one need not wait; if it fails, that one waits until the Lease has run out."""
        if self._record is None or not self.held():
            return
        self._renewed = float("-inf")
        spec = {**self._record["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._cluster.replace(LEASES, {**self._record, "spec": spec})
        except (ClusterError, TimeoutError) as error:
            log.warning("lease not released", extra={"reason": str(error) or "no answer in time"})


async def _await(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()


def _version(record: dict[str, Any]) -> str:
    return str(record["metadata"]["resourceVersion"])
