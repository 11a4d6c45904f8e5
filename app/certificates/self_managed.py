"""Carries our own certificate: watches Secret and caBundles, and writes them when `certs` decides that they change.

Every replica does all of this, no leader is needed: the Secret is changed only from the version that was seen, so of
several that change it at once one succeeds, and the others hear of it.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from app.admission.server import EXPIRY, ServingCertificate
from app.certificates.ca_bundles import ManagedElsewhere, Webhooks
from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.errors import ClusterError, Conflict
from app.cluster.reader import SECRETS
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.events import Event
from app.storage.unstructured import Manifest
from certs.authority import Leaf
from certs.replica import Replica
from certs.rotation import CertificateOptions, Step
from certs.trust import SETTLE_SECONDS

# Called with the Secret, and with what there is to tell about it.
EventSink = Callable[[Mapping[str, Any], Event], None]
# Why a client that connects under this name, and trusts these authorities, refuses what is served; None if it does not.
Probe = Callable[[str, bytes], Awaitable[str | None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckTiming:
    """Seconds: between two looks at the clock, until what failed is tried again, and at least between any two looks.

    With the last, somebody who wants the opposite of us cannot draw us into a race.
    """

    check: float = 60.0
    retry: float = 5.0
    pace: float = 0.5
    settle: float = SETTLE_SECONDS


class SelfManagedCertificate:
    """Keeps `serving` supplied with a certificate that the API server trusts, for as long as `run` runs.

    `secret` is its name in the operator's own namespace, `webhooks` that of both webhook configurations.
    """

    def __init__(
        self, cluster: Cluster, secret: str, webhooks: str, plan: CertificateOptions, record_event: EventSink
    ) -> None:
        self.serving = ServingCertificate()
        self._cluster = cluster
        self._certificate_options = plan
        self._record_event = record_event
        self._changed = asyncio.Event()
        self._name = secret
        self._store = Store()
        self._store.event_handlers.append(lambda *_: self._changed.set())
        self._reflector = Reflector(cluster, Selection(SECRETS, cluster.namespace, name=secret), self._store)
        self._webhooks = Webhooks(cluster, webhooks, self._changed.set)
        self._replica = Replica(plan)
        self._complaint: str | None = None

    async def run(self, probe: Probe, timing: CheckTiming = CheckTiming()) -> None:
        self._replica = Replica(self._certificate_options, timing.settle)
        async with asyncio.TaskGroup() as group:
            reflectors = [self._reflector, *self._webhooks.reflectors]
            for reflector in reflectors:
                group.create_task(reflector.run())
            for reflector in reflectors:
                await reflector.wait_for_sync()
            while True:
                self._changed.clear()
                seconds = await self._look(probe, timing)
                await asyncio.sleep(timing.pace)
                await _set_within(self._changed, seconds)

    @property
    def served(self) -> Leaf | None:
        return self._replica.served

    def why_not_ready(self) -> str | None:
        """None while what is served here is trusted by both webhook configurations as they were last heard of."""
        if not self.served:
            return self._complaint or "no certificate to serve yet"
        if not self.served.is_valid(self._cluster.now()):
            return "the certificate that is served has expired"
        if not self._replica.is_trusted():
            return self._webhooks.missing() or f"no caBundle for it yet in the configurations {self._webhooks.name}"
        return None

    async def _look(self, probe: Probe, timing: CheckTiming) -> float:
        """One step, and how many seconds it has time until the next one if nothing changes."""
        try:
            complaint = await self._step(probe)
        except Conflict as error:
            # Somebody else was faster, and the news of it is on its way.
            log.info("certificate changed by another", extra={"reason": str(error)})
            return timing.retry
        except ClusterError as error:
            complaint = str(error)
        self._complain(complaint)
        return timing.retry if complaint else min(timing.check, self._replica.seconds_until_due())

    async def _step(self, probe: Probe) -> str | None:
        """Returns what has to be waited for. A write counts once the watch has told of it: what follows waits too."""
        if self._reflector.gap:
            # That there is no Secret must not be concluded from it.
            return f"Secret {self._name} cannot be watched: {self._reflector.gap}"
        secret = self._store.get(self._key)
        content = _content(secret) if secret else None
        self._replica.observe(content, self._webhooks.bundles(), self._cluster.now(), monotonic())
        self._serve(secret)
        unpublished = await self._publish()
        refused = await self._refusal(probe) if self._replica.waits_for_probe() else None
        if step := self._replica.next_step(probed=not refused):
            await self._write(secret, step)
        return unpublished or refused or self._webhooks.missing()

    def _serve(self, secret: Manifest | None) -> None:
        if authority := self._replica.secret.authority:
            self._show("ca", authority.certificate.not_valid_after_utc)
        if taken := self._replica.choose_leaf():
            self.serving.serve_pair(taken.pair)
            end = taken.certificate.not_valid_after_utc
            self._show("serving", end)
            self._say(
                secret, Event("Normal", "CertificateServed", f"serving a certificate that expires at {end:%FT%TZ}")
            )

    async def _publish(self) -> str | None:
        """Returns what keeps the CAs from being published; a renewal in the Secret must not wait for it."""
        bundle = self._replica.bundle()
        if not bundle:
            return None
        try:
            written = await self._webhooks.publish(bundle)
        except Conflict:
            raise
        except (ClusterError, ManagedElsewhere) as error:
            return str(error)
        for kind in written:
            message = f"wrote the caBundle of {kind} {self._webhooks.name}, which had another one"
            self._say(self._store.get(self._key), Event("Normal", "AuthorityPublished", message))
        return None

    async def _refusal(self, probe: Probe) -> str | None:
        """Why a client that trusts what the API server does would not get through to us, None when it would."""
        for bundle in self._webhooks.bundles():
            if why := await probe(self._certificate_options.hosts[0], bundle):
                return f"the next CA waits: a client that trusts the published caBundle cannot connect: {why}"
        return None

    async def _write(self, secret: Manifest | None, step: Step) -> None:
        data = {name: base64.b64encode(value).decode() for name, value in step.content.items()}
        if secret:
            written = await self._cluster.replace(SECRETS, {**secret, "data": data})
        else:
            written = await self._cluster.create(SECRETS, {**self._new(), "data": data})
        self._say(written, Event("Warning" if step.heals else "Normal", step.reason, step.message))

    def _new(self) -> Manifest:
        labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
        metadata = {"name": self._name, "namespace": self._cluster.namespace, "labels": labels}
        return {"apiVersion": SECRETS.version, "kind": SECRETS.kind, "metadata": metadata, "type": "Opaque"}

    def _show(self, certificate: str, end: datetime) -> None:
        def seconds_left() -> float:
            return (end - self._cluster.now()).total_seconds()

        EXPIRY.labels(certificate).set_function(seconds_left)

    def _say(self, secret: Manifest | None, event: Event) -> None:
        log.info("certificate", extra={"reason": event.reason, "change": event.message})
        if secret:
            self._record_event(secret, event)

    def _complain(self, complaint: str | None) -> None:
        """Once, until it is another one or none."""
        if complaint and complaint != self._complaint:
            log.warning("certificate waits", extra={"reason": complaint})
            if secret := self._store.get(self._key):
                self._record_event(secret, Event("Warning", "CertificateWaits", complaint))
        self._complaint = complaint

    @property
    def _key(self) -> tuple[str, str]:
        return self._cluster.namespace, self._name


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _content(secret: Manifest) -> dict[str, bytes]:
    return {name: base64.b64decode(value or "") for name, value in (secret.get("data") or {}).items()}
