"""What one of several replicas serves, publishes and writes next, from what it sees. It never acts; times come in."""

from collections.abc import Sequence
from datetime import datetime

from certs.authority import Authority, Leaf, pem
from certs.rotation import CertificateOptions, Content, Holding, Step, next_step
from certs.trust import SETTLE, Trust


class Replica:
    """`see` comes first, each time; everything else is about what was seen then."""

    def __init__(self, plan: CertificateOptions, settle: float = SETTLE) -> None:
        self.served: Leaf | None = None
        self._certificate_options = plan
        self._trust = Trust(settle)

    def see(self, content: Content | None, bundles: Sequence[bytes], now: datetime, at: float) -> None:
        """The Secret's content, None without one; the caBundle of each webhook, none of them before all are there."""
        self._is_there = content is not None
        self._at = at
        self._trust.observe(bundles, at)
        self.held = Holding(content or {}, now)

    def take_up(self) -> Leaf | None:
        """What is served from now on in place of the former one; None when there is nothing better."""
        offered = self.held.leaf
        if not offered or (self.served and offered.certificate == self.served.certificate):
            return None
        if not self._trust.may_serve(offered, self.served, self.held.now, self._at):
            return None
        self.served = offered
        return offered

    def bundle(self) -> bytes:
        """What should be published; nothing as long as nothing is known."""
        # What is served counts also when the Secret was lost: it is served until the new one is trusted.
        ours = [*self.held.trusted, *([self.served.issuer] if self.served else [])]
        return b"".join(map(pem, self._trust.wanted(ours, self.held.now, self._at))) if ours else b""

    def waits_for_the_probe(self) -> bool:
        """Whether all that is left to be known of the next CA is that a client gets through with it."""
        return self._is_known(self.held.upcoming)

    def next_step(self, *, probed: bool) -> Step | None:
        trusted = probed and self._is_known(self.held.upcoming)
        content = self.held.content if self._is_there else None
        return next_step(content, self._certificate_options, self.held.now, upcoming_is_trusted=trusted)

    def seconds_until_due(self) -> float:
        """When to look again though nothing has changed."""
        by_clock = [(each - self.held.now).total_seconds() for each in self.held.changes() if each > self.held.now]
        settling = [self._trust.settles_in(each, self._at) for each in self.held.trusted]
        return min([*by_clock, *filter(None, settling)], default=float("inf"))

    def is_trusted(self) -> bool:
        """Whether the API server trusts what is served, as far as is known here."""
        return self.served is not None and self._trust.trusts(self.served.issuer)

    def _is_known(self, authority: Authority | None) -> bool:
        return authority is not None and self._trust.settles_in(authority.certificate, self._at) == 0
