"""What the one Secret with CA, next CA and serving pair should hold next, from what it holds now. The time comes in.

A new CA signs what is served only when every API server trusts it. So it is first put beside the old one
(`next-ca.crt`) and published, and takes the old one's place when it has been trusted for a while. The old one's
certificate stays trusted (`former-ca.crt`) until it expires, though its key is gone at once: a replica that has not
heard of the change, for whatever reason and however long, serves what the old one signed, and no certificate outlives
its CA. From then on nobody can need it.
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
    """For which hosts, the first of them the subject, and for how long certificates are made."""

    hosts: tuple[str, ...]
    authority_life: timedelta = AUTHORITY_LIFE
    serving_life: timedelta = SERVING_LIFE


@dataclass(frozen=True)
class Step:
    """What the Secret shall hold, and what to tell of it; `heals` when it was not as it should be."""

    content: Content
    reason: str
    message: str
    heals: bool = False


@dataclass(frozen=True)
class Holding:
    """The Secret's content as it can be used at that time; what cannot be used is None."""

    content: Content
    now: datetime

    @cached_property
    def authority(self) -> Authority | None:
        return self._authority(CA, CA_KEY)

    @cached_property
    def upcoming(self) -> Authority | None:
        return self._authority(NEXT, NEXT_KEY)

    @cached_property
    def leaf(self) -> Leaf | None:
        if not self.authority:
            return None
        try:
            leaf = self.authority.leaf(Pair(self._part(SERVING), self._part(SERVING_KEY)))
        except Unusable:
            return None
        return leaf if leaf.is_valid(self.now) else None

    @cached_property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """What must be trusted on its account, the one in use first."""
        ours = [each.certificate for each in (self.authority, self.upcoming) if each]
        former = [each for each in certificates(self._part(FORMER)) if is_valid(each, self.now)]
        return tuple(dict.fromkeys([*ours, *former]))

    @property
    def is_half_prepared(self) -> bool:
        return not self.upcoming and any(self.content.get(key) for key in (NEXT, NEXT_KEY))

    def changes(self) -> Iterator[datetime]:
        """When time alone makes something due."""
        if self.authority:
            yield renewal(self.authority.certificate)
        if self.leaf:
            yield renewal(self.leaf.certificate)
        yield from (certificate.not_valid_after_utc for certificate in self.trusted)

    def _authority(self, certificate: str, key: str) -> Authority | None:
        try:
            authority = Authority.read(self._part(certificate), self._part(key))
        except Unusable:
            return None
        return authority if is_valid(authority.certificate, self.now) else None

    def _part(self, name: str) -> bytes:
        return self.content.get(name) or b""


def next_step(
    content: Content | None, plan: CertificateOptions, now: datetime, *, upcoming_is_trusted: bool
) -> Step | None:
    """None when there is nothing to change; content is None while there is no Secret.

    `upcoming_is_trusted` says that the next CA has been published, and read back, for long enough.
    """
    if content is None:
        return _made(plan, now)
    held = Holding(content, now)
    if not held.authority:
        return _made_again(held, plan)
    return _about_the_leaf(held, held.authority, plan) or _about_authorities(
        held, held.authority, plan, upcoming_is_trusted=upcoming_is_trusted
    )


def _made(plan: CertificateOptions, now: datetime) -> Step:
    return Step(_anew(plan, now), "CertificatesMade", f"made a CA and a serving certificate for {plan.hosts[0]}")


def _made_again(held: Holding, plan: CertificateOptions) -> Step:
    """What the Secret said of other CAs is kept: a replica may serve a good certificate of one of them."""
    named = b"".join(held.content.get(key) or b"" for key in (CA, NEXT, FORMER))
    kept = [each for each in certificates(named) if is_valid(each, held.now)]
    return Step(
        {**_anew(plan, held.now), **_former(kept)},
        "CertificatesReplaced",
        "made a new CA and serving certificate: what the Secret held is incomplete, expired or not of this operator",
        heals=True,
    )


def _about_the_leaf(held: Holding, authority: Authority, plan: CertificateOptions) -> Step | None:
    if not held.leaf:
        made = _leaf(authority, plan.hosts, plan, held.now)
        message = "made a new serving certificate: the one in the Secret is incomplete, expired or not of its CA"
        return Step({**held.content, **made}, "CertificateReplaced", message, heals=True)
    if missing := [host for host in plan.hosts if host not in held.leaf.hosts]:
        # The others stay: of two replicas with different names, neither may take the other's away from it.
        hosts = (*plan.hosts, *sorted(held.leaf.hosts - set(plan.hosts)))
        made = _leaf(authority, hosts, plan, held.now)
        message = f"made a new serving certificate: {', '.join(missing)} was not in it"
        return Step({**held.content, **made}, "CertificateReplaced", message)
    if held.now >= renewal(held.leaf.certificate) and _would_last_longer(held.leaf, authority):
        made = _leaf(authority, plan.hosts, plan, held.now)
        return Step({**held.content, **made}, "CertificateRenewed", "renewed the serving certificate")
    return None


def _would_last_longer(leaf: Leaf, authority: Authority) -> bool:
    """At the end of a CA's life only a new CA helps."""
    return leaf.certificate.not_valid_after_utc < authority.certificate.not_valid_after_utc


def _about_authorities(
    held: Holding, authority: Authority, plan: CertificateOptions, *, upcoming_is_trusted: bool
) -> Step | None:
    if held.upcoming and upcoming_is_trusted:
        return _changed(held, authority, held.upcoming, plan)
    if not held.upcoming and held.now >= renewal(authority.certificate):
        upcoming = Authority.make(NAME, held.now, plan.authority_life)
        content = {**held.content, NEXT: upcoming.pem, NEXT_KEY: upcoming.key_pem}
        return Step(content, "AuthorityPrepared", "made the next CA, to be trusted before it is used")
    if held.is_half_prepared:
        content = _without(held.content, NEXT, NEXT_KEY)
        return Step(content, "AuthorityDropped", "dropped a next CA that cannot be used", heals=True)
    return _about_former_ones(held)


def _changed(held: Holding, authority: Authority, upcoming: Authority, plan: CertificateOptions) -> Step:
    former = [each for each in held.trusted if each != upcoming.certificate]
    content = {
        **_without(held.content, NEXT, NEXT_KEY, FORMER),
        **_of(upcoming),
        **_leaf(upcoming, plan.hosts, plan, held.now),
        **_former([authority.certificate, *former]),
    }
    return Step(
        content, "AuthorityChanged", "the next CA signs from now on; the former one is trusted until it expires"
    )


def _about_former_ones(held: Holding) -> Step | None:
    named = certificates(held.content.get(FORMER) or b"")
    kept = [each for each in named if is_valid(each, held.now)]
    if len(kept) == len(named):
        return None
    content = {**_without(held.content, FORMER), **_former(kept)}
    return Step(content, "AuthorityDropped", "a former CA has expired and is no longer trusted")


def _anew(plan: CertificateOptions, now: datetime) -> dict[str, bytes]:
    authority = Authority.make(NAME, now, plan.authority_life)
    return _of(authority) | _leaf(authority, plan.hosts, plan, now)


def _of(authority: Authority) -> dict[str, bytes]:
    return {CA: authority.pem, CA_KEY: authority.key_pem}


def _leaf(authority: Authority, hosts: tuple[str, ...], plan: CertificateOptions, now: datetime) -> dict[str, bytes]:
    pair = authority.serving_pair(hosts, now, plan.serving_life)
    return {SERVING: pair.certificate, SERVING_KEY: pair.key}


def _former(kept: list[x509.Certificate]) -> dict[str, bytes]:
    return {FORMER: b"".join(map(pem, dict.fromkeys(kept)))} if kept else {}


def _without(content: Content, *names: str) -> dict[str, bytes]:
    return {name: value for name, value in content.items() if name not in names}
