"""The server against clients that mean no good: real sockets, real TLS."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.admission import server as server_module
from app.admission.api import BODY_BYTES, webhook
from app.admission.protocol import HEADER_BYTES, KEEP_ALIVE_SECONDS
from app.admission.server import EVERY_ADDRESS, WebhookServer
from app.storage.facts import Facts, Needs
from app.storage.webhook_configurations import VALIDATE_PATH
from certs.authority import Authority
from tests.admission.reviews import review
from tests.harness.loopback import NEEDS_IPV6
from tests.harness.server_table import server
from tests.harness.wait import until_async
from tests.harness.webhook_site import LONG, REQUEST_TIMEOUT_SECONDS, REVIEW, Connection, Site, at_once, serving

pytestmark = pytest.mark.anyio

# What asyncio.Protocol does not have.
OVERRIDDEN = (
    "on_body",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
)
HEAD = f"POST {VALIDATE_PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Returns what arrives until the connection ends; it must end."""
    async with asyncio.timeout(LONG):
        received = b""
        try:
            while chunk := await reader.read(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


async def test_a_review_is_answered_over_tls(site: Site) -> None:
    async with serving(site), site.client() as client:
        answer = await client.post(site.url, content=REVIEW)
    assert answer.json()["response"] == {"uid": "u-1", "allowed": True}
    assert "server" not in answer.headers


async def test_an_answer_is_one_tls_record(site: Site) -> None:
    """A client gets one record at a time from OpenSSL, however many have arrived."""

    def first_record() -> bytes:
        address = ("127.0.0.1", site.running.port)
        with (
            socket.create_connection(address, timeout=LONG) as plain,
            site.trust.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(REVIEW) + REVIEW)
            return client.recv(65536)

    async with serving(site, patience=LONG):
        head, _, body = (await asyncio.to_thread(first_record)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert orjson.loads(body)["response"]["allowed"]


class TestAClientThat:
    async def test_connects_and_sends_nothing_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.running.port)
            assert await read_to_end(reader) == b""
            writer.close()

    async def test_sends_nothing_after_the_handshake_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            assert await read_to_end(reader) == b""
            writer.close()

    async def test_trickles_a_header_gets_408_and_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            received = await self.trickle(site, HEAD + b"x-endless: ")
        assert b"408 Request Timeout" in received
        assert b"expected all of the headers within 1 s" in received

    async def test_trickles_a_body_gets_408_and_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            received = await self.trickle(site, HEAD + b"content-length: 100000\r\n\r\n")
        assert b"expected all of the body within 1 s" in received

    async def test_trickles_its_second_request_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            await self.post(writer, REVIEW)

            assert b'"allowed":true' in await reader.read(65536)
            assert b"408" in await self.trickle(site, b"POST / HTTP/1.1\r\nx: ", (reader, writer))

    async def test_sends_blank_lines_between_requests_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            await self.post(writer, REVIEW)

            assert b'"allowed":true' in await reader.read(65536)
            assert b"408" in await self.trickle(site, b"\r\n", (reader, writer), drop=b"\r\n")

    @pytest.mark.parametrize("lines", [1, 1000])
    async def test_sends_64_kib_of_headers_learns_the_limit(self, site: Site, lines: int) -> None:
        header = b"x: " + b"y" * (64 * 1024 // lines) + b"\r\n"
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(HEAD + header * lines + b"\r\n")
            received = await read_to_end(reader)
            writer.close()

        assert b"431 Request Header Fields Too Large" in received
        assert f"expected at most {HEADER_BYTES} bytes of headers".encode() in received

    async def test_sends_an_endless_url_learns_the_limit(self, site: Site) -> None:
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(b"POST /" + b"x" * 2 * HEADER_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n")

            assert b"431" in await read_to_end(reader)

            writer.close()

    @pytest.mark.parametrize("streamed", [True, False], ids=["without a length", "with its length"])
    async def test_sends_8_mib_learns_the_limit_and_may_go_on(self, site: Site, streamed: bool) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(128):
                yield b" " * 65536

        async with serving(site, patience=LONG), site.client() as client:
            answer = await client.post(site.url, content=chunks() if streamed else b" " * 8 * 2**20)

            assert answer.status_code == 413
            assert answer.json() == {"error": f"expected a body of at most {BODY_BYTES} bytes"}
            assert (await client.post(site.url, content=REVIEW)).status_code == 200

    async def test_sends_no_http_gets_400(self, site: Site) -> None:
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(b"\x16\x03\x01 hello\r\n\r\n")
            received = await read_to_end(reader)
            writer.close()

        assert b"400 Bad Request" in received
        assert b"expected an HTTP request" in received

    async def test_leaves_in_the_middle_of_its_body_is_no_error(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(site, patience=LONG), site.client() as client:
            _, writer = await site.connect()
            writer.write(HEAD + b"content-length: 100000\r\n\r\nxxx")
            await writer.drain()
            writer.close()

            assert (await client.post(site.url, content=REVIEW)).status_code == 200

        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    async def test_keeps_its_body_is_answered_once_and_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            writer.write(HEAD + b"content-length: 8388608\r\nexpect: 100-continue\r\n\r\n")
            received = await read_to_end(reader)
            writer.close()

        assert received.startswith(b"HTTP/1.1 413 ")
        assert received.count(b"HTTP/1.1") == 1

    async def test_never_reads_its_answer_is_cut_off(self) -> None:
        """Uses no TLS and narrow sockets: buffers of TLS and of the kernel would take an answer of any size."""
        plain = WebhookServer(webhook(at_once), "127.0.0.1", 0, client_seconds=REQUEST_TIMEOUT_SECONDS)
        await plain.listen()
        plain.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", plain.port))
            client.setblocking(False)
            _, writer = await asyncio.open_connection(sock=client)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            async with asyncio.TaskGroup() as group:
                group.create_task(plain.serve())
                connections = cast("set[Any]", plain.server_state.connections)
                try:
                    await self.post(writer, orjson.dumps(review(server(), uid="x" * 3_000_000)))
                    await until_async(lambda: any(connection.flow.write_paused for connection in connections))
                    await until_async(lambda: not connections, seconds=5 * REQUEST_TIMEOUT_SECONDS)
                finally:
                    writer.transport.abort()
                    await plain.drain(0)

    @staticmethod
    async def post(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    @staticmethod
    async def trickle(site: Site, start: bytes, on: Connection | None = None, drop: bytes = b"x") -> bytes:
        """Sends a byte now and then, so that the connection is never silent, and returns the answer to that."""
        reader, writer = on or await site.connect()
        writer.write(start)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(read_to_end(reader))
            while not answer.done() and not writer.is_closing():
                writer.write(drop)
                await asyncio.wait([answer], timeout=0.05)
        writer.close()
        return answer.result()


class TestTheEnd:
    async def test_is_announced_to_clients_and_then_comes(self, site: Site) -> None:
        async with serving(site, patience=LONG), site.client() as client:
            assert "connection" not in (await client.post(site.url, content=REVIEW)).headers

            async with asyncio.TaskGroup() as group:
                group.create_task(site.running.drain(1.0))
                await asyncio.sleep(0)
                answer = await client.post(site.url, content=REVIEW)

        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        with pytest.raises(ConnectionRefusedError):
            await site.connect()

    async def test_waits_for_a_request_that_is_being_answered(self, site: Site) -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(needs: Needs) -> Facts:
            asked.set()
            await go_on.wait()
            return await at_once(needs)

        async with serving(site, slow, patience=LONG), site.client() as client, asyncio.TaskGroup() as group:
            request = group.create_task(client.post(site.url, content=REVIEW))
            await asked.wait()
            await site.running.drain(0)
            go_on.set()

        assert request.result().status_code == 200

    async def test_does_not_wait_for_ever(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 0.1)
        asked = asyncio.Event()

        async def never(needs: Needs) -> Facts:
            asked.set()
            await asyncio.get_running_loop().create_future()
            return await at_once(needs)

        async def ask() -> None:
            assert (await client.post(site.url, content=REVIEW)).status_code == 500

        async with serving(site, never, patience=LONG), site.client() as client, asyncio.TaskGroup() as group:
            group.create_task(ask())
            await asked.wait()
            await site.running.drain(0)

    async def test_without_notice_takes_connections_along(self, site: Site) -> None:
        site.running = WebhookServer(webhook(at_once), "127.0.0.1", 0, site.context)
        await site.running.listen()
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(site.running.serve())
            reader, writer = await site.connect()
            answering.cancel()

        assert await read_to_end(reader) == b""

        writer.close()

    async def test_of_an_idle_connection_is_up_to_the_api_server(self, site: Site) -> None:
        async with serving(site, patience=LONG), site.client() as client:
            await client.post(site.url, content=REVIEW)
            connection: Any = next(iter(site.running.server_state.connections))
            closes_in = connection.timeout_keep_alive_task.when() - asyncio.get_running_loop().time()

        assert 90 < round(closes_in, 3) <= KEEP_ALIVE_SECONDS

    async def test_an_address_in_use_is_an_error_that_names_it(self, site: Site) -> None:
        async with serving(site) as running:
            second = WebhookServer(webhook(at_once), "127.0.0.1", running.port, site.context)
            with pytest.raises(OSError, match=f"'127.0.0.1', {running.port}"):
                await second.listen()


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=NEEDS_IPV6)])
async def test_every_address_is_of_both_families(site: Site, address: str) -> None:
    """What asyncio binds for such a host takes no connection by IPv4."""
    async with serving(site, host=EVERY_ADDRESS) as running:
        _, writer = await asyncio.open_connection(address, running.port, ssl=site.trust, server_hostname="localhost")
        writer.close()

        assert await running.why_not_trusted("localhost", site.authority.pem) is None


async def test_every_address_of_a_node_without_ipv6_is_of_ipv4(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    async with serving(site, host=EVERY_ADDRESS), site.client() as client:
        assert (await client.post(site.url, content=REVIEW)).status_code == 200


@NEEDS_IPV6
async def test_every_address_in_use_is_an_error(site: Site) -> None:
    async with serving(site, host=EVERY_ADDRESS) as running:
        second = WebhookServer(webhook(at_once), EVERY_ADDRESS, running.port, site.context)
        with pytest.raises(OSError, match=str(running.port)):
            await second.listen()


@pytest.mark.parametrize(
    ("owner", "hook"), [(uvicorn.Server, "shutdown"), *((HttpToolsProtocol, hook) for hook in OVERRIDDEN)]
)
async def test_a_uvicorn_without_a_hook_is_refused(owner: type, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(owner, hook)

    with pytest.raises(RuntimeError, match=rf"^uvicorn 0\.\d+\.\d+ has no {hook}, .*requirements\.lock$"):
        await WebhookServer(webhook(at_once), "127.0.0.1", 0).listen()


async def test_a_server_without_a_certificate_is_plain(site: Site) -> None:
    plain = WebhookServer(webhook(at_once), "127.0.0.1", 0)
    await plain.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(plain.serve())
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{plain.port}{VALIDATE_PATH}", json=review(server()))
        await plain.drain(0)

    assert answer.status_code == 200


class TestAClientThatTrusts:
    async def test_the_authority_gets_through(self, site: Site) -> None:
        async with serving(site) as running:
            assert await running.why_not_trusted("localhost", site.authority.pem) is None

    async def test_another_authority_says_why_not(self, site: Site) -> None:
        other = Authority.create("test", datetime.now(UTC))
        async with serving(site) as running:
            assert "certificate verify failed" in str(await running.why_not_trusted("localhost", other.pem))
            assert "certificate verify failed" in str(await running.why_not_trusted("example.com", site.authority.pem))
            assert await running.why_not_trusted("localhost", b"")
