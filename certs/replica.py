"""Decides what one of several replicas serves, publishes and writes next, from what it observes. Never acts itself."""

from collections.abc import Sequence
from datetime import datetime

from certs.authority import Authority, Leaf, pem
from certs.rotation import CertificateOptions, CertificateSecret, Content, Step, next_step
from certs.trust import SETTLE_SECONDS, Trust


class Replica:
    """Call `observe` first, each time; everything else answers for what was observed last."""

    def __init__(self, options: CertificateOptions, settle_seconds: float = SETTLE_SECONDS) -> None:
        self.served: Leaf | None = None
        self._options = options
        self._trust = Trust(settle_seconds)

    def observe(self, content: Content | None, bundles: Sequence[bytes], now: datetime, at: float) -> None:
        """Takes the Secret's content, None without a Secret, and the caBundle of each webhook, [] until all exist.

        `now` is the time by which certificates are judged, `at` seconds of a clock that nobody sets.
        """
        self._secret_exists = content is not None
        self._at = at
        self._trust.observe(bundles, at)
        self.secret = CertificateSecret(content or {}, now)

    def choose_leaf(self) -> Leaf | None:
        """Returns the certificate to serve from now on, None when the one that is served stays."""
        offered = self.secret.leaf
        if not offered or (self.served and offered.certificate == self.served.certificate):
            return None
        if not self._trust.may_serve(offered, self.served, self.secret.now, self._at):
            return None

        self.served = offered
        return offered

    def bundle(self) -> bytes:
        """Returns the caBundle to publish, b"" while no CA of the operator is known."""
        # The issuer of what is served counts even if the Secret was lost: it is in use until the new one is trusted.
        ours = [*self.secret.trusted, *([self.served.issuer] if self.served else [])]
        if not ours:
            return b""

        return b"".join(map(pem, self._trust.wanted(ours, self.secret.now, self._at)))

    def waits_for_probe(self) -> bool:
        """Returns whether the next CA only waits for a client that trusts it to get through."""
        return self._is_settled(self.secret.next_authority)

    def next_step(self, *, probed: bool) -> Step | None:
        """Returns what to write to the Secret; `probed` says that a client got through."""
        content = self.secret.content if self._secret_exists else None
        trusted = probed and self._is_settled(self.secret.next_authority)
        return next_step(content, self._options, self.secret.now, next_is_trusted=trusted)

    def seconds_until_due(self) -> float:
        """Returns after how many seconds something is due by time alone, infinity when nothing is."""
        now = self.secret.now
        deadlines = [(due - now).total_seconds() for due in self.secret.due_times() if due > now]
        settling = [self._trust.settles_in(certificate, self._at) for certificate in self.secret.trusted]
        return min([*deadlines, *filter(None, settling)], default=float("inf"))

    def is_trusted(self) -> bool:
        """Returns whether the API server trusts what is served, as far as is known."""
        return self.served is not None and self._trust.trusts(self.served.issuer)

    def _is_settled(self, authority: Authority | None) -> bool:
        return authority is not None and self._trust.settles_in(authority.certificate, self._at) == 0
