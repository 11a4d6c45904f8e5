import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import AUTHORITY_LIFE, SERVING_LIFE, Authority, Pair, certificates, renewal, serves

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTS = ["localhost", "dittofs-operator.dittofs-system.svc", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("a test", NOW)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue_pair(HOSTS, NOW)


@pytest.mark.parametrize("host", HOSTS)
def test_a_strict_client_trusts_the_pair_for_each_host(
    authority: Authority, pair: Pair, host: str, tmp_path: Path
) -> None:
    assert handshake(authority, pair, host, tmp_path)


def test_a_client_does_not_trust_it_for_another_host(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, pair, "example.com", tmp_path)


def test_a_client_of_another_authority_does_not_trust_it(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(Authority.create("a test", NOW), pair, "localhost", tmp_path)


def test_lives_are_as_long_as_promised(authority: Authority, pair: Pair) -> None:
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    assert leaf.not_valid_after_utc == NOW + SERVING_LIFE == NOW + timedelta(days=90)
    assert authority.certificate.not_valid_after_utc == NOW + AUTHORITY_LIFE == NOW + timedelta(days=365)
    assert leaf.not_valid_before_utc < NOW


def test_a_long_host_name_fits(authority: Authority) -> None:
    host = "a" * 60 + ".example.com"
    assert serves(authority.issue_pair([host], NOW).certificate, authority.pem, [host], NOW)


class TestAPairServes:
    def test_while_it_is_valid_for_these_hosts(self, authority: Authority, pair: Pair) -> None:
        assert serves(pair.certificate, authority.pem, HOSTS[:2], NOW + SERVING_LIFE)

    def test_not_when_it_expires_before(self, authority: Authority, pair: Pair) -> None:
        assert not serves(pair.certificate, authority.pem, HOSTS, NOW + SERVING_LIFE + timedelta(seconds=1))

    def test_not_for_other_hosts(self, authority: Authority, pair: Pair) -> None:
        assert not serves(pair.certificate, authority.pem, ["example.com"], NOW)

    def test_not_with_another_authority(self, pair: Pair) -> None:
        assert not serves(pair.certificate, Authority.create("a test", NOW).pem, HOSTS, NOW)

    @pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\ntrunc"])
    def test_not_when_it_cannot_be_read(self, authority: Authority, broken: bytes) -> None:
        assert not serves(broken, authority.pem, HOSTS, NOW)


def handshake(authority: Authority, pair: Pair, host: str, folder: Path) -> bool:
    """TLS between two ends in memory, verified as strictly as Python 3.13 does."""
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client_context = ssl.create_default_context(cadata=authority.pem.decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    done: set[ssl.SSLObject] = set()
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    return done == {client, server}


def test_what_is_no_certificate_among_several_is_passed_over(authority: Authority) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert certificates(broken + authority.pem + b"rest" + authority.pem) == (authority.certificate,)


def test_an_authority_is_read_back_from_its_pem(authority: Authority, pair: Pair) -> None:
    again = Authority.read(authority.pem, authority.key_pem)
    assert again.certificate == authority.certificate
    assert again.read_leaf(pair).hosts == set(HOSTS)


def test_two_thirds_of_a_life_are_counted_from_when_it_was_made(authority: Authority) -> None:
    assert renewal(authority.certificate) == NOW + AUTHORITY_LIFE * 2 / 3
