"""Runs uvicorn as the API server needs it: with deadlines, limits and an orderly end. Knows nothing of what it serves.

Keep-alive outlasts the API server's own 90 seconds, so that no review meets a connection that was closed here a moment
ago: the API server does not send such a POST again.
"""

import asyncio
import errno
import socket
import ssl
from asyncio.events import TimerHandle
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS = 120
# For a TLS handshake, for all headers of a request, and for all of its body.
CLIENT_SECONDS = 5.0
HEADER_BYTES = 16 * 1024
SHUTDOWN_SECONDS = 10

# As a host it stands for every address of the pod, of whichever family.
EVERY_ADDRESS = "::"
_EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104 - where a node has no IPv6

# What is used here of uvicorn although it does not promise to keep it; `listen` checks that it is there, and so are the
# methods that BoundedProtocol overrides.
SERVER_HOOKS = ("main_loop", "server_state", "shutdown")
PROTOCOL_HOOKS = ("cycle", "headers", "loop", "timeout_keep_alive_task", "transport")


class WebhookServer(uvicorn.Server):
    """Serves an ASGI application: over TLS with a context, in plain HTTP without one."""

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
        client_seconds: float = CLIENT_SECONDS,
    ) -> None:
        self._client_seconds = client_seconds
        self._protocol = type("Protocol", (BoundedProtocol,), {"client_seconds": client_seconds})

        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ssl_context_factory=(lambda *_: context) if context else None,
        )

        super().__init__(config)
        self.is_draining = False

    async def listen(self) -> None:
        """Accepts connections from here on.

        Raises OSError when the address is not available, RuntimeError when uvicorn lacks what is overridden here.
        """
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self._check_hooks()

        patience = self._client_seconds if self.config.ssl else None
        host, port = self.config.host, self.config.port
        # asyncio itself would take no connections by IPv4 there.
        both = _bind_both_families(port) if host == EVERY_ADDRESS else None
        if host == EVERY_ADDRESS and both is None:
            host = _EVERY_IPV4_ADDRESS

        server = await asyncio.get_running_loop().create_server(
            partial(self._protocol, self.config, self.server_state, {}),
            **({"sock": both} if both else {"host": host, "port": port}),
            ssl=self.config.ssl,
            backlog=self.config.backlog,
            ssl_handshake_timeout=patience,
            ssl_shutdown_timeout=patience,
        )
        self.servers = [server]
        # With port 0 this is the free one that was chosen.
        self.port: int = server.sockets[0].getsockname()[1]
        self.started = True

    async def serve(self, sockets: Any = None) -> None:
        """Runs until drained; leaves signals to the caller."""
        try:
            await self.main_loop()
            await self.shutdown()
        finally:
            # Also when cancelled; closing twice does no harm.
            for server in self.servers:
                server.close()

    async def drain(self, seconds: float) -> None:
        """Goes on serving for that long, but asks clients with each answer to connect elsewhere; then ends `serve`.

        Requests that are under way by then are still answered.
        """
        self.is_draining = True
        self.config.encoded_headers = [(b"connection", b"close")]
        self.server_state.default_headers = self.config.encoded_headers

        await asyncio.sleep(seconds)
        self.should_exit = True

    async def why_not_trusted(self, name: str, authorities: bytes) -> str | None:
        """Returns why a client that connects under this name and trusts these CAs refuses, None when it does not."""
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

    def _check_hooks(self) -> None:
        protocol = HttpToolsProtocol(self.config, self.server_state, {})
        overridden = [name for name in vars(BoundedProtocol) if not name.startswith("_")]
        used = {self.config: ["encoded_headers"], self: SERVER_HOOKS, protocol: [*PROTOCOL_HOOKS, *overridden]}
        missing = [name for owner, names in used.items() for name in names if not hasattr(owner, name)]
        if missing:
            raise RuntimeError(
                f"uvicorn {uvicorn.__version__} has no {', '.join(missing)}, which dittofs-operator overrides or uses: "
                "install the version in requirements.lock"
            )


def _bind_both_families(port: int) -> socket.socket | None:
    """Binds every address of IPv4 and IPv6; None on a node that has IPv4 alone."""
    if not socket.has_dualstack_ipv6():
        return None

    try:
        return socket.create_server((EVERY_ADDRESS, port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return None
        raise


class BoundedProtocol(HttpToolsProtocol):
    """Limits how long a client may take for headers, body and reading the answer, and how large headers may be."""

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
        super().connection_lost(exc)  # This resumes writing.

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
            # The answer was sent before the body had come, and the data of the body disarmed the keep-alive timer.
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_SECONDS, self.transport.close)

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
        """Closes the connection, after an answer to a request that has none yet."""
        if self._in_headers:
            is_next = self.cycle is None or self.cycle.response_complete
            awaits_answer = is_next and self._header_bytes > 0
        else:
            awaits_answer = not self.cycle.response_started

        if awaits_answer:
            body = orjson.dumps({"error": expected})
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)

        self.transport.close()
