import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from app.dittofs.errors import ServerError, ServerUnreachable, UnexpectedAnswer
from app.dittofs.exchange import HttpRequest, connect_by_tcp, exchange
from tests.harness.endpoints import address, listening
from tests.harness.loopback import NEEDS_IPV6
from tests.harness.raw_server import Received, Reply, raw_server, reply

LIMIT = 200_000
# Processor time of the event loop without a pause.
MOST_STEP_SECONDS = 0.01

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LONG = f"the answer to GET /x has more than {LIMIT} bytes"

pytestmark = pytest.mark.anyio


async def ask(url: str, seconds: float = 10.0) -> tuple[int, bytes]:
    return await exchange(HttpRequest("GET", url, "/x"), connect_by_tcp, seconds, LIMIT)


async def answer_to(answer: Callable[[Received], Reply], seconds: float = 10.0) -> tuple[int, bytes]:
    async with raw_server(answer) as url:
        return await ask(url, seconds)


async def failure(answer: Callable[[Received], Reply], seconds: float = 10.0) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await answer_to(answer, seconds)
    return caught.value


@NEEDS_IPV6
async def test_a_server_may_have_an_ipv6_address() -> None:
    hosts: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        hosts.extend(line for line in head.decode().splitlines() if line.startswith("Host: "))
        writer.write(OK + b"Content-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "::1") as server:
        port = server.sockets[0].getsockname()[1]
        assert await ask(f"http://[::1]:{port}") == (200, b"{}")

    assert hosts == [f"Host: [::1]:{port}"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(200, b"{}"), (200, b"{}")),
        (reply(503, b"no"), (503, b"no")),
        (reply(307, b""), (307, b"")),
        (OK + b"\r\nuntil it closes", (200, b"until it closes")),
        (CHUNKED + b"2\r\n{}\r\n3;name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", (200, b"{}abc")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.0 200 OK\r\n\r\nold", (200, b"old")),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply(200, b"late"), (200, b"late")),
        (reply(200, b"first") + reply(500, b"second"), (200, b"first")),
        (OK + b"content-length: 2\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b", (200, b"\x1f\x8b")),
        (OK + b"Content-Length: 0\r\n\r\n", (200, b"")),
        (OK + b"\r\n" + b"x" * LIMIT, (200, b"x" * LIMIT)),
    ],
)
async def test_an_answer_is_read_to_its_end(answer: bytes, expected: tuple[int, bytes]) -> None:
    assert await answer_to(lambda _: answer) == expected


async def test_an_answer_may_come_in_pieces() -> None:
    async def bytewise(_: Received) -> AsyncIterator[bytes]:
        for byte in CHUNKED + b"2\r\n{}\r\n0\r\n\r\n":
            yield bytes([byte])
            await asyncio.sleep(0)

    assert await answer_to(bytewise) == (200, b"{}")


async def test_a_request_is_sent_as_it_is() -> None:
    received: list[Received] = []

    def answer(request: Received) -> bytes:
        received.append(request)
        return reply(200, {})

    async with raw_server(answer) as url:
        headers = {"Content-Type": "application/json"}
        await exchange(HttpRequest("PUT", url, "/a%2Fb", headers, b'{"a":1}'), connect_by_tcp, 10.0, LIMIT)

    [request] = received
    assert request.line == "PUT /a%2Fb"
    assert request.headers["host"] == url.removeprefix("http://")
    assert request.headers["content-type"] == "application/json"
    assert request.body == b'{"a":1}'


async def test_a_request_shows_no_header_and_no_content() -> None:
    request = HttpRequest("PUT", "http://10.0.0.1:80", "/x", {"Authorization": "marker"}, b"marker")

    assert "marker" not in f"{request} {request!r}"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the connection was closed too early"),
        (b"HTTP/1.1 200", "the connection was closed too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", "the connection was closed too early"),
        (CHUNKED + b"2\r\n{}\r\n", "the connection was closed too early"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed too early"),
        (CHUNKED + b"zz\r\n", "what came back is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what came back is not HTTP"),
        (OK + b"Content-Length: minus\r\n\r\n", "what came back is not HTTP"),
        (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "what came back is not HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "what came back is not HTTP",
        ),
        (b"HTTP/9.9 99999 OK\r\n\r\n", "what came back is not HTTP"),
    ],
)
async def test_what_is_no_answer_is_unreachable(answer: bytes, message: str) -> None:
    error = await failure(lambda _: answer)

    assert isinstance(error, ServerUnreachable)
    assert str(error) == f"no answer to GET /x: {message}"


async def test_a_port_that_is_closed_is_unreachable() -> None:
    with listening() as server:
        gone = address(server)

    with pytest.raises(ServerUnreachable, match="no answer to GET /x: connection refused"):
        await ask(f"http://{gone}")


async def test_a_connection_that_is_reset_is_unreachable() -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        with pytest.raises(ServerUnreachable, match="no answer to GET /x: "):
            await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def silence(_: Received) -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


async def slow_headers(_: Received) -> AsyncIterator[bytes]:
    yield OK
    for number in range(1000):
        yield f"X-{number}: y\r\n".encode()
        await asyncio.sleep(0.02)


async def slow_body(_: Received) -> AsyncIterator[bytes]:
    yield OK + b"Content-Length: 1000\r\n\r\n"
    for _number in range(1000):
        yield b"["
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [silence, slow_headers, slow_body])
async def test_a_slow_answer_is_not_awaited(answer: Callable[[Received], AsyncIterator[bytes]]) -> None:
    error = await failure(answer, seconds=0.2)

    assert isinstance(error, ServerUnreachable)
    assert str(error) == "no answer to GET /x within 0.2 s"


@contextmanager
def flood(head: bytes, part: bytes) -> Iterator[str]:
    """Sends the head and then the part without end, from a thread of its own, as fast as it is taken."""

    def send() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(head)
            while True:
                connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=send)
        thread.start()
        yield f"http://{address(server)}"
        thread.join()


FLOODS = {
    "body": (OK + b"\r\n", b"x" * 65536),
    "error": (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536),
    "length": (OK + b"Content-Length: 99999999999999\r\n\r\n", b"x" * 65536),
    "chunks": (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "tiny chunks": (CHUNKED, b"1\r\nx\r\n" * 10_000),
    "chunk extension": (CHUNKED + b"1;", b"y" * 65536),
    "headers": (OK, b"X: y\r\n" * 10_000),
    "header": (OK + b"X: ", b"y" * 65536),
    "status": (b"HTTP/1.1 200 ", b"y" * 65536),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
    "hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2000),
    "empty lines": (b"", b"\r\n" * 30_000),
}


@pytest.mark.alone
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_soon_and_holds_up_nothing(name: str) -> None:
    steps = []

    async def measure() -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0)
            steps.append(time.thread_time() - begun)

    with flood(*FLOODS[name]) as url:
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(measure())
            with pytest.raises((UnexpectedAnswer, ServerUnreachable)) as caught:
                await ask(url)
            measuring.cancel()

    assert str(caught.value) in (TOO_LONG, "no answer to GET /x: what came back is not HTTP")
    assert max(steps) < MOST_STEP_SECONDS
