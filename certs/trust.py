"""Keeps track of which CAs the API servers trust, since when, and which they should. Never acts itself.

Times are seconds of a clock that nobody sets. Each API server hears of a new caBundle in its own time: one that was
seen here less than SETTLE_SECONDS ago may still be unknown to some of them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509

from certs.authority import Leaf, certificates, is_valid, pem

SETTLE_SECONDS = 10.0
# A CA that is not in the operator's Secret is cert-manager's or a person's. Pods that are about to be replaced serve
# its certificates for as long as a rolling update takes, and somebody has to notice an update that is stuck.
LINGER_SECONDS = 24 * 3600.0


class Trust:
    """Knows what the caBundles in the live webhook configurations hold, and since when."""

    def __init__(self, settle_seconds: float = SETTLE_SECONDS, linger_seconds: float = LINGER_SECONDS) -> None:
        self._settle_seconds = settle_seconds
        self._linger_seconds = linger_seconds
        # Since when each CA is in all of the bundles, and in any of them.
        self._in_all: dict[x509.Certificate, float] = {}
        self._in_any: dict[x509.Certificate, float] = {}

    def observe(self, bundles: Sequence[bytes], at: float) -> None:
        """Takes the caBundle of each webhook; [] means that there is no webhook configuration yet."""
        sets = [frozenset(certificates(bundle)) for bundle in bundles]
        in_all = frozenset.intersection(*sets) if sets else frozenset[x509.Certificate]()
        in_any = frozenset[x509.Certificate]().union(*sets)
        self._in_all = {authority: self._in_all.get(authority, at) for authority in in_all}
        self._in_any = {authority: self._in_any.get(authority, at) for authority in in_any}

    def trusts(self, authority: x509.Certificate) -> bool:
        return authority in self._in_all

    def settles_in(self, authority: x509.Certificate, at: float) -> float | None:
        """Returns in how many seconds every API server trusts the CA, 0 once they do; None while it is unpublished."""
        since = self._in_all.get(authority)
        return None if since is None else max(0.0, since + self._settle_seconds - at)

    def wanted(self, ours: Iterable[x509.Certificate], now: datetime, at: float) -> tuple[x509.Certificate, ...]:
        """Returns what each caBundle should hold: our CAs, and for a while those of others.

        The order is the same in every replica, so that they do not overwrite each other's.
        """
        others = [authority for authority, since in self._in_any.items() if at < since + self._linger_seconds]
        valid = {authority for authority in (*ours, *others) if is_valid(authority, now)}
        return tuple(sorted(valid, key=pem))

    def may_serve(self, offered: Leaf, served: Leaf | None, now: datetime, at: float) -> bool:
        """Returns whether the offered certificate may replace the one that is served now."""
        if served is None or not served.is_valid(now):
            return True
        if not self.trusts(served.issuer) and self.trusts(offered.issuer):
            return True

        return self.settles_in(offered.issuer, at) == 0
