"""Runs uvicorn as the API server needs it, up to an orderly end. Knows nothing of what it serves."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.admission.protocol import KEEP_ALIVE_SECONDS, PROTOCOL_HOOKS, BoundedProtocol

# For a TLS handshake, for all headers of a request, and for all of its body.
CLIENT_SECONDS = 5.0
SHUTDOWN_SECONDS = 10

# As a host it stands for every address of the pod, of whichever family.
EVERY_ADDRESS = "::"
_EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104 - where a node has no IPv6

# What is used here of uvicorn although it does not promise to keep it; `listen` checks that it is there, and so are the
# methods that BoundedProtocol overrides.
SERVER_HOOKS = ("server_state", "shutdown")


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
        # uvicorn's own loop would look ten times a second whether to go on.
        self._stop = asyncio.Event()

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
            await self._stop.wait()
            await self.shutdown()
        except asyncio.CancelledError:
            # An open connection would keep the event loop from closing.
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            raise
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
        self._stop.set()

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
