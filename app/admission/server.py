"""uvicorn as the API server needs it: TLS with a certificate that can change, deadlines, limits and an orderly end.

It knows nothing of what is served. Keep-alive outlasts the API server's own 90 seconds, so that a review never meets a
connection that we have just closed: a POST that does is not sent again.
"""

import asyncio
import logging
import os
import ssl
from asyncio.events import TimerHandle
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from cryptography import x509
from prometheus_client import Gauge
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from certs.authority import Pair

KEEP_ALIVE_SECONDS = 120
# For a TLS handshake, for all headers of a request, and for all of its body.
CLIENT_SECONDS = 5.0
HEADER_BYTES = 16 * 1024
SHUTDOWN_SECONDS = 10

EXPIRY = Gauge(
    "dittofs_operator_certificate_expiry_seconds",
    "Seconds until the certificate that this process serves, and the CA in the operator's own Secret, expire.",
    ["certificate"],
)

log = logging.getLogger(__name__)


class UnusableCertificate(ValueError):
    """Certificate and key cannot be served; the message names both files and says why."""


class ServingCertificate:
    """What is served: nothing at first, then the pair that was given last; one that cannot be used changes nothing.

    A context cannot be given another certificate safely: one that fails to load leaves it without any. So each pair has
    a context of its own, and `context` picks the current one for each handshake.
    """

    def __init__(self) -> None:
        self._current: ssl.SSLContext | None = None
        self.context = _tls_context()
        self.context.sni_callback = self._choose

    def serve(self, certificate: Path, key: Path) -> None:
        """Raises UnusableCertificate."""
        context = _tls_context()
        try:
            # An encrypted key is refused here; without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
            end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else error
            raise UnusableCertificate(f"cannot serve certificate {certificate} with key {key}: {why}") from error
        self._current = context
        self._end = end

    def serve_pair(self, pair: Pair) -> None:
        """From memory: ssl reads files alone, and this one is on no file system and gone when it was read."""
        with os.fdopen(os.memfd_create("serving"), "wb") as memory:
            memory.write(pair.certificate + pair.key)
            memory.flush()
            file = Path(f"/proc/self/fd/{memory.fileno()}")
            self.serve(file, file)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL asks for clients that name no server, too. Without a certificate the handshake fails.
        if self._current:
            connection.context = self._current


class CertificateFiles(ServingCertificate):
    """The pair in two files, taken up anew when they change."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises UnusableCertificate."""
        super().__init__()
        self._files = (certificate, key)
        self._seen = self._signature()
        self.serve(*self._files)
        EXPIRY.labels("serving").set_function(self._seconds_left)

    async def watch(self, seconds: float = 1.0) -> None:
        """Looks at the files that often, for ever."""
        while True:
            await asyncio.sleep(seconds)
            self.refresh()

    def refresh(self) -> None:
        """Says once for each change of the files what became of it."""
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.serve(*self._files)
        except UnusableCertificate as error:
            log.error("new certificate refused, the former one stays: %s", error)  # noqa: TRY400
        else:
            log.info("new certificate taken up from %s", self._files[0])

    def _seconds_left(self) -> float:
        return (self._end - datetime.now(UTC)).total_seconds()

    def _signature(self) -> tuple[Any, ...]:
        return tuple(_stat(file) for file in self._files)


class WebhookServer(uvicorn.Server):
    """Serves an ASGI application: over TLS with a certificate, in plain HTTP without one."""

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        certificate: ServingCertificate | None = None,
        client_seconds: float = CLIENT_SECONDS,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=type("Protocol", (BoundedProtocol,), {"client_seconds": client_seconds}),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
                ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
            )
        )
        self._client_seconds = client_seconds

    async def listen(self) -> None:
        """Accepts connections from here on. Raises OSError when the address cannot be had."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup()

    async def startup(self, sockets: Any = None) -> None:
        patience = self._client_seconds if self.config.ssl else None
        server = await asyncio.get_running_loop().create_server(
            self._protocol,
            self.config.host,
            self.config.port,
            ssl=self.config.ssl,
            backlog=self.config.backlog,
            ssl_handshake_timeout=patience,
            ssl_shutdown_timeout=patience,
        )
        self.servers = [server]
        # Also when any free one was asked for.
        self.port: int = server.sockets[0].getsockname()[1]
        self.started = True

    async def serve(self, sockets: Any = None) -> None:
        """Until drained; signals are the caller's."""
        try:
            await self.main_loop()
            await self.shutdown()
        finally:
            # Also when cancelled; closing twice is fine.
            for server in self.servers:
                server.close()

    async def why_not_trusted(self, name: str, authorities: bytes) -> str | None:
        """Why a client that connects under this name, and trusts these authorities, refuses; None when it does not."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=authorities.decode())
            async with asyncio.timeout(self._client_seconds):
                address = self.servers[0].sockets[0].getsockname()[0]
                _, writer = await asyncio.open_connection(address, self.port, ssl=context, server_hostname=name)
        except (OSError, ValueError, TimeoutError) as error:
            return str(error) or type(error).__name__
        writer.close()
        return None

    async def drain(self, seconds: float) -> None:
        """Goes on serving for that long, asking clients with each answer to connect elsewhere; then ends serve().

        Requests that are being answered by then are finished.
        """
        self.config.encoded_headers = [(b"connection", b"close")]
        self.server_state.default_headers = self.config.encoded_headers
        await asyncio.sleep(seconds)
        self.should_exit = True

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state={}
        )
        return protocol


class BoundedProtocol(HttpToolsProtocol):
    """A connection that nobody can hold: deadlines for headers, body and taking the answer, a limit for headers."""

    client_seconds: float

    _deadline: TimerHandle | None = None
    _stalled: TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)  # Which resumes writing.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.client_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
            if self._deadline is None:
                self._set_deadline("headers")
        super().data_received(data)
        if self._in_headers and self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse_headers()

    def on_headers_complete(self) -> None:
        self._header_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._header_bytes > HEADER_BYTES:
            raise ValueError("headers too large")  # Ends parsing; send_400_response then says why.
        self._in_headers = False
        self._set_deadline("body")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0
        self._clear_deadline()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # Answered before the body had come: its data has disarmed the keep-alive timer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        if self._header_bytes > HEADER_BYTES:
            self._refuse_headers()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "expected an HTTP request")

    def _refuse_headers(self) -> None:
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected at most {HEADER_BYTES} bytes of headers")

    def _set_deadline(self, awaited: str) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(self.client_seconds, self._on_deadline, awaited)

    def _clear_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self, awaited: str) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"expected all of the {awaited} within {self.client_seconds:g} s")

    def _refuse(self, status: HTTPStatus, expected: str) -> None:
        """Closes the connection, with an answer where one is due: to what was asked, and was not answered yet."""
        if self._is_owed_an_answer():
            body = orjson.dumps({"error": expected})
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _is_owed_an_answer(self) -> bool:
        if self._in_headers:
            in_turn = self.cycle is None or self.cycle.response_complete
            return in_turn and self._header_bytes > 0
        return not self.cycle.response_started


def _tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
