"""Serves HTTP with raw bytes on a socket, as a well-behaved DittoFS server, or as anything else that listens there."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.dittofs.exchange import Connect


@dataclass(frozen=True)
class Received:
    """A request as it came: the line such as `GET /health`, the headers in lower case, and the body."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Reply = bytes | AsyncIterable[bytes]


def reply(status: int, body: object, content_type: str = "application/json") -> bytes:
    """Returns a whole answer; the body is JSON unless it is given in bytes."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def connect_to(path: Path) -> Connect:
    """Returns how a client connects to this socket, whatever the host."""

    async def connect(_host: str, _port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(path)

    return connect


@asynccontextmanager
async def raw_server(answer: Callable[[Received], Reply], path: Path | None = None) -> AsyncIterator[str]:
    """Answers each request with the bytes that `answer` returns or yields, and then closes.

    Yields the URL; with a path it listens on a socket of that name instead, for a client that connects by `connect_to`.
    """
    busy: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        busy.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))

            replies = answer(Received(line.removesuffix(" HTTP/1.1"), headers, body))
            if isinstance(replies, bytes):
                writer.write(replies)
            else:
                async for part in replies:
                    writer.write(part)
                    await writer.drain()
            await writer.drain()
        writer.close()
        busy.discard(task)

    if path:
        server = await asyncio.start_unix_server(handle, path)
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield "" if path else f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        # A connection that was accepted just now is handled from the next turn on.
        await asyncio.sleep(0)
        for task in busy:
            task.cancel()
        if busy:
            await asyncio.wait(busy)
        # Transports close a turn after they were asked to. The event loop complains about those that are open.
        await asyncio.sleep(0)
