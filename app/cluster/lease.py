"""Elects a leader by a Lease: only one of several replicas may write. It never writes anything but the Lease.

As in client-go, a holder that could not renew in time stops before another may begin. The times in the record are not
trusted: each candidate measures, by a clock that nobody can set, how long the record has not changed.

A record that went back to an earlier version, because etcd was restored from a backup, does not say who leads. The
former leader may still rely on the lost record, so the Lease is not taken until that has expired.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from prometheus_client import Gauge

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, Conflict, NotFound
from app.cluster.reader import LEASE_NAME, LEASES
from app.cluster.store import version_of

# The name and label are controller-runtime's.
LEADER = Gauge("leader_election_master_status", "1 while this process is the leader.", ["name"])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds: how long a record is valid, after how long without renewal its holder stops, and between attempts."""

    duration: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Lease:
    """One candidate for the Lease. Its `identity` is unique, and a restarted process has another one."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str, timing: LeaseTiming = LeaseTiming()) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._timing = timing
        self._leading = LEADER.labels(LEASE_NAME)

        # All times are of `monotonic`.
        self._renewed_at = float("-inf")
        self._record: dict[str, Any] | None = None
        self._changed_at = 0.0
        self._latest_version = 0
        self._rewound_at = float("-inf")
        # Why the last attempt has failed; empty when it has worked.
        self._failure = ""

    def held(self) -> bool:
        """Returns whether this process leads right now, even after it was stopped for a while."""
        return monotonic() < self._renewed_at + self._timing.renew

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `lead` while this candidate leads, until `lead` returns or this is cancelled; then frees the Lease."""
        try:
            finished = False
            while not finished:
                while not await self._try_acquire_or_renew():  # noqa: ASYNC110 - nobody reports that the Lease is free
                    await asyncio.sleep(self._timing.retry)

                about = {
                    "kind": LEASES.kind,
                    "namespace": self._namespace,
                    "object": LEASE_NAME,
                    "identity": self._identity,
                }
                log.info("leading", extra=about)
                finished = await self._lead(lead)
                log.info("no longer leading", extra=about)
        finally:
            if self._record is not None and self.held():
                self._renewed_at = float("-inf")
                spec = {**self._record["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                try:
                    # The next leader may begin at once; if this fails, it waits until the Lease has expired.
                    async with asyncio.timeout(self._timing.retry):
                        await self._cluster.replace(LEASES, {**self._record, "spec": spec})
                except (ClusterError, TimeoutError) as error:
                    log.warning("lease not released", extra={"reason": str(error) or "no answer in time"})

    async def _lead(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Returns whether `lead` has returned; otherwise the Lease was lost."""
        with self._leading.track_inprogress():
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(lead())
                while self.held():
                    await asyncio.wait([leading], timeout=self._timing.retry)
                    if leading.done():
                        return True
                    if not await self._try_acquire_or_renew() and self._is_held_by_another():
                        break
                leading.cancel()

        self._renewed_at = float("-inf")
        return False

    async def _try_acquire_or_renew(self) -> bool:
        """Makes one attempt, which ends before a Lease that is held could expire."""
        begun = monotonic()
        try:
            async with asyncio.timeout(self._timing.renew / 2):
                holds = await self._acquire_or_renew()
        except (ClusterError, TimeoutError) as error:
            if isinstance(error, Conflict):
                self._record = None
            reason = str(error) or "no answer in time"
            # Once, and not for each attempt of an outage.
            log.log(
                logging.DEBUG if reason == self._failure else logging.WARNING,
                "lease not renewed",
                extra={"reason": reason},
            )
            self._failure = reason
            return False

        self._failure = ""
        if holds:
            self._renewed_at = begun
        return holds

    async def _acquire_or_renew(self) -> bool:
        if self._record is None or self._is_held_by_another():
            try:
                self._observe(await self._cluster.get(LEASES, LEASE_NAME, self._namespace))
            except NotFound:
                self._note_version(0)
                if not self._may_take_over():
                    return False
                metadata = {"name": LEASE_NAME, "namespace": self._namespace}
                manifest = {"apiVersion": LEASES.version, "kind": LEASES.kind, "metadata": metadata}
                self._observe(await self._cluster.create(LEASES, {**manifest, "spec": self._renew({})}))
                return True

        record = self._record or {}
        if not self._may_take_over():
            return False
        if self._is_held_by_another():
            duration = float(record["spec"].get("leaseDurationSeconds") or self._timing.duration)
            if monotonic() < self._changed_at + duration:
                return False

        self._observe(await self._cluster.replace(LEASES, {**record, "spec": self._renew(record.get("spec") or {})}))
        return True

    def _observe(self, record: dict[str, Any]) -> None:
        if self._record is None or version_of(record) != version_of(self._record):
            self._changed_at = monotonic()
        self._note_version(version_of(record))
        self._record = record

    def _note_version(self, version: int) -> None:
        if version < self._latest_version:
            self._rewound_at = monotonic()
            log.warning(
                "lease went back to an earlier version", extra={"version": version, "known": self._latest_version}
            )
        self._latest_version = version

    def _may_take_over(self) -> bool:
        """Returns whether nobody can rely any more on a record that a rewind has removed."""
        return self.held() or monotonic() > self._rewound_at + self._timing.duration

    def _is_held_by_another(self) -> bool:
        holder = ((self._record or {}).get("spec") or {}).get("holderIdentity")
        return bool(holder) and holder != self._identity

    def _renew(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Returns the spec with this candidate as the holder."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_holder = spec.get("holderIdentity") == self._identity

        return {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "acquireTime": (is_holder and spec.get("acquireTime")) or now,
            "renewTime": now,
            "leaseTransitions": (spec.get("leaseTransitions") or 0) + (not is_holder),
        }
