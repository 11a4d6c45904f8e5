from datetime import UTC, datetime, timedelta

import pytest

from certs.authority import Authority, Leaf
from certs.trust import LINGER_SECONDS, SETTLE_SECONDS, Trust

NOW = datetime(2026, 3, 1, tzinfo=UTC)
A, B, C = (Authority.create("the same name", NOW) for _ in range(3))


def leaf(authority: Authority, life: timedelta = timedelta(days=1)) -> Leaf:
    return authority.read_leaf(authority.issue_pair(["x"], NOW, life))


@pytest.fixture
def trust() -> Trust:
    """Both webhooks have trusted A for a long time."""
    trust = Trust()
    trust.observe([A.pem, A.pem], 0)
    return trust


def test_nothing_is_trusted_before_there_are_webhooks(trust: Trust) -> None:
    trust.observe([], 1)
    assert not trust.trusts(A.certificate)
    assert trust.settles_in(A.certificate, 1) is None


def test_a_ca_that_one_webhook_lacks_is_not_trusted(trust: Trust) -> None:
    trust.observe([A.pem + B.pem, A.pem], 1)
    assert trust.trusts(A.certificate)
    assert not trust.trusts(B.certificate)


def test_a_new_ca_needs_time_to_be_trusted_by_all(trust: Trust) -> None:
    trust.observe([A.pem + B.pem] * 2, 100)
    trust.observe([B.pem + A.pem] * 2, 104)

    assert trust.settles_in(A.certificate, 104) == 0
    assert trust.settles_in(B.certificate, 104) == SETTLE_SECONDS - 4
    assert trust.settles_in(B.certificate, 100 + SETTLE_SECONDS) == 0


def test_a_ca_that_was_gone_for_a_moment_is_new(trust: Trust) -> None:
    trust.observe([b"", A.pem], 100)
    trust.observe([A.pem] * 2, 101)
    assert trust.settles_in(A.certificate, 101) == SETTLE_SECONDS


def test_unreadable_parts_of_a_bundle_are_skipped(trust: Trust) -> None:
    broken = b"# x\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    trust.observe([broken + A.pem, A.pem], 1)
    assert trust.trusts(A.certificate)


def test_the_order_is_fixed_and_other_cas_linger(trust: Trust) -> None:
    trust.observe([A.pem + C.pem, A.pem], 1)
    wanted = trust.wanted([A.certificate, B.certificate], NOW, LINGER_SECONDS)

    assert set(wanted) == {A.certificate, B.certificate, C.certificate}
    assert wanted == trust.wanted([B.certificate, A.certificate], NOW, LINGER_SECONDS)
    assert C.certificate not in trust.wanted([A.certificate], NOW, LINGER_SECONDS + 1)


def test_an_expired_ca_is_not_wanted(trust: Trust) -> None:
    assert trust.wanted([B.certificate], NOW + timedelta(days=366), 1) == ()


class TestAnotherCertificateMayBeServed:
    def test_when_there_is_none_yet(self, trust: Trust) -> None:
        assert trust.may_serve(leaf(B), None, NOW, 0)

    def test_when_the_present_one_is_no_longer_valid(self, trust: Trust) -> None:
        assert trust.may_serve(leaf(B), leaf(A), NOW + timedelta(days=2), 0)

    def test_when_it_is_trusted_and_the_present_one_is_not(self, trust: Trust) -> None:
        trust.observe([B.pem] * 2, 1)
        assert trust.may_serve(leaf(B), leaf(A), NOW, 1)

    def test_when_it_has_been_trusted_by_all_for_a_while(self, trust: Trust) -> None:
        assert trust.may_serve(leaf(A), leaf(A), NOW, SETTLE_SECONDS)
        trust.observe([A.pem + B.pem] * 2, 100)
        assert not trust.may_serve(leaf(B), leaf(A), NOW, 101)
        assert trust.may_serve(leaf(B), leaf(A), NOW, 100 + SETTLE_SECONDS)

    def test_not_when_neither_is_trusted(self, trust: Trust) -> None:
        trust.observe([b""] * 2, 1)
        assert not trust.may_serve(leaf(B), leaf(A), NOW, 1000)
