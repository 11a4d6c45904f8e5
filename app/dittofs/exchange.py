"""Exchanges one HTTP request and its answer over a connection of its own. It holds to its limits whatever comes back.

HTTP libraries limit the parts of an answer that a sane server sends. This limits the bytes that are received at all,
since a hostile one can also send a million empty chunks, or interim answers without end.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from app.dittofs.errors import ServerUnreachable, UnexpectedAnswer

# For the status line and headers, and for what chunks need besides the body.
MAX_OVERHEAD_BYTES = 64 * 1024
# A step on the event loop does not take longer than it takes to parse so many bytes, one by one.
READ_BYTES = 4096

Connect = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True)
class HttpRequest:
    """A request to the server at `origin`, such as `http://10.0.0.9:8080`; `path` is encoded."""

    method: str
    origin: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


async def connect_by_tcp(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(host, port, limit=READ_BYTES)


async def exchange(request: HttpRequest, connect: Connect, seconds: float, limit: int) -> tuple[int, bytes]:
    """Returns status and body. No redirect is followed, nothing is unpacked, and no error quotes what was received.

    Raises ServerUnreachable, and UnexpectedAnswer for a body of more than `limit` bytes.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(request, connect, limit)
    except TimeoutError:
        raise ServerUnreachable(f"no answer to {request} within {seconds:g} s") from None
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "the connection was lost"
        raise ServerUnreachable(f"no answer to {request}: {why}") from None


async def _exchange(request: HttpRequest, connect: Connect, limit: int) -> tuple[int, bytes]:
    url = urlsplit(request.origin)
    reader, writer = await connect(url.hostname or "", url.port or 80)
    try:
        headers = {
            "Host": url.netloc,
            "User-Agent": "dittofs-operator",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **request.headers,
        }
        if request.content:
            headers["Content-Length"] = str(len(request.content))

        lines = [f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + request.content)
        await writer.drain()

        answer = _Answer()
        received = 0
        while data := await reader.read(READ_BYTES):
            received += len(data)
            answer.feed(data)
            if answer.is_complete:
                break

            if answer.is_not_http:
                raise ServerUnreachable(f"no answer to {request}: what came back is not HTTP")
            if len(answer.body) > limit or received > limit + MAX_OVERHEAD_BYTES:
                raise UnexpectedAnswer(f"the answer to {request} has more than {limit} bytes")

            # What has been received already is read without a pause otherwise.
            await asyncio.sleep(0)
    finally:
        # Closing waits for what the server may never take, and reads what it may never stop sending.
        writer.transport.abort()

    if not answer.is_complete and not answer.ends_with_connection:
        raise ServerUnreachable(f"no answer to {request}: the connection was closed too early")

    if len(answer.body) > limit:
        raise UnexpectedAnswer(f"the answer to {request} has more than {limit} bytes")
    return answer.status, bytes(answer.body)


class _Answer:
    """Takes what the parser calls: interim answers are skipped, and whatever follows the answer is ignored."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.status = 0
        self.is_complete = False
        self.is_not_http = False
        self._has_length = False
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.is_not_http = not self.is_complete

    @property
    def ends_with_connection(self) -> bool:
        return self.status != 0 and not self._has_length

    def on_header(self, name: bytes, _: bytes) -> None:
        self._has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.is_complete:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self.body += data

    def on_message_complete(self) -> None:
        self.is_complete |= self.status != 0
