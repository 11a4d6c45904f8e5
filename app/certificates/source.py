"""The certificate that the webhook serves, and what a source of certificates has to offer. Opens no connection."""

import os
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509
from prometheus_client import Gauge

from certs.authority import Pair

# Says why a client that connects under this name, and trusts these CAs, refuses what is served; None when it does not.
Probe = Callable[[str, bytes], Awaitable[str | None]]

EXPIRY = Gauge(
    "dittofs_operator_certificate_expiry_timestamp_seconds",
    "When the certificate that this process serves (serving), and the CA in the operator's own Secret (ca), expire, in "
    "seconds since 1970; absent until it has one.",
    ["certificate"],
)
SECONDS_LEFT = Gauge(
    "dittofs_operator_certificate_expiry_seconds",
    "Deprecated and removed in the next release: use dittofs_operator_certificate_expiry_timestamp_seconds - time().",
    ["certificate"],
)


class CertificateSource(Protocol):
    """Supplies the certificate that the webhook serves.

    `context` is the same object for as long as the process runs; the certificate behind it changes.
    """

    @property
    def context(self) -> ssl.SSLContext: ...

    async def run(self, probe: Probe, /) -> None:
        """Keeps the certificate up to date until cancelled."""

    def why_not_ready(self) -> str | None:
        """Returns why the API server cannot trust what is served, None when nothing is known against it."""


class UnusableCertificate(ValueError):
    """Certificate and key cannot be served; the message names both files and says why."""


class ServingCertificate:
    """Serves nothing at first, then the pair that was loaded last; a pair that cannot be used changes nothing.

    Loading another pair into the same context is not safe: when it fails, the context has no certificate at all. So
    each pair gets a context of its own, and `context` picks the current one for each handshake.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._current: ssl.SSLContext | None = None
        self.context = _tls_context()
        self.context.sni_callback = self._choose_current

    def load_files(self, certificate: Path, key: Path) -> None:
        """Serves this pair from the next handshake on. Raises UnusableCertificate."""
        context = _tls_context()
        try:
            # An encrypted key is refused here; without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
            end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else error
            raise UnusableCertificate(f"cannot serve certificate {certificate} with key {key}: {why}") from error

        self._current = context
        report_expiry("serving", end, self._now)

    def load_pair(self, pair: Pair) -> None:
        """Loads from memory what ssl can only read from a file: an anonymous one, which is gone once it was read."""
        with os.fdopen(os.memfd_create("serving"), "wb") as memory:
            memory.write(pair.certificate + pair.key)
            memory.flush()

            file = Path(f"/proc/self/fd/{memory.fileno()}")
            self.load_files(file, file)

    def _choose_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this also for clients that name no server. Without a certificate the handshake fails.
        if self._current:
            connection.context = self._current


def report_expiry(certificate: str, end: datetime, now: Callable[[], datetime]) -> None:
    """Exports until when this certificate, "ca" or "serving", is valid."""

    def seconds_left() -> float:
        return (end - now()).total_seconds()

    EXPIRY.labels(certificate).set(end.timestamp())
    SECONDS_LEFT.labels(certificate).set_function(seconds_left)


def _tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The API server never resumes a session, and what it needs to do so is an eighth of the time of a handshake.
    context.num_tickets = 0
    return context
