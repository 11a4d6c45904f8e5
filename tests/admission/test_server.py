"""The server against clients that mean no good, and certificates that change under it: real sockets, real TLS."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import REGISTRY

from app.admission.api import BODY_BYTES, webhook
from app.admission.server import (
    HEADER_BYTES,
    KEEP_ALIVE_SECONDS,
    CertificateFiles,
    ServingCertificate,
    UnusableCertificate,
    WebhookServer,
)
from app.storage.facts import Facts, Needs, StorageClass, StorageClasses
from app.storage.webhook_configurations import VALIDATE_PATH
from certs.authority import Authority, Pair
from tests.admission.reviews import review
from tests.harness.server_table import server
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

# Short enough not to wait for, long enough for an honest client on a busy machine.
REQUEST_TIMEOUT_SECONDS = 1.0
LONG = 20.0
REVIEW = orjson.dumps(review(server()))
HEAD = f"POST {VALIDATE_PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def at_once(_needs: Needs) -> Facts:
    return Facts(StorageClasses((StorageClass("fast", is_default=True),)))


class Site:
    """A server with a certificate in files, and an authority to make others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create("test", datetime.now(UTC))
        self.pair = self.new_pair()
        self.write(self.pair)
        self.certificate = CertificateFiles(folder / "tls.crt", folder / "tls.key")
        self.running: WebhookServer

    def new_pair(self) -> Pair:
        return self.authority.issue_pair(["localhost", "127.0.0.1"], datetime.now(UTC))

    def write(self, pair: Pair) -> None:
        """As a careful tool does, each file whole; the pair is not."""
        for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (self.folder / "new").write_bytes(content)
            (self.folder / "new").rename(self.folder / name)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.pem.decode())

    @property
    def url(self) -> str:
        return f"https://localhost:{self.running.port}{VALIDATE_PATH}"

    async def connect(self, host: str = "localhost") -> Connection:
        return await asyncio.open_connection("127.0.0.1", self.running.port, ssl=self.trust, server_hostname=host)

    def client(self) -> httpx.AsyncClient:
        headers = {"content-type": "application/json"}
        return httpx.AsyncClient(verify=self.trust, trust_env=False, headers=headers, timeout=LONG)

    async def served(self) -> bytes:
        """The certificate that a new connection is shown, DER."""
        _, writer = await self.connect()
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(shown)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@asynccontextmanager
async def serving(
    site: Site, gather: Callable[[Needs], Awaitable[Facts]] = at_once, patience: float = REQUEST_TIMEOUT_SECONDS
) -> AsyncIterator[WebhookServer]:
    site.running = WebhookServer(webhook(gather), "127.0.0.1", 0, site.certificate, patience)
    await site.running.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(site.running.serve())
        yield site.running
        if not site.running.should_exit:
            await site.running.drain(0)


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends; it must end."""
    async with asyncio.timeout(LONG):
        received = b""
        try:
            while chunk := await reader.read(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def seconds_left() -> float | None:
    return REGISTRY.get_sample_value("dittofs_operator_certificate_expiry_seconds", {"certificate": "serving"})


def der(pair: Pair) -> bytes:
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)


async def test_a_review_is_answered_over_tls(site: Site) -> None:
    async with serving(site), site.client() as client:
        answer = await client.post(site.url, content=REVIEW)
    assert answer.json()["response"] == {"uid": "u-1", "allowed": True}
    assert "server" not in answer.headers


class TestAClientThat:
    async def test_connects_and_says_nothing_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.running.port)
            assert await everything(reader) == b""
            writer.close()

    async def test_shakes_hands_and_says_nothing_is_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            assert await everything(reader) == b""
            writer.close()

    async def test_trickles_a_header_is_cut_off_and_told(self, site: Site) -> None:
        async with serving(site):
            received = await self.trickle(site, HEAD + b"x-endless: ")
        assert b"408 Request Timeout" in received
        assert b"expected all of the headers within 1 s" in received

    async def test_trickles_a_body_is_cut_off_and_told(self, site: Site) -> None:
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
    async def test_sends_64_kib_of_headers_is_told_the_limit(self, site: Site, lines: int) -> None:
        header = b"x: " + b"y" * (64 * 1024 // lines) + b"\r\n"
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(HEAD + header * lines + b"\r\n")
            received = await everything(reader)
            writer.close()

        assert b"431 Request Header Fields Too Large" in received
        assert f"expected at most {HEADER_BYTES} bytes of headers".encode() in received

    async def test_sends_an_endless_url_is_told_the_limit(self, site: Site) -> None:
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(b"POST /" + b"x" * 2 * HEADER_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n")

            assert b"431" in await everything(reader)

            writer.close()

    @pytest.mark.parametrize("streamed", [True, False], ids=["without a length", "with its length"])
    async def test_sends_8_mib_is_told_the_limit_and_the_connection_lives_on(self, site: Site, streamed: bool) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(128):
                yield b" " * 65536

        async with serving(site, patience=LONG), site.client() as client:
            answer = await client.post(site.url, content=chunks() if streamed else b" " * 8 * 2**20)

            assert answer.status_code == 413
            assert answer.json() == {"error": f"expected a body of at most {BODY_BYTES} bytes"}
            assert (await client.post(site.url, content=REVIEW)).status_code == 200

    async def test_sends_no_http_is_told(self, site: Site) -> None:
        async with serving(site, patience=LONG):
            reader, writer = await site.connect()
            writer.write(b"\x16\x03\x01 hello\r\n\r\n")
            received = await everything(reader)
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

    async def test_announces_a_body_and_keeps_it_is_answered_once_and_cut_off(self, site: Site) -> None:
        async with serving(site):
            reader, writer = await site.connect()
            writer.write(HEAD + b"content-length: 8388608\r\nexpect: 100-continue\r\n\r\n")
            received = await everything(reader)
            writer.close()

        assert received.startswith(b"HTTP/1.1 413 ")
        assert received.count(b"HTTP/1.1") == 1

    async def test_never_takes_its_answer_is_cut_off(self) -> None:
        """Without TLS, whose buffers would take an answer of any size; narrow sockets, for the kernel's do so too."""
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
        """A byte now and then, so that the connection is never silent; what the server says to that."""
        reader, writer = on or await site.connect()
        writer.write(start)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(everything(reader))
            while not answer.done() and not writer.is_closing():
                writer.write(drop)
                await asyncio.wait([answer], timeout=0.05)
        writer.close()
        return answer.result()


class TestACertificate:
    async def test_that_is_replaced_is_taken_up_by_new_connections(self, site: Site) -> None:
        async with serving(site):
            assert await site.served() == der(site.pair)

            renewed = site.new_pair()
            site.write(renewed)
            site.certificate.refresh()

            assert await site.served() == der(renewed)

    async def test_that_does_not_match_its_key_is_refused_and_no_request_is_dropped(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "app.admission.server")
        statuses: list[int] = []
        ending = asyncio.Event()
        async with serving(site, patience=LONG), site.client() as client, asyncio.TaskGroup() as group:
            watching = group.create_task(site.certificate.watch(0.01))
            group.create_task(self.ask(site, client, statuses, ending))
            foreign = Pair(site.new_pair().certificate, site.new_pair().key)
            site.write(foreign)
            await until_async(lambda: "the former one stays" in caplog.text)

            assert await site.served() == der(site.pair)

            good = site.new_pair()
            site.write(good)
            await until_async(lambda: "new certificate taken up" in caplog.text)

            assert await site.served() == der(good)

            count = len(statuses)
            await until_async(lambda: len(statuses) > count + 20)
            watching.cancel()
            ending.set()

        assert set(statuses) == {200}

    async def test_an_error_is_logged_once_and_not_at_each_look(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        (site.folder / "tls.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\ntrunc")
        for _ in range(3):
            site.certificate.refresh()
        assert caplog.text.count("the former one stays") == 1

    async def test_files_that_vanish_and_come_back_change_nothing(self, site: Site) -> None:
        async with serving(site):
            (site.folder / "tls.key").unlink()
            site.certificate.refresh()

            assert await site.served() == der(site.pair)

            site.write(site.pair)
            site.certificate.refresh()

            assert await site.served() == der(site.pair)

    async def test_tells_in_how_many_seconds_it_expires(self, site: Site) -> None:
        assert seconds_left() == pytest.approx(90 * 86400, abs=60)

        site.write(site.authority.issue_pair(["localhost"], datetime.now(UTC), timedelta(days=30)))
        site.certificate.refresh()

        assert seconds_left() == pytest.approx(30 * 86400, abs=60)

        (site.folder / "tls.crt").write_text("nonsense")
        site.certificate.refresh()

        assert seconds_left() == pytest.approx(30 * 86400, abs=60)

    async def test_may_become_rsa(self, site: Site) -> None:
        async with serving(site):
            replaced = rsa_pair()
            site.write(replaced)
            site.certificate.refresh()
            pem = ssl.get_server_certificate
            shown = await asyncio.to_thread(pem, ("127.0.0.1", site.running.port))

        assert ssl.PEM_cert_to_DER_cert(shown) == der(replaced)

    async def test_is_shown_to_clients_that_name_no_server(self, site: Site) -> None:
        async with serving(site):
            renewed = site.new_pair()
            site.write(renewed)
            site.certificate.refresh()
            _, writer = await site.connect("127.0.0.1")  # An address is never sent as a server name.
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()

        assert shown == der(renewed)

    async def test_that_is_replaced_leaves_old_connections_alone(self, site: Site) -> None:
        async with serving(site, patience=LONG), site.client() as client:
            assert (await client.post(site.url, content=REVIEW)).status_code == 200

            site.write(site.new_pair())
            site.certificate.refresh()

            assert (await client.post(site.url, content=REVIEW)).status_code == 200
            assert len(site.running.server_state.connections) == 1

    async def test_that_cannot_be_served_is_told_at_the_start(self, site: Site, tmp_path: Path) -> None:
        with pytest.raises(UnusableCertificate, match=r"certificate .*none with key .*tls\.key: No such file"):
            CertificateFiles(tmp_path / "none", tmp_path / "tls.key")

    async def test_is_shown_in_tls_1_2_and_in_nothing_older(self, site: Site) -> None:
        old = site.trust
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with serving(site):
            address = ("127.0.0.1", site.running.port)
            _, writer = await asyncio.open_connection(*address, ssl=old, server_hostname="localhost")

            assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"

            writer.close()

        assert site.certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2

    @staticmethod
    async def ask(site: Site, client: httpx.AsyncClient, statuses: list[int], ending: asyncio.Event) -> None:
        """On kept connections and on new ones in turn; httpx leaves one open that is cancelled in its handshake."""
        while not ending.is_set():
            for headers in ({}, {"connection": "close"}):
                answer = await client.post(site.url, content=REVIEW, headers=headers)
                statuses.append(answer.status_code)


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

    async def test_of_an_idle_connection_comes_after_the_api_server_has_ended_it_itself(self, site: Site) -> None:
        async with serving(site, patience=LONG), site.client() as client:
            await client.post(site.url, content=REVIEW)
            connection: Any = next(iter(site.running.server_state.connections))
            closes_in = connection.timeout_keep_alive_task.when() - asyncio.get_running_loop().time()

        assert 90 < closes_in <= KEEP_ALIVE_SECONDS

    async def test_an_address_in_use_is_an_error_that_names_it(self, site: Site) -> None:
        async with serving(site) as running:
            second = WebhookServer(webhook(at_once), "127.0.0.1", running.port, site.certificate)
            with pytest.raises(OSError, match=f"'127.0.0.1', {running.port}"):
                await second.listen()


async def test_a_server_without_a_certificate_is_plain(site: Site) -> None:
    plain = WebhookServer(webhook(at_once), "127.0.0.1", 0)
    await plain.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(plain.serve())
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{plain.port}{VALIDATE_PATH}", json=review(server()))
        await plain.drain(0)

    assert answer.status_code == 200


def rsa_pair() -> Pair:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


class TestAPairInMemory:
    @pytest.fixture
    def in_memory(self, site: Site) -> ServingCertificate:
        # The site never looks at the files that it was made with.
        site.certificate = ServingCertificate()  # type: ignore[assignment]
        return site.certificate

    async def test_is_served_from_the_next_connection_on(self, site: Site, in_memory: ServingCertificate) -> None:
        async with serving(site):
            # uvloop closes the connection without the alert that OpenSSL has for it.
            with pytest.raises(ConnectionError):
                await site.served()

            for pair in (site.pair, site.new_pair()):
                in_memory.serve_pair(pair)
                assert await site.served() == der(pair)

    async def test_that_cannot_be_used_changes_nothing(self, site: Site, in_memory: ServingCertificate) -> None:
        in_memory.serve_pair(site.pair)

        with pytest.raises(UnusableCertificate):
            in_memory.serve_pair(Pair(site.pair.certificate, site.new_pair().key))

        async with serving(site):
            assert await site.served() == der(site.pair)

    def test_leaves_no_file_open(self, in_memory: ServingCertificate, site: Site) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        in_memory.serve_pair(site.pair)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


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
