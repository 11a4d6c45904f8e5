"""Keeps the operator's own certificate in a Secret and its CA in the caBundles, as `certs` decides. Decides nothing.

Every replica does this; no leader is needed. A replica replaces only the version of the Secret that it has seen, so of
several that write at once one succeeds, and the watch tells the others.
"""

import asyncio
import base64
import logging
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from app import logs
from app.certificates.ca_bundles import CABundles, ManagedElsewhere
from app.certificates.source import Probe, ServingCertificate, report_expiry
from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.errors import ClusterError, Conflict
from app.cluster.reader import SECRETS
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.difference import changed_fields
from app.storage.events import Event, EventSink
from app.storage.object_write import ObjectWrite, Verb
from app.storage.unstructured import Manifest
from certs.authority import Leaf
from certs.replica import Replica
from certs.rotation import CertificateOptions, Step
from certs.trust import SETTLE_SECONDS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckTiming:
    """Gives seconds: between checks, after one that failed, at least, and until a new caBundle counts as known.

    The `pace` keeps somebody who writes the opposite from drawing the operator into a race.
    """

    check: float = 60.0
    retry: float = 5.0
    pace: float = 0.5
    settle: float = SETTLE_SECONDS


class SelfManagedCertificate:
    """A CertificateSource that issues its own certificates and makes the API server trust them.

    `secret` is the name of the Secret in the operator's namespace, `configurations` that of both webhook
    configurations.
    """

    def __init__(
        self, cluster: Cluster, secret: str, configurations: str, options: CertificateOptions, record_event: EventSink
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._record_event = record_event
        self._replica = Replica(options)
        self._problem: str | None = None
        self._serving = ServingCertificate(cluster.now)
        self.context = self._serving.context

        self._changed = asyncio.Event()
        self._key = (cluster.namespace, secret)
        self._store = Store()
        self._store.event_handlers.append(lambda *_: self._changed.set())
        self._reflector = Reflector(cluster, Selection(SECRETS, cluster.namespace, name=secret), self._store)
        self._ca_bundles = CABundles(cluster, configurations, self._changed.set)

    async def run(self, probe: Probe, timing: CheckTiming = CheckTiming()) -> None:
        """Checks Secret and caBundles whenever one of them changes or something is due, until cancelled."""
        self._replica = Replica(self._options, timing.settle)
        async with asyncio.TaskGroup() as group:
            reflectors = [self._reflector, *self._ca_bundles.reflectors]
            for reflector in reflectors:
                group.create_task(reflector.run())
            for reflector in reflectors:
                await reflector.wait_for_sync()

            while True:
                self._changed.clear()
                seconds = await self._check(probe, timing)
                await asyncio.sleep(timing.pace)
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._changed.wait()

    @property
    def served(self) -> Leaf | None:
        return self._replica.served

    def why_not_ready(self) -> str | None:
        """Returns None while both webhook configurations, as last seen, trust what is served here."""
        if not self.served:
            return self._problem or "no certificate to serve yet"
        if not self.served.is_valid(self._cluster.now()):
            return "the certificate that is served has expired"
        if not self._replica.is_trusted():
            untrusted = f"no caBundle in the webhook configurations {self._ca_bundles.name} trusts the certificate yet"
            return self._ca_bundles.why_missing() or untrusted
        return None

    async def _check(self, probe: Probe, timing: CheckTiming) -> float:
        """Does what is due; returns how many seconds later to check again if nothing changes."""
        try:
            problem = await self._do_what_is_due(probe)
        except Conflict as error:
            # Another replica was faster, and the watch is about to deliver its change.
            log.info("certificate changed by another", extra={"reason": str(error)})
            return timing.retry
        except ClusterError as error:
            problem = str(error)

        if problem and problem != self._problem:
            log.warning("certificate waits", extra={"reason": problem})
            if secret := self._store.get(self._key):
                self._record_event(secret, Event("Warning", "CertificateWaiting", problem))
        self._problem = problem

        return timing.retry if problem else min(timing.check, self._replica.seconds_until_due())

    async def _do_what_is_due(self, probe: Probe) -> str | None:
        """Returns what keeps the certificate from being served or renewed, None when nothing does.

        What is written counts once the watch has delivered it; whatever depends on it waits for that.
        """
        if self._reflector.gap:
            # The store may be incomplete: that it has no Secret does not mean that there is none.
            return f"Secret {self._key[1]} cannot be watched: {self._reflector.gap}"

        secret = self._store.get(self._key)
        data = (secret.get("data") or {}) if secret else None
        content = None if data is None else {name: base64.b64decode(value or "") for name, value in data.items()}
        self._replica.observe(content, self._ca_bundles.published(), self._cluster.now(), monotonic())

        if authority := self._replica.secret.authority:
            report_expiry("ca", authority.certificate.not_valid_after_utc, self._cluster.now)
        if leaf := self._replica.choose_leaf():
            self._serving.load_pair(leaf.pair)
            message = f"serving a certificate that expires at {leaf.certificate.not_valid_after_utc:%FT%TZ}"
            log.info("certificate served", extra={"reason": message})
            self._record(secret, Event("Normal", "CertificateServed", message))

        publish_problem = await self._publish_bundle()
        probe_problem = await self._probe_bundles(probe) if self._replica.waits_for_probe() else None
        if step := self._replica.next_step(probed=not probe_problem):
            await self._write_secret(secret, step)

        return publish_problem or probe_problem or self._ca_bundles.why_missing()

    async def _publish_bundle(self) -> str | None:
        """Returns why the caBundles cannot be written, None when they are; a renewal does not wait for them."""
        bundle = self._replica.bundle()
        if not bundle:
            return None

        try:
            writes = await self._ca_bundles.publish(bundle)
        except Conflict:
            raise
        except (ClusterError, ManagedElsewhere) as error:
            return str(error)

        for write in writes:
            message = f"wrote the caBundle of {write.kind} {self._ca_bundles.name}, which had another one"
            logs.log_write(log, write, reason=message)
            self._record(self._store.get(self._key), Event("Normal", "CABundleUpdated", message))
        return None

    async def _probe_bundles(self, probe: Probe) -> str | None:
        """Returns why a client that trusts what the API server trusts cannot connect, None when it can."""
        for bundle in self._ca_bundles.published():
            if why := await probe(self._options.hosts[0], bundle):
                return f"the next CA waits: a client that trusts the published caBundle cannot connect: {why}"
        return None

    async def _write_secret(self, secret: Manifest | None, step: Step) -> None:
        data = {name: base64.b64encode(value).decode() for name, value in step.content.items()}
        verb: Verb = "replace" if secret else "create"
        namespace, name = self._key
        started = monotonic()
        if secret:
            written = await self._cluster.replace(SECRETS, {**secret, "data": data})
        else:
            labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
            manifest = {
                "apiVersion": SECRETS.version,
                "kind": SECRETS.kind,
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "type": "Opaque",
                "data": data,
            }
            written = await self._cluster.create(SECRETS, manifest)

        fields = changed_fields(secret, written) if secret else ()
        write = ObjectWrite(verb, SECRETS.kind, namespace, name, fields, monotonic() - started)
        logs.log_write(log, write, reason=step.message)
        self._record(written, Event("Warning" if step.heals else "Normal", step.reason, step.message))

    def _record(self, secret: Manifest | None, event: Event) -> None:
        """Records the event at the Secret if there is one."""
        if secret:
            self._record_event(secret, event)


def service_hosts(service: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Returns the names under which clients connect to a Service; the API server uses the first."""
    name = f"{service}.{namespace}.svc"
    # The last two are for a person behind kubectl port-forward, and for an operator outside of the cluster.
    return (name, f"{name}.{cluster_domain}", f"{service}.{namespace}", "localhost", "127.0.0.1")
