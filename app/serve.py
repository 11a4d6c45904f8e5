"""`serve`: the webhook over TLS, the operator and health beside it, and the orderly end of all when told to stop."""

import asyncio
import logging
import platform
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from app.admission import api
from app.admission.server import CertificateFiles, ServingCertificate, WebhookServer
from app.certificates.self_managed import Probe, SelfManagedCertificate
from app.cluster.client import Cluster
from app.cluster.events import EventRecorder
from app.cluster.informers import Informers
from app.cluster.lease import Lease
from app.cluster.lookup import gather
from app.cluster.snapshot import Snapshot
from app.reconcile.controller import Controller
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.settings import Settings
from app.storage.facts import Facts, Needs
from certs.rotation import CertificateOptions

# Until every API server has heard from the readiness probe, or from our answers, that it should ask elsewhere.
DRAIN_SECONDS = 5.0
# What is in work when the process is told to stop: a few requests, of which each has its own limit.
FINISH_SECONDS = 15.0

log = logging.getLogger(__name__)


class Operator:
    """Everything of the reconciler, put together."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.informers = Informers(cluster, settings.namespace)
        self._events = EventRecorder(cluster, lambda: datetime.now(UTC))
        identity = f"{platform.node()}_{secrets.token_hex(4)}"
        self._lease = Lease(cluster, cluster.namespace, identity) if settings.leader_elect else None
        may_write = self._lease.held if self._lease else lambda: True
        writer = Writer(cluster, self.informers, may_write)
        patience = timedelta(seconds=settings.resize_patience_seconds)
        reconciler = Reconciler(cluster, self.informers, writer, self._events.record, resize_patience=patience)
        self._controller = Controller(self.informers, reconciler, settings.workers)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `finish`: what is in work is brought to its end, the Lease given back, and the last Events sent."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self.informers.run())
            telling = group.create_task(self._events.run())
            lead = self._lease.run(self._controller.run) if self._lease else self._controller.run()
            leading = group.create_task(lead)
            await self._stop.wait()
            if self._controller.running:
                await asyncio.wait([leading], timeout=FINISH_SECONDS)
            leading.cancel()
            telling.cancel()
            await asyncio.wait([leading, telling])
            await self._events.drain(DRAIN_SECONDS)
            watching.cancel()

    def finish(self) -> None:
        self._controller.finish()
        self._stop.set()


@dataclass(frozen=True)
class _Certificate:
    """What is served, who keeps it good, and what that one has against being called ready."""

    serving: ServingCertificate
    keep: Callable[[Probe], Coroutine[None, None, None]]
    why_not_ready: Callable[[], str | None]


async def serve(settings: Settings) -> None:
    """Until SIGTERM, or SIGINT for an end without delay. Raises what keeps it from starting: OSError, ValueError.

    After the first signal another one ends the process at once.
    """
    stopping = _Stopping()
    async with _parts(settings) as (look_up, operator, certificate):

        def why_not_ready() -> str | None:
            unable = operator.informers.why_not_ready() if operator else None
            return stopping.why_not_ready() or unable or certificate.why_not_ready()

        webhook = WebhookServer(api.webhook(look_up), *settings.listen, certificate.serving)
        health = WebhookServer(api.health(why_not_ready), *settings.health_listen)
        await webhook.listen()
        await health.listen()
        log.info("serving", extra={"listen": str(settings.listen), "health": str(settings.health_listen)})
        async with asyncio.TaskGroup() as group:
            group.create_task(health.serve())
            keeping = group.create_task(certificate.keep(webhook.why_not_trusted))
            serving = group.create_task(webhook.serve())
            if operator:
                group.create_task(operator.run())
            received = await stopping.asked()
            if operator:
                operator.finish()
            await webhook.drain(DRAIN_SECONDS if received == signal.SIGTERM else 0)
            await serving
            keeping.cancel()
            await health.drain(0)
    log.info("stopped")


@asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[tuple[api.Gather, Operator | None, _Certificate]]:
    """How the webhook looks things up, the operator where there is a cluster to operate in, and the certificate."""
    files = _from_files(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    if settings.snapshot and files:
        snapshot = Snapshot(settings.snapshot)
        yield partial(gather, snapshot), None, files
        return
    async with Cluster.connect(settings.kubeconfig) as cluster:
        operator = Operator(cluster, settings) if settings.reconcile else None

        async def look_up(needs: Needs) -> Facts:
            if operator is None:
                return await gather(cluster, needs)
            known, left = operator.informers.known(needs)
            return known.merge(await gather(operator.informers, left)) if left else known

        yield look_up, operator, files or _self_managed(cluster, settings)


def _from_files(certificate: Path, key: Path) -> _Certificate:
    """Raises UnusableCertificate."""
    files = CertificateFiles(certificate, key)
    return _Certificate(files, lambda _probe: files.watch(), lambda: None)


def _self_managed(cluster: Cluster, settings: Settings) -> _Certificate:
    events = EventRecorder(cluster, cluster.now)
    own = SelfManagedCertificate(
        cluster,
        settings.certificate_secret,
        settings.webhook_configuration,
        _certificate_options(settings, cluster.namespace),
        events.record,
    )

    async def keep(probe: Probe) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(events.run())
                group.create_task(own.run(probe))
        finally:
            await events.drain(DRAIN_SECONDS)

    return _Certificate(own.serving, keep, own.why_not_ready)


def _certificate_options(settings: Settings, namespace: str) -> CertificateOptions:
    name = f"{settings.service}.{namespace}.svc"
    # The last two are for a person behind kubectl port-forward, and for an operator outside of the cluster.
    hosts = (name, f"{name}.cluster.local", f"{settings.service}.{namespace}", "localhost", "127.0.0.1")
    return CertificateOptions(hosts, timedelta(days=settings.ca_days), timedelta(days=settings.certificate_days))


class _Stopping:
    """Waits for the signal to stop; from then on the process is not ready."""

    def __init__(self) -> None:
        self._signal: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._stop, each)

    async def asked(self) -> signal.Signals:
        return await self._signal

    def why_not_ready(self) -> str | None:
        return "stopping" if self._signal.done() else None

    def _stop(self, received: signal.Signals) -> None:
        log.info("stopping", extra={"signal": received.name})
        self._signal.set_result(received)
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)
