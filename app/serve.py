"""`serve`: the webhook over TLS, health beside it, and the orderly end of both when the process is told to stop."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.admission import api
from app.admission.server import ServingCertificate, WebhookServer
from app.cluster.client import Cluster
from app.cluster.lookup import gather
from app.cluster.reader import Reader
from app.cluster.snapshot import Snapshot
from app.settings import Settings
from app.storage.facts import Facts
from app.storage.rules import Needs

# Until every API server has heard from the readiness probe, or from our answers, that it should ask elsewhere.
DRAIN_SECONDS = 5.0

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Until SIGTERM, or SIGINT for an end without delay. Raises what keeps it from starting: OSError, ValueError.

    After the first signal another one ends the process at once.
    """
    certificate = ServingCertificate(settings.tls_cert, settings.tls_key)
    stopping = _Stopping()
    async with _reader(settings) as reader:

        async def look_up(needs: Needs) -> Facts:
            return await gather(reader, needs)

        webhook = WebhookServer(api.webhook(look_up), *settings.listen, certificate)
        health = WebhookServer(api.health(stopping.why_not_ready), *settings.health_listen)
        await webhook.listen()
        await health.listen()
        log.info("serving", extra={"listen": str(settings.listen), "health": str(settings.health_listen)})
        async with asyncio.TaskGroup() as group:
            group.create_task(health.serve())
            watching = group.create_task(certificate.watch())
            serving = group.create_task(webhook.serve())
            await webhook.drain(DRAIN_SECONDS if await stopping.asked() == signal.SIGTERM else 0)
            await serving
            watching.cancel()
            await health.drain(0)
    log.info("stopped")


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[Reader]:
    if settings.snapshot:
        yield Snapshot(settings.snapshot)
    else:
        async with Cluster.connect(settings.kubeconfig) as cluster:
            yield cluster


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
