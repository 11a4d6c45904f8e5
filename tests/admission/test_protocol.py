"""Heads of answers that wait for their bodies, over plain sockets; test_server.py has clients that mean no good."""

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.types import ASGIApp as Application
from starlette.types import Message, Receive, Send

from app.admission.protocol import HEADER_BYTES, MAX_WAITING_REQUESTS
from app.admission.server import WebhookServer
from tests.harness.wait import until_async
from tests.harness.webhook_site import LONG

pytestmark = pytest.mark.anyio

# For a connection that ends because of its time, in a test that does not wait for it for long.
SHORT = 0.3
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with the method, the path and the body of the request."""
    body = b"%s %s %s" % (scope["method"].encode(), scope["path"].encode(), await read_body(receive))
    await answer(send, body, (b"content-length", b"%d" % len(body)))


@asynccontextmanager
async def connection_to(
    application: Application, client_seconds: float = LONG
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = WebhookServer(application, "127.0.0.1", 0, client_seconds=client_seconds)
    await server.listen()
    async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
        group.create_task(server.serve())
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        yield reader, writer
        writer.close()
        await server.drain(0)


async def ask(application: Application, *parts: bytes) -> bytes:
    """Sends the parts one after the other; returns all answers, to the last of which the connection must end."""
    async with connection_to(application) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()


class TestARequest:
    @pytest.mark.parametrize("size", [1, 7, 1000])
    async def test_may_come_in_pieces(self, size: int) -> None:
        request = b"POST /a%20b?c=d HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
        pieces = [request[start : start + size] for start in range(0, len(request), size)]

        assert (await ask(echo, *pieces)).endswith(b"\r\n\r\nPOST /a b body")

    async def test_may_be_chunked(self) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"

        assert (await ask(echo, head + b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n")).endswith(b"POST / body")

    async def test_larger_than_the_buffer_arrives_whole(self) -> None:
        body = bytes(range(256)) * (2048)
        head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)

        assert (await ask(echo, head, body)).endswith(b"POST / " + body)

    async def test_that_waits_for_a_continue_gets_one(self) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-Continue\r\nconnection: close\r\n\r\n"
        async with connection_to(echo) as (reader, writer):
            writer.write(head)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"bo")
            writer.write(b"dy")
            received = await reader.read()

        assert received.startswith(OK)
        assert received.endswith(b"POST / body")

    async def test_for_another_protocol_is_answered_in_this_one(self) -> None:
        upgrade = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
        async with connection_to(echo) as (reader, writer):
            writer.write(upgrade)

            assert (await reader.readuntil(b"GET /a ")).startswith(OK)

    async def test_with_an_undecodable_path_is_refused(self) -> None:
        assert b"400 Bad Request" in await ask(echo, b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n")

    @pytest.mark.parametrize("url", [b"http://host", b"http://host:99999/"])
    async def test_without_a_path_is_refused(self, url: bytes, caplog: pytest.LogCaptureFixture) -> None:
        assert b"400 Bad Request" in await ask(echo, b"OPTIONS " + url + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert not [record for record in caplog.records if record.exc_info]

    @pytest.mark.parametrize(
        ("last", "rest"),
        [(b"0\r\n", b"x: y\r\n"), (b"0\r\nx: ", b"yyyyyy"), (b"1;x=", b"yyyyyy")],
        ids=["trailers", "an endless trailer", "an extension of a chunk"],
    )
    async def test_has_no_larger_headers_after_its_body(self, last: bytes, rest: bytes) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
        async with connection_to(echo) as (reader, writer):
            writer.write(head + b"1\r\nx\r\n" + last)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(rest * (HEADER_BYTES // 5))
            received = await reader.read()

        assert received.startswith(b"HTTP/1.1 431 ")
        assert f"expected at most {HEADER_BYTES} bytes of headers".encode() in received

    async def test_may_have_small_headers_after_its_body(self) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        parts = [b"2;x=y\r\n", b"bo\r\n"] * 3000

        received = await ask(echo, head, *parts, b"0\r\nx: y\r\n\r\n")

        assert received.endswith(b"POST / " + b"bo" * 3000)

    async def test_behind_another_has_no_larger_headers(self) -> None:
        second = b"GET / HTTP/1.1\r\nx: " + b"y" * HEADER_BYTES + b"\r\n\r\n"

        assert b"y" * HEADER_BYTES not in await ask(echo, GET + second)

    async def test_that_begins_behind_another_has_no_larger_headers(self) -> None:
        async with connection_to(echo) as (reader, writer):
            writer.write(GET + b"GET / HTTP/1.1\r\nx: " + b"y" * HEADER_BYTES)
            await reader.readuntil(b"GET / ")
            writer.write(b"\r\nhost: x\r\n\r\n")

            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    async def test_behind_another_is_answered_after_it(self) -> None:
        paths: list[str] = []

        async def slow_at_first(scope: Message, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0 if paths else 0.1)
            paths.append(scope["path"])
            await echo(scope, receive, send)

        first = GET.replace(b"/ ", b"/1 ") + b"POST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbo"
        received = await ask(slow_at_first, first, b"dy" + LAST_GET.replace(b"/ ", b"/3 "))

        assert paths == ["/1", "/2", "/3"]
        assert received.index(b"GET /1 ") < received.index(b"POST /2 body") < received.index(b"GET /3 ")

    async def test_behind_many_others_is_refused(self) -> None:
        received: list[str] = []

        async def count(scope: Message, receive: Receive, send: Send) -> None:
            received.append(scope["path"])
            await echo(scope, receive, send)

        await ask(count, GET * (MAX_WAITING_REQUESTS + 2))

        assert len(received) <= MAX_WAITING_REQUESTS + 1

    async def test_behind_the_last_one_is_not_answered(self) -> None:
        assert (await ask(echo, LAST_GET + GET)).count(OK) == 1

    async def test_whose_client_leaves_ends_for_the_application(self) -> None:
        messages: list[Message] = []

        async def wait(scope: Message, receive: Receive, send: Send) -> None:
            messages.extend([await receive(), await receive()])
            await echo(scope, receive, send)

        async with connection_to(wait) as (_, writer):
            writer.write(GET)
            await until_async(lambda: True)
            writer.transport.abort()
            await until_async(lambda: len(messages) == 2)

        assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]


class TestAConnection:
    async def test_with_a_part_of_the_next_request_is_cut_off(self) -> None:
        async with connection_to(echo, client_seconds=SHORT) as (reader, writer):
            writer.write(GET + GET[:5])

            assert (await reader.read()).startswith(OK)

    async def test_leaves_nothing_to_the_garbage_collector(self) -> None:
        server = WebhookServer(echo, "127.0.0.1", 0)
        await server.listen()
        gc.disable()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            await reader.readuntil(b"GET / ")
            [protocol] = map(weakref.ref, server.server_state.connections)
            writer.close()
            await until_async(lambda: protocol() is None, 10)
        finally:
            gc.enable()
            server.servers[0].close()

    async def test_that_is_reset_leaves_no_timer(self) -> None:
        server = WebhookServer(echo, "127.0.0.1", 0, client_seconds=LONG)
        await server.listen()
        connections = cast("set[Any]", server.server_state.connections)
        async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
            group.create_task(server.serve())
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            await reader.readuntil(b"GET / ")
            [connection] = connections
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await until_async(lambda: not connections)
            await server.drain(0)

        assert connection.timeout_keep_alive_task.cancelled()

    async def test_half_closed_by_who_reads_nothing_is_cut_off(self) -> None:
        """The answer is too small for asyncio to pause writing, and too large for the sockets."""
        server = WebhookServer(echo, "127.0.0.1", 0, client_seconds=SHORT)
        await server.listen()
        server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connections = cast("set[Any]", server.server_state.connections)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
                group.create_task(server.serve())
                body = b"x" * 50_000
                for part in (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body), body):
                    await asyncio.to_thread(client.sendall, part)
                await until_async(lambda: any(each.cycle and each.cycle.response_complete for each in connections))
                client.shutdown(socket.SHUT_WR)

                await until_async(lambda: not connections, seconds=5)

                await server.drain(0)


class TestAnAnswer:
    async def test_without_a_length_is_chunked(self) -> None:
        async def stream(scope: Message, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one", b"", b"sixteen letters."):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})

        assert (await ask(stream, LAST_GET)).endswith(b"\r\n\r\n3\r\none\r\n10\r\nsixteen letters.\r\n0\r\n\r\n")

    async def test_to_head_has_no_body(self) -> None:
        received = await ask(echo, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

        assert received == OK + b"content-length: 7\r\nconnection: close\r\n\r\n"

    async def test_without_content_is_not_chunked(self) -> None:
        async def no_content(scope: Message, receive: Receive, send: Send) -> None:
            await answer(send, b"", status=204)

        assert await ask(no_content, LAST_GET) == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"

    async def test_before_the_body_does_not_end_the_connection(self) -> None:
        async def hasty(scope: Message, receive: Receive, send: Send) -> None:
            await answer(send, b"hello", (b"content-length", b"5"))

        post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
        received = await ask(hasty, post, b"body", LAST_GET)

        assert received.count(OK + b"content-length: 5\r\n") == 2


async def nothing(scope: Message, receive: Receive, send: Send) -> None:
    """Returns without an answer."""


async def fail(scope: Message, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def fail_halfway(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})
    raise ZeroDivisionError


class TestAnApplicationThat:
    @pytest.mark.parametrize("application", [nothing, fail])
    async def test_fails_is_answered_for(self, application: Application) -> None:
        received = await ask(application, GET + GET)

        assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert received.count(b"HTTP/1.1") == 1

    async def test_fails_halfway_leaves_an_incomplete_answer(self) -> None:
        received = await ask(fail_halfway, GET)

        assert received.endswith(b"5\r\nhello\r\n")
