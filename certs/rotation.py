"""Decides what the one Secret with CA, next CA and serving certificate should hold next. Reads no clock.

A new CA signs what is served only when every API server trusts it. So it is first stored beside the current one
(`next-ca.crt`) and published, and takes its place when it has been trusted for a while. The previous CA stays trusted
(`former-ca.crt`) until it expires, although its key is removed at once: a replica that has not seen the change, for
whatever reason and however long, serves what that CA signed, and no certificate outlives its CA. After that nobody can
need it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509

from certs.authority import (
    AUTHORITY_LIFE,
    SERVING_LIFE,
    Authority,
    Leaf,
    Pair,
    Unusable,
    certificates,
    is_valid,
    pem,
    renewal,
)

CA, CA_KEY = "ca.crt", "ca.key"
NEXT, NEXT_KEY = "next-ca.crt", "next-ca.key"
FORMER = "former-ca.crt"
SERVING, SERVING_KEY = "tls.crt", "tls.key"

NAME = "dittofs-operator CA"

Content = Mapping[str, bytes]


@dataclass(frozen=True)
class CertificateOptions:
    """States for which hosts certificates are issued, the first of them the subject, and for how long."""

    hosts: tuple[str, ...]
    authority_life: timedelta = AUTHORITY_LIFE
    serving_life: timedelta = SERVING_LIFE


@dataclass(frozen=True)
class Step:
    """A new content for the Secret, and what to report about it; `heals` when the Secret was not as it should be."""

    content: Content
    reason: str
    message: str
    heals: bool = False


@dataclass(frozen=True)
class CertificateSecret:
    """The parts of the Secret's content as far as they can be used at the time `now`; None stands for the others."""

    content: Content
    now: datetime

    @cached_property
    def authority(self) -> Authority | None:
        return self._read_authority(CA, CA_KEY)

    @cached_property
    def next_authority(self) -> Authority | None:
        return self._read_authority(NEXT, NEXT_KEY)

    @cached_property
    def leaf(self) -> Leaf | None:
        if not self.authority:
            return None
        try:
            leaf = self.authority.read_leaf(Pair(self.part(SERVING), self.part(SERVING_KEY)))
        except Unusable:
            return None
        return leaf if leaf.is_valid(self.now) else None

    @cached_property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """The CAs that clients must trust on its account, the current one first."""
        signing = [authority.certificate for authority in (self.authority, self.next_authority) if authority]
        previous = _valid(self.part(FORMER), self.now)
        return tuple(dict.fromkeys([*signing, *previous]))

    def due_times(self) -> Iterator[datetime]:
        """Yields when time alone makes something due."""
        if self.authority:
            yield renewal(self.authority.certificate)
        if self.leaf:
            yield renewal(self.leaf.certificate)
        yield from (certificate.not_valid_after_utc for certificate in self.trusted)

    def part(self, name: str) -> bytes:
        return self.content.get(name) or b""

    def _read_authority(self, certificate: str, key: str) -> Authority | None:
        try:
            authority = Authority.read(self.part(certificate), self.part(key))
        except Unusable:
            return None
        return authority if is_valid(authority.certificate, self.now) else None


def next_step(
    content: Content | None, options: CertificateOptions, now: datetime, *, next_is_trusted: bool
) -> Step | None:
    """Returns None when there is nothing to change; content is None while there is no Secret.

    `next_is_trusted` says that the next CA has been published, and read back, for long enough.
    """
    if content is None:
        message = f"issued a CA and a serving certificate for {options.hosts[0]}"
        return Step(_issue_all(options, now), "CertificatesIssued", message)

    secret = CertificateSecret(content, now)
    if not secret.authority:
        return _replace_all(secret, options)

    return _replace_leaf(secret, secret.authority, options) or _rotate_authority(
        secret, secret.authority, options, next_is_trusted=next_is_trusted
    )


def _replace_all(secret: CertificateSecret, options: CertificateOptions) -> Step:
    # The CAs in the Secret stay trusted: a replica may serve a good certificate of one of them.
    previous = _valid(b"".join(secret.part(name) for name in (CA, NEXT, FORMER)), secret.now)
    return Step(
        {**_issue_all(options, secret.now), **_former_entry(previous)},
        "CertificatesReplaced",
        "issued a new CA and serving certificate: those in the Secret were incomplete, expired or not of this operator",
        heals=True,
    )


def _replace_leaf(secret: CertificateSecret, authority: Authority, options: CertificateOptions) -> Step | None:
    if not secret.leaf:
        issued = _issue_leaf(authority, options.hosts, options, secret.now)
        message = "issued a new serving certificate: that in the Secret was incomplete, expired or not signed by its CA"
        return Step({**secret.content, **issued}, "CertificateReplaced", message, heals=True)

    if missing := [host for host in options.hosts if host not in secret.leaf.hosts]:
        # The other hosts stay: two replicas with different names must not take each other's away.
        hosts = (*options.hosts, *sorted(secret.leaf.hosts - set(options.hosts)))
        issued = _issue_leaf(authority, hosts, options, secret.now)
        message = f"issued a new serving certificate: the last one was not valid for {', '.join(missing)}"
        return Step({**secret.content, **issued}, "CertificateReplaced", message)

    # At the end of its CA's life a renewed certificate would not last any longer; only a new CA helps then.
    certificate = secret.leaf.certificate
    can_last_longer = certificate.not_valid_after_utc < authority.certificate.not_valid_after_utc
    if secret.now >= renewal(certificate) and can_last_longer:
        issued = _issue_leaf(authority, options.hosts, options, secret.now)
        return Step({**secret.content, **issued}, "CertificateRenewed", "renewed the serving certificate")

    return None


def _rotate_authority(
    secret: CertificateSecret, authority: Authority, options: CertificateOptions, *, next_is_trusted: bool
) -> Step | None:
    if secret.next_authority and next_is_trusted:
        return _use_next_authority(secret, authority, secret.next_authority, options)

    if not secret.next_authority and secret.now >= renewal(authority.certificate):
        created = Authority.create(NAME, secret.now, options.authority_life)
        content = {**secret.content, NEXT: created.pem, NEXT_KEY: created.key_pem}
        return Step(content, "NextCACreated", "created the next CA, which is published before it signs anything")

    if not secret.next_authority and (secret.part(NEXT) or secret.part(NEXT_KEY)):
        content = _without(secret.content, NEXT, NEXT_KEY)
        return Step(content, "CARemoved", "removed a next CA that cannot be used", heals=True)

    previous = certificates(secret.part(FORMER))
    valid = _valid(secret.part(FORMER), secret.now)
    if len(valid) < len(previous):
        content = {**_without(secret.content, FORMER), **_former_entry(valid)}
        return Step(content, "CARemoved", "removed a previous CA, which has expired")

    return None


def _use_next_authority(
    secret: CertificateSecret, authority: Authority, next_authority: Authority, options: CertificateOptions
) -> Step:
    previous = [certificate for certificate in secret.trusted if certificate != next_authority.certificate]
    content = {
        **_without(secret.content, NEXT, NEXT_KEY, FORMER),
        **_authority_entries(next_authority),
        **_issue_leaf(next_authority, options.hosts, options, secret.now),
        **_former_entry([authority.certificate, *previous]),
    }

    message = "the next CA signs from now on; the previous one stays trusted until it expires"
    return Step(content, "CARotated", message)


def _issue_all(options: CertificateOptions, now: datetime) -> dict[str, bytes]:
    authority = Authority.create(NAME, now, options.authority_life)
    return _authority_entries(authority) | _issue_leaf(authority, options.hosts, options, now)


def _issue_leaf(
    authority: Authority, hosts: tuple[str, ...], options: CertificateOptions, now: datetime
) -> dict[str, bytes]:
    pair = authority.issue_pair(hosts, now, options.serving_life)
    return {SERVING: pair.certificate, SERVING_KEY: pair.key}


def _authority_entries(authority: Authority) -> dict[str, bytes]:
    return {CA: authority.pem, CA_KEY: authority.key_pem}


def _former_entry(previous: list[x509.Certificate]) -> dict[str, bytes]:
    return {FORMER: b"".join(map(pem, dict.fromkeys(previous)))} if previous else {}


def _valid(content: bytes, now: datetime) -> list[x509.Certificate]:
    return [certificate for certificate in certificates(content) if is_valid(certificate, now)]


def _without(content: Content, *names: str) -> dict[str, bytes]:
    return {name: value for name, value in content.items() if name not in names}
