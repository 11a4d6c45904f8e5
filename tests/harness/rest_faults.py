"""A way to a DittoFS server on which one call to its REST API goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, get_args

import httpx

from app.dittofs.client import MAX_ANSWER_BYTES
from tests.harness.raw_server import Received, raw_server, reply

Fault = Literal[
    "cut off",  # The connection ends without an answer, and the server was not asked.
    "unanswered",  # The server did what it was asked to do, and the answer is lost.
    "half an answer",
    "hanging",
    "error",
    "error in text",
    "no JSON",
    "other JSON",
    "other content",
    "huge",
    "redirect",
    "restarted before",
    "restarted after",
]
# The operator dies before the server gets the request, or before it gets the answer.
Death = Literal["killed before", "killed after"]
_HANG_SECONDS = 3600.0
# These reach the server; of its answer so much comes back.
_PASSED_ON: dict[str, float] = {"unanswered": 0, "half an answer": 0.5, "restarted before": 1, "restarted after": 1}


class RestProxy:
    """Passes requests on to a server; the call with the number `at`, counted from 1, has a fault.

    Only calls below /api/v1 count. `restart` restarts the server; `killed` is set when the operator should be dead.
    """

    def __init__(self, url: str, restart: Callable[[], None]) -> None:
        self.url = url
        self.calls: list[str] = []
        self.killed = asyncio.Event()
        self._restart = restart
        self._fault: Fault | Death | None = None
        self._at = 0

    def plan(self, fault: Fault | Death | None, at: int) -> None:
        """Counts from here, and plans a fault."""
        self.calls = []
        self.killed.clear()
        self._fault, self._at = fault, at

    @property
    def has_failed(self) -> bool:
        return len(self.calls) >= self._at > 0

    @asynccontextmanager
    async def serve(self, socket: Path | None = None) -> AsyncIterator[str]:
        """Listens, and yields the URL; with a Unix socket there, `connect_to` makes a client connect to it."""
        async with raw_server(self._answer, socket) as url:
            yield url

    async def _answer(self, request: Received) -> AsyncIterator[bytes]:
        if "/api/v1/" in request.line:
            self.calls.append(request.line)
            if len(self.calls) == self._at and self._fault:
                async for part in self._fail(self._fault, request):
                    yield part
                return

        yield await asyncio.to_thread(self._forward, request)

    async def _fail(self, fault: Fault | Death, request: Received) -> AsyncIterator[bytes]:
        if fault in get_args(Death):
            if fault == "killed after":
                await asyncio.to_thread(self._forward, request)
            self.killed.set()
        if fault in (*get_args(Death), "hanging"):
            await asyncio.sleep(_HANG_SECONDS)
        elif fault == "restarted before":
            await asyncio.to_thread(self._restart)

        if fault in _PASSED_ON:
            answer = await asyncio.to_thread(self._forward, request)
            if fault == "restarted after":
                await asyncio.to_thread(self._restart)
            yield answer[: int(len(answer) * _PASSED_ON[fault])]
        else:
            yield _broken(fault, request.body.decode())

    def _forward(self, request: Received) -> bytes:
        method, _, path = request.line.partition(" ")
        headers = {"Authorization": request.headers["authorization"]} if "authorization" in request.headers else {}
        try:
            answer = httpx.request(
                method, self.url + path, content=request.body, headers=headers, trust_env=False, verify=False
            )
        except httpx.TransportError:
            return b""
        return reply(answer.status_code, answer.content, answer.headers.get("Content-Type", ""))


def _broken(fault: Fault | Death, echo: str) -> bytes:
    """Returns an answer of which a client should believe nothing. All repeat what was sent, with the secrets in it."""
    return {
        "cut off": b"",
        "error": reply(500, {"title": "Internal Server Error", "status": 500, "detail": f"failed: {echo}"}),
        "error in text": reply(503, f"upstream failed on {echo}\n".encode(), "text/plain"),
        "no JSON": reply(200, f'{{"config": {echo!r}, '.encode()),
        "other JSON": reply(200, [[echo], None, {"name": 1, "status": echo, "config": [echo]}]),
        "other content": reply(200, f"<html>{echo}</html>".encode(), "text/html"),
        "huge": reply(200, b'["' + echo.encode() + b"x" * MAX_ANSWER_BYTES + b'"]'),
        "redirect": b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    }[fault]
