"""A proxy that forwards everything to the real API server and injects the faults that a test asks for.

It never answers for the API server, except with those faults.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal, Self, TypedDict, Unpack

import aiohttp
from aiohttp import web
from anyio import sleep_forever
from anyio.from_thread import BlockingPortal, start_blocking_portal
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.controlplane.cluster import LOOPBACK, ControlPlane

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
# Headers that concern one connection only, and those that aiohttp sets itself.
_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
# aiohttp would add these of its own, and they would look like the client's.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BACKLOG = 1024
# Longer than any test: a connection that the proxy closes by itself would be a fault that no test asked for.
_IDLE_SECONDS = 3600.0
_SHUTDOWN_SECONDS = 0.1
_CLOSE_BY_RESET = struct.pack("ii", 1, 0)


@dataclass
class Request:
    """A request that arrived complete. `status` is that of its answer: None while it has none, or when it was cut."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    user_agent: str
    body: bytes = field(repr=False)
    status: int | None = None

    @property
    def watch(self) -> bool:
        return self.query.get("watch") in ("1", "true")


class Harm(TypedDict, total=False):
    """Defines what a fault does, in this order; what is left out is not done.

    `before` and `after` run in another thread while the request waits. What is passed on is done at the API server even
    if its client goes away meanwhile.
    """

    before: Callable[[], object]
    hang: bool  # Without an answer, until the client goes away or the proxy stops.
    cut: Literal["before", "after"]  # Connection reset: before the request is passed on, or after it was done.
    answer: int  # Not passed on; this status with a Status object.
    after: Callable[[], object]  # When the API server has answered and the client does not know it yet.
    stall: bool  # A watch, even if it was open before, passes nothing until the fault is removed.


@dataclass(eq=False)
class Fault:
    """Applies until it is removed, or has taken `times` requests. As a context manager it is removed at the end."""

    predicate: Callable[[Request], bool]
    times: int | None
    harm: Harm
    forget: Callable[["Fault"], None]
    taken: int = 0
    removed: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        self.forget(self)

    def takes(self, request: Request) -> bool:
        if self.taken == self.times or ("stall" in self.harm and not request.watch) or not self.predicate(request):
            return False
        self.taken += 1
        return True


_NONE = Fault(lambda _: True, None, Harm(), lambda _: None)


@dataclass(eq=False)
class _Watch:
    request: Request
    incoming: web.BaseRequest
    fault: Fault

    async def wait_while_stalled(self) -> None:
        while self.fault.harm.get("stall") and not self.fault.removed.is_set():
            await self.fault.removed.wait()


class Proxy:
    """Runs in its own thread inside a `with`; its methods may be called from any other thread.

    It speaks TLS, because kubectl sends no token without it. With two proxies, one client can be cut off and another
    not. When a predicate, `before` or `after` raises, the proxy ends, and the error comes out at the end of the `with`.
    """

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._control_plane = control_plane
        self._running = ExitStack()
        self._requests: list[Request] = []
        self._faults: list[Fault] = []
        self._watches: dict[int, _Watch] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio"))
            port = stack.enter_context(self._portal.wrap_async_context_manager(self._serving()))
            self.url = f"https://{LOOPBACK}:{port}"
            self.kubeconfig = self._redirect(self._control_plane.kubeconfig)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def requests(self) -> list[Request]:
        return list(self._requests)

    @property
    def watches(self) -> list[Request]:
        """Returns the requests of the open watches."""
        return [watch.request for watch in list(self._watches.values())]

    def kubeconfig_for(self, account: str, namespace: str) -> Path:
        """Writes a kubeconfig for an existing ServiceAccount, as the control plane does."""
        return self._redirect(self._control_plane.kubeconfig_for(account, namespace))

    def fault(self, predicate: Callable[[Request], bool], *, times: int | None = None, **harm: Unpack[Harm]) -> Fault:
        """Adds a fault, which is in force on return. Of several that match a request, the oldest takes it."""
        fault = Fault(predicate, times, harm, lambda fault: self._portal.call(self._forget, fault))
        self._portal.call(self._add, fault)
        return fault

    def cut_watches(self, predicate: Callable[[Request], bool] = lambda _: True) -> int:
        """Resets the open watches that match, and returns their number."""
        return self._portal.call(self._cut, predicate)

    def _redirect(self, kubeconfig: Path) -> Path:
        file = self.folder / f"proxy-{URL(self.url).port}.{kubeconfig.name}"
        file.write_text(kubeconfig.read_text().replace(self._control_plane.url, self.url))
        return file

    def _add(self, fault: Fault) -> None:
        self._faults.append(fault)
        if fault.harm.get("stall"):
            for watch in self._watches.values():
                if fault.takes(watch.request):
                    watch.fault = fault

    def _forget(self, fault: Fault) -> None:
        if fault in self._faults:
            self._faults.remove(fault)
        fault.removed.set()

    def _cut(self, predicate: Callable[[Request], bool]) -> int:
        chosen = [watch for watch in self._watches.values() if predicate(watch.request)]
        for watch in chosen:
            self._watches.pop(watch.request.number)
            _reset(watch.incoming)

        return len(chosen)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        certificate = self._control_plane.ca_file
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # The API server's certificate is valid for this address: clients that trust one server trust the other.
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))

        async with _connect_upstream(self._control_plane) as self._session, asyncio.TaskGroup() as self._tasks:
            server = web.Server(
                self._handle,
                handler_cancellation=True,
                auto_decompress=False,
                access_log=None,
                keepalive_timeout=_IDLE_SECONDS,
            )
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(server, LOOPBACK, 0, ssl=context, backlog=_BACKLOG)

            try:
                yield listener.sockets[0].getsockname()[1]
            finally:
                listener.close()
                # A connection that is merely closed would wait for the client to end TLS.
                for transport in filter(None, [connection.transport for connection in server.connections]):
                    transport.abort()
                await server.shutdown(_SHUTDOWN_SECONDS)

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        body = await incoming.content.read()
        agent = incoming.headers.get("User-Agent", "")
        number = len(self._requests) + 1
        request = Request(number, incoming.method, incoming.path, incoming.query, agent, body)
        self._requests.append(request)

        # A task of the group, because aiohttp would turn an error in a function of the test into an answer.
        response = await self._tasks.create_task(self._respond(incoming, request))
        if response is None:
            _reset(incoming)
            return web.Response()  # It has nowhere to go.

        request.status = response.status
        return response

    async def _respond(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse | None:
        """Returns the response, or None when the connection is to be reset."""
        fault = next((fault for fault in self._faults if fault.takes(request)), _NONE)
        exchange = self._exchange(incoming, request, fault)
        if request.watch or fault.harm.get("hang"):
            return await exchange

        # A cancellation means that the client went away, and the API server would finish the request all the same.
        return await asyncio.shield(self._tasks.create_task(exchange))

    async def _exchange(self, incoming: web.BaseRequest, request: Request, fault: Fault) -> web.StreamResponse | None:
        harm = fault.harm

        await _call(harm.get("before"))
        if harm.get("hang"):
            await sleep_forever()
        if harm.get("cut") == "before":
            return None
        if "answer" in harm:
            return _answer(harm["answer"])

        try:
            return await self._forward(incoming, request, fault)
        except aiohttp.ClientError:  # The API server or the client went away.
            return None

    async def _forward(self, incoming: web.BaseRequest, request: Request, fault: Fault) -> web.StreamResponse | None:
        harm = fault.harm
        url = URL(self._control_plane.url + incoming.raw_path, encoded=True)
        headers = _end_to_end(incoming.headers)
        # aiohttp warns of a large body unless it comes as a file.
        body = BytesIO(request.body) if request.body else None

        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as upstream:
            content = b"" if request.watch else await upstream.read()
            await _call(harm.get("after"))

            if harm.get("cut") == "after":
                return None
            if request.watch:
                return await self._stream(incoming, request, upstream, fault)

            return web.Response(status=upstream.status, headers=_end_to_end(upstream.headers), body=content)

    async def _stream(
        self, incoming: web.BaseRequest, request: Request, upstream: aiohttp.ClientResponse, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=_end_to_end(upstream.headers))
        watch = _Watch(request, incoming, fault)
        request.status = upstream.status
        self._watches[request.number] = watch

        try:
            await response.prepare(incoming)
            async for chunk in upstream.content.iter_any():
                await watch.wait_while_stalled()
                await response.write(chunk)
        finally:
            self._watches.pop(request.number, None)

        return response


def _connect_upstream(control_plane: ControlPlane) -> aiohttp.ClientSession:
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trust),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=_NOT_ADDED,
        auto_decompress=False,
    )


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


def _answer(code: int) -> web.Response:
    return web.json_response(_status(code), status=code, headers={"Retry-After": "1"} if code == 429 else None)


def _status(code: int) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": f"the proxy was asked to answer {code}",
        "reason": REASONS[code],
        "code": code,
    }


async def _call(function: Callable[[], object] | None) -> None:
    if function:
        await asyncio.to_thread(function)


def _reset(incoming: web.BaseRequest) -> None:
    """Lets the client see a broken connection instead of one that ended."""
    transport = incoming.transport
    if transport and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_BY_RESET)
        transport.abort()
