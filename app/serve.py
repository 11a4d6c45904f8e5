"""`serve` answers reviews and reconciles until it is told to stop, then stops its parts in order. Decides nothing."""

import asyncio
import gc
import logging
import platform
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from prometheus_client import Gauge

from app.admission import api
from app.admission.server import WebhookServer
from app.certificates.files import CertificateFiles
from app.certificates.self_managed import SelfManagedCertificate, service_hosts
from app.certificates.source import CertificateSource
from app.cluster.client import Cluster
from app.cluster.events import EventRecorder
from app.cluster.informers import Informers
from app.cluster.lease import Lease
from app.cluster.lookup import gather
from app.dittofs.client import ServerClient
from app.reconcile.concurrency import ConcurrencyLimit
from app.reconcile.controller import Controller
from app.reconcile.health_monitor import HealthMonitor
from app.reconcile.provisioner import Provisioner
from app.reconcile.reconciler import Reconciler
from app.reconcile.server_metrics import ServerMetrics
from app.reconcile.writer import Writer
from app.settings import Settings, release
from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN, detect_cluster_domain
from app.storage.events import EventSink
from certs.rotation import CertificateOptions

# Until every API server has learnt from the readiness probe, or from the answers, to send its reviews elsewhere.
DRAIN_SECONDS = 5.0
# For the reconciles that are under way: each makes a few requests, of which each has its own timeout.
FINISH_SECONDS = 15.0

RESOLV_CONF = Path("/etc/resolv.conf")

BUILD = Gauge(
    "dittofs_operator_build_info", "1, with the versions of the operator and of Python.", ["version", "python"]
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """Holds what the webhook needs; `background` runs everything else while it is entered."""

    look_up: api.Gather
    certificate: CertificateSource
    background: AbstractAsyncContextManager[None]
    why_not_ready: Callable[[], str | None] = lambda: None
    server_metrics: api.Render | None = None


@dataclass(frozen=True)
class _Operator:
    """Holds what reconciles; those `beside` the controller run while it does. Without a Lease it always leads."""

    reconciler: Reconciler
    controller: Controller
    beside: tuple[HealthMonitor, Provisioner]
    lease: Lease | None

    def is_leading(self) -> bool:
        return self.controller.running and (self.lease is None or self.lease.held())


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM, or SIGINT for an end without delay. Raises OSError or ValueError if it cannot start."""
    BUILD.labels(release(), platform.python_version()).set(1)
    # A second signal ends the process at once.
    stop = _StopSignal()
    async with _parts(settings, stop) as parts:
        # What connecting has imported stays: the garbage collector need not look at it again.
        gc.freeze()

        webhook = WebhookServer(
            api.webhook(parts.look_up, settings.defaults), *settings.listen, parts.certificate.context
        )

        def why_not_ready() -> str | None:
            stopping = "stopping" if webhook.is_draining else None
            return stopping or parts.why_not_ready() or parts.certificate.why_not_ready()

        health = WebhookServer(api.health(why_not_ready, parts.server_metrics), *settings.health_listen)
        await webhook.listen()
        await health.listen()
        log.info("serving", extra={"listen": str(settings.listen), "health": str(settings.health_listen)})

        async with parts.background, asyncio.TaskGroup() as group:
            group.create_task(health.serve())
            renewing = group.create_task(parts.certificate.run(webhook.why_not_trusted))
            answering = group.create_task(webhook.serve())

            received = await stop.wait()
            await webhook.drain(DRAIN_SECONDS if received == signal.SIGTERM else 0)
            await answering
            renewing.cancel()
            await health.drain(0)
    log.info("stopped")


# Each part runs inside those that it needs, and so stops before them: informers > event recorder > Lease > controller >
# webhook.
@asynccontextmanager
async def _parts(settings: Settings, stop: "_StopSignal") -> AsyncIterator[_Parts]:
    """Puts the parts together, and connects to the cluster unless a snapshot stands in for it."""
    files = CertificateFiles(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    if settings.snapshot and files:
        # A pod can do without what reads files.
        from app.cluster.snapshot import Snapshot

        yield _Parts(partial(gather, Snapshot(settings.snapshot)), files, nullcontext())
        return

    async with Cluster.connect(settings.kubeconfig) as cluster:
        events = EventRecorder(cluster, cluster.now)
        hosts = service_hosts(settings.service, cluster.namespace, cluster_domain(settings.cluster_domain))
        ca_life, serving_life = timedelta(days=settings.ca_days), timedelta(days=settings.certificate_days)
        options = CertificateOptions(hosts, authority_life=ca_life, serving_life=serving_life)
        secret, configurations = settings.certificate_secret, settings.webhook_configuration
        certificate = files or SelfManagedCertificate(cluster, secret, configurations, options, events.record)

        if not settings.reconcile:
            yield _Parts(partial(gather, cluster), certificate, _recording(events))
            return

        informers = Informers(cluster, settings.namespace)
        operator = _operator(settings, cluster, informers, events.record)
        metrics = ServerMetrics(informers, operator.is_leading)
        operator.reconciler.restart_handlers.append(metrics.count_restart)
        server_metrics = metrics.parts if settings.server_metrics else None

        operating = _operating(operator, informers, events, stop)
        yield _Parts(informers.look_up, certificate, operating, informers.why_not_ready, server_metrics)


def _operator(settings: Settings, cluster: Cluster, informers: Informers, record_event: EventSink) -> _Operator:
    identity = f"{platform.node()}_{secrets.token_hex(4)}"
    lease = Lease(cluster, cluster.namespace, identity) if settings.leader_elect else None
    may_write = lease.held if lease else lambda: True

    writer = Writer(cluster, informers, may_write)
    patience = timedelta(seconds=settings.resize_patience_seconds)
    client = ServerClient()
    health, provisioner = HealthMonitor(informers, client), Provisioner(informers, client, may_write)
    reconciler = Reconciler(
        cluster,
        informers,
        writer,
        record_event,
        resize_patience=patience,
        report_of=health.report,
        provisioner=provisioner,
        defaults=settings.defaults,
        cluster_domain=cluster_domain(settings.cluster_domain),
    )

    concurrency = ConcurrencyLimit(settings.workers)
    cluster.request_handlers.append(concurrency.handle_request)
    cluster.answer_handlers.append(concurrency.handle_answer)
    controller = Controller(informers, reconciler, concurrency)
    health.change_handlers.append(partial(controller.wake, trigger="health"))
    # A server that was given stores and shares has another health.
    provisioner.change_handlers += [partial(controller.wake, trigger="stores and shares"), health.ask_soon]
    return _Operator(reconciler, controller, (health, provisioner), lease)


@asynccontextmanager
async def _operating(
    operator: _Operator, informers: Informers, events: EventRecorder, stop: "_StopSignal"
) -> AsyncIterator[None]:
    async with _running(informers), _recording(events), asyncio.TaskGroup() as group:
        group.create_task(_reconcile(operator, stop))
        yield


@asynccontextmanager
async def _running(*parts: Informers | EventRecorder | HealthMonitor | Provisioner) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(part.run()) for part in parts]
        yield
        for task in running:
            task.cancel()


@asynccontextmanager
async def _recording(events: EventRecorder) -> AsyncIterator[None]:
    """Sends Events beside the block, and the last ones when it has ended."""
    try:
        async with _running(events):
            yield
    finally:
        await events.drain(DRAIN_SECONDS)


async def _reconcile(operator: _Operator, stop: "_StopSignal") -> None:
    """Reconciles until the signal, then lets the reconciles that are under way finish, and releases the Lease."""
    controller, lease = operator.controller, operator.lease

    async def lead() -> None:
        async with _running(*operator.beside):
            await controller.run()

    async with asyncio.TaskGroup() as group:
        leading = group.create_task(lease.run(lead) if lease else lead())

        await stop.wait()
        controller.finish()
        if controller.running:
            await asyncio.wait([leading], timeout=FINISH_SECONDS)
        leading.cancel()


def cluster_domain(named: str | None) -> str:
    """Returns the domain that a person has named, or else the one that this pod searches."""
    if named:
        return named

    try:
        return detect_cluster_domain(RESOLV_CONF.read_text(errors="replace"))
    except OSError:
        return DEFAULT_CLUSTER_DOMAIN


class _StopSignal:
    """Lets everyone wait for the first SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._received = asyncio.Event()
        self._signal = signal.SIGTERM
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._receive, number)

    async def wait(self) -> signal.Signals:
        await self._received.wait()
        return self._signal

    def _receive(self, number: signal.Signals) -> None:
        log.info("stopping", extra={"signal": number.name})
        self._signal = number
        self._received.set()
        for handled in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(handled)
