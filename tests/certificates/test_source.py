"""The certificate that is served, and replaced while clients are connected: real sockets, real TLS."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.certificates.source import ServingCertificate, UnusableCertificate
from certs.authority import Pair
from tests.harness.webhook_site import LONG, REVIEW, Site, der, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def certificate(site: Site) -> ServingCertificate:
    """Served by the site in place of its files; nothing is loaded yet."""
    certificate = ServingCertificate(lambda: datetime.now(UTC))
    site.context = certificate.context
    return certificate


async def test_a_pair_is_served_from_the_next_connection_on(site: Site, certificate: ServingCertificate) -> None:
    async with serving(site):
        # uvloop closes the connection without the alert that OpenSSL has for it.
        with pytest.raises(ConnectionError):
            await site.served()

        for pair in (site.pair, site.new_pair()):
            certificate.load_pair(pair)
            assert await site.served() == der(pair)


async def test_a_pair_that_cannot_be_used_changes_nothing(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)

    with pytest.raises(UnusableCertificate):
        certificate.load_pair(Pair(site.pair.certificate, site.new_pair().key))

    async with serving(site):
        assert await site.served() == der(site.pair)


def test_loading_leaves_no_file_open(site: Site, certificate: ServingCertificate) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    certificate.load_pair(site.pair)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_an_rsa_pair_can_replace_another(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)
    async with serving(site):
        replaced = rsa_pair()
        certificate.load_pair(replaced)
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", site.running.port))

    assert ssl.PEM_cert_to_DER_cert(shown) == der(replaced)


async def test_clients_that_name_no_server_are_served(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)
    async with serving(site):
        renewed = site.new_pair()
        certificate.load_pair(renewed)
        _, writer = await site.connect("127.0.0.1")  # An address is never sent as a server name.
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()

    assert shown == der(renewed)


async def test_old_connections_survive_a_new_pair(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)
    async with serving(site, patience=LONG), site.client() as client:
        assert (await client.post(site.url, content=REVIEW)).status_code == 200

        certificate.load_pair(site.new_pair())

        assert (await client.post(site.url, content=REVIEW)).status_code == 200
        assert len(site.running.server_state.connections) == 1


async def test_tls_1_2_is_served_and_nothing_older(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)
    old = site.trust
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(site):
        address = ("127.0.0.1", site.running.port)
        _, writer = await asyncio.open_connection(*address, ssl=old, server_hostname="localhost")

        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"

        writer.close()

    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


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


async def test_clients_get_no_session_ticket(site: Site, certificate: ServingCertificate) -> None:
    certificate.load_pair(site.pair)
    async with serving(site, patience=LONG):
        reader, writer = await site.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

        assert not writer.get_extra_info("ssl_object").session.has_ticket

        writer.close()
