"""Which CAs the API server trusts us by, since when, and which it should; and when another certificate may be served.

Seconds are of a clock that nobody sets. Of several API servers each hears of a new caBundle in its own time: what this
replica has seen for less than `SETTLE` may be news to one of them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509

from certs.authority import Leaf, certificates, is_valid, pem

SETTLE = 10.0
# A CA that is not in our Secret is that of cert-manager or of a person: pods that are about to be replaced serve
# certificates of it for as long as a rolling update takes, and one that is stuck takes a while to be noticed.
LINGER = 24 * 3600.0


class Trust:
    """What the caBundles in the live webhook configurations say, and for how long they have been saying it."""

    def __init__(self, settle: float = SETTLE, linger: float = LINGER) -> None:
        self._settle = settle
        self._linger = linger
        # Since when each is in all of them, and in any of them.
        self._trusted: dict[x509.Certificate, float] = {}
        self._seen: dict[x509.Certificate, float] = {}

    def observe(self, bundles: Sequence[bytes], at: float) -> None:
        """None of them means that there is no webhook configuration yet."""
        sets = [frozenset(certificates(bundle)) for bundle in bundles]
        everywhere = frozenset.intersection(*sets) if sets else frozenset[x509.Certificate]()
        self._trusted = {each: self._trusted.get(each, at) for each in everywhere}
        self._seen = {each: self._seen.get(each, at) for each in frozenset[x509.Certificate]().union(*sets)}

    def trusts(self, authority: x509.Certificate) -> bool:
        return authority in self._trusted

    def settles_in(self, authority: x509.Certificate, at: float) -> float | None:
        """Seconds until every API server trusts it, 0 once they do; None while it is not published."""
        since = self._trusted.get(authority)
        return None if since is None else max(0.0, since + self._settle - at)

    def wanted(self, ours: Iterable[x509.Certificate], now: datetime, at: float) -> tuple[x509.Certificate, ...]:
        """What each caBundle should hold: ours, and for a while what others trust. In an order that all agree on."""
        others = [each for each, since in self._seen.items() if at < since + self._linger]
        valid = {each for each in (*ours, *others) if is_valid(each, now)}
        return tuple(sorted(valid, key=pem))

    def may_serve(self, offered: Leaf, served: Leaf | None, now: datetime, at: float) -> bool:
        """Whether the one that is offered may take the place of the one that is served now."""
        if served is None or not served.is_valid(now):
            return True
        if not self.trusts(served.issuer) and self.trusts(offered.issuer):
            return True
        return self.settles_in(offered.issuer, at) == 0
