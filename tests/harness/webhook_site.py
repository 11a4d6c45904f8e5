"""A webhook server with real sockets and real TLS, and the CA that signs the certificates it serves."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import REGISTRY

from app.admission.api import webhook
from app.admission.server import WebhookServer
from app.certificates.files import CertificateFiles
from app.storage.facts import Facts, Needs, StorageClass, StorageClasses
from app.storage.webhook_configurations import VALIDATE_PATH
from certs.authority import Authority, Pair
from tests.admission.reviews import review
from tests.harness.server_table import server

# Short enough not to wait for, long enough for an honest client on a busy machine.
REQUEST_TIMEOUT_SECONDS = 1.0
LONG = 20.0
REVIEW = orjson.dumps(review(server()))

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def at_once(_needs: Needs) -> Facts:
    return Facts(StorageClasses((StorageClass("fast", is_default=True),)))


class Site:
    """A server with a certificate in files, and an authority to make others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create("test", datetime.now(UTC))
        self.pair = self.new_pair()
        self.write(self.pair)
        self.certificate = CertificateFiles(folder / "tls.crt", folder / "tls.key")
        self.context = self.certificate.context
        self.running: WebhookServer

    def new_pair(self) -> Pair:
        return self.authority.issue_pair(["localhost", "127.0.0.1"], datetime.now(UTC))

    def write(self, pair: Pair) -> None:
        """Replaces each file at once, as a careful tool does, but not both together."""
        for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (self.folder / "new").write_bytes(content)
            (self.folder / "new").rename(self.folder / name)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.pem.decode())

    @property
    def url(self) -> str:
        return f"https://localhost:{self.running.port}{VALIDATE_PATH}"

    async def connect(self, host: str = "localhost") -> Connection:
        return await asyncio.open_connection("127.0.0.1", self.running.port, ssl=self.trust, server_hostname=host)

    def client(self) -> httpx.AsyncClient:
        headers = {"content-type": "application/json"}
        return httpx.AsyncClient(verify=self.trust, trust_env=False, headers=headers, timeout=LONG)

    async def served(self) -> bytes:
        """Returns the certificate, in DER, that a new connection is shown."""
        _, writer = await self.connect()
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(shown)


@asynccontextmanager
async def serving(
    site: Site,
    gather: Callable[[Needs], Awaitable[Facts]] = at_once,
    patience: float = REQUEST_TIMEOUT_SECONDS,
    host: str = "127.0.0.1",
) -> AsyncIterator[WebhookServer]:
    site.running = WebhookServer(webhook(gather), host, 0, site.context, patience)
    await site.running.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(site.running.serve())
        yield site.running
        if not site.running.is_draining:
            await site.running.drain(0)


def seconds_left(certificate: str = "serving") -> float:
    """Returns what the metric says, in both of its forms."""
    labels = {"certificate": certificate}
    timestamp = REGISTRY.get_sample_value("dittofs_operator_certificate_expiry_timestamp_seconds", labels) or 0
    seconds = REGISTRY.get_sample_value("dittofs_operator_certificate_expiry_seconds", labels)
    assert seconds == pytest.approx(timestamp - time.time(), abs=60)
    return timestamp - time.time()


def der(pair: Pair) -> bytes:
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)
