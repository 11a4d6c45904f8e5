"""Creates a certificate authority and issues serving certificates, as PEM. Reads no clock.

They have the key identifiers, key usage and critical constraints of RFC 5280, which Python 3.13 insists on
(VERIFY_X509_STRICT).
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=365)
SERVING_LIFE = timedelta(days=90)
# Certificates are valid from this long before they were issued, for clients whose clock is behind.
SKEW = timedelta(days=1)

# What cryptography raises for something that is no certificate, no key, or not signed by the given CA.
_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class Unusable(ValueError):
    """A certificate or key cannot be used; the message quotes nothing of the key."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Leaf:
    """A pair to serve, and the certificate of the CA that signed it."""

    pair: Pair
    certificate: x509.Certificate
    issuer: x509.Certificate

    def is_valid(self, now: datetime) -> bool:
        return is_valid(self.certificate, now) and is_valid(self.issuer, now)

    @property
    def hosts(self) -> frozenset[str]:
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return frozenset(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


@dataclass(frozen=True)
class Authority:
    """Signs serving certificates; `certificate` is what clients trust."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str, now: datetime, life: timedelta = AUTHORITY_LIFE) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)

        builder = (
            _builder(subject, subject, key.public_key(), now, now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )

        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Self:
        """Raises Unusable, also when the two do not belong together or the certificate may not sign others."""
        try:
            read, private = x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, None)
            may_sign = read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except _UNREADABLE as error:
            raise Unusable("certificate or key of the CA cannot be read") from error

        if not may_sign or not isinstance(private, ec.EllipticCurvePrivateKey):
            raise Unusable("the certificate is not a CA of this operator")
        if private.public_key() != read.public_key():
            raise Unusable("the key is not that of the CA's certificate")

        return cls(read, private)

    @property
    def pem(self) -> bytes:
        return pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def issue_pair(self, hosts: Iterable[str], now: datetime, life: timedelta = SERVING_LIFE) -> Pair:
        """Issues a certificate for these DNS names and IP addresses, the first of them its subject.

        It never outlives its CA.
        """
        hosts = list(hosts)
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(now + life, self.certificate.not_valid_after_utc)

        builder = (
            _builder(_name(hosts[0]), self.certificate.subject, key.public_key(), now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

        certificate = builder.sign(self.key, hashes.SHA256())
        return Pair(pem(certificate), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def read_leaf(self, pair: Pair) -> Leaf:
        """Raises Unusable when the pair cannot be read, does not belong together, or was not signed by this CA."""
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate)
            certificate.verify_directly_issued_by(self.certificate)
            matches = load_pem_private_key(pair.key, None).public_key() == certificate.public_key()
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except _UNREADABLE as error:
            raise Unusable("the serving certificate cannot be read, or is not signed by this CA") from error

        if not matches:
            raise Unusable("the key is not that of the serving certificate")
        return Leaf(pair, certificate, self.certificate)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def certificates(content: bytes) -> tuple[x509.Certificate, ...]:
    """Returns each certificate once, in order; skips what cannot be read, as API servers do."""
    unique: dict[x509.Certificate, None] = {}
    for block in _BLOCK.findall(content):
        try:
            unique[x509.load_pem_x509_certificate(block)] = None
        except _UNREADABLE:
            continue
    return tuple(unique)


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def renewal(certificate: x509.Certificate) -> datetime:
    """Returns when two thirds of the certificate's life are over."""
    issued = certificate.not_valid_before_utc + SKEW
    return issued + (certificate.not_valid_after_utc - issued) * 2 / 3


def serves(certificate: bytes, authority: bytes, hosts: Iterable[str], until: datetime) -> bool:
    """Returns whether the CA signed the certificate for all these hosts, and both are valid until that time."""
    try:
        leaf, issuer = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(authority)
        leaf.verify_directly_issued_by(issuer)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return False

    valid = min(leaf.not_valid_after_utc, issuer.not_valid_after_utc) >= until
    return valid and all(_host(host) in names for host in hosts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    # A common name has at most 64 characters; clients only look at the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
