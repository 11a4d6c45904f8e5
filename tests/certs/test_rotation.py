from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.authority import Authority, Leaf, certificates
from certs.rotation import (
    CA,
    CA_KEY,
    FORMER,
    NEXT,
    NEXT_KEY,
    SERVING,
    SERVING_KEY,
    CertificateOptions,
    CertificateSecret,
    Step,
    next_step,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PLAN = CertificateOptions(("dittofs-operator.dittofs-system.svc", "localhost"))
Content = dict[str, bytes]


def step(
    content: Content | None, days: float = 0, *, plan: CertificateOptions = PLAN, trusted: bool = False
) -> Step | None:
    return next_step(content, plan, NOW + days * DAY, next_is_trusted=trusted)


def take_step(
    content: Content | None, days: float = 0, *, plan: CertificateOptions = PLAN, trusted: bool = False
) -> Content:
    taken = step(content, days, plan=plan, trusted=trusted)
    assert taken
    return dict(taken.content)


def leaf(content: Content, days: float = 0) -> Leaf:
    usable = CertificateSecret(content, NOW + days * DAY).leaf
    assert usable
    return usable


@pytest.fixture(scope="module")
def issued() -> Content:
    return take_step(None)


@pytest.fixture(scope="module")
def prepared(issued: Content) -> Content:
    """Day 244: the serving certificate was renewed in time, and the next CA is there."""
    return take_step(take_step(issued, 200), 244)


def test_ca_and_certificate_are_issued_without_a_secret(issued: Content) -> None:
    assert issued.keys() == {CA, CA_KEY, SERVING, SERVING_KEY}
    assert leaf(issued).hosts == set(PLAN.hosts)
    assert leaf(issued).certificate.not_valid_after_utc == NOW + 90 * DAY
    assert leaf(issued).issuer.not_valid_after_utc == NOW + 365 * DAY


@pytest.mark.parametrize("days", [0, 59.9])
def test_valid_certificates_stay(issued: Content, days: float) -> None:
    assert step(issued, days) is None


def test_the_certificate_is_renewed_at_two_thirds(issued: Content) -> None:
    renewed = step(issued, 60)

    assert renewed
    assert (renewed.reason, renewed.heals) == ("CertificateRenewed", False)

    content = dict(renewed.content)

    assert leaf(content, 60).certificate.not_valid_after_utc == NOW + 150 * DAY
    assert {name for name in content if content[name] != issued[name]} == {SERVING, SERVING_KEY}
    assert step(content, 60) is None


def test_options_say_how_long_they_live() -> None:
    short = CertificateOptions(PLAN.hosts, authority_life=3 * DAY, serving_life=3 * DAY / 2)
    content = take_step(None, plan=short)

    assert leaf(content).certificate.not_valid_after_utc == NOW + 1.5 * DAY
    assert step(content, 0.99, plan=short) is None
    assert leaf(take_step(content, 1, plan=short), 1).certificate.not_valid_after_utc == NOW + 2.5 * DAY


def test_no_certificate_outlives_its_ca(issued: Content) -> None:
    content = take_step(issued, 300)
    assert leaf(content, 300).certificate.not_valid_after_utc == NOW + 365 * DAY


class TestACaAtTwoThirdsOfItsLife:
    def test_gets_a_successor_that_does_not_sign_yet(self, prepared: Content) -> None:
        secret = CertificateSecret(prepared, NOW + 244 * DAY)

        assert secret.authority
        assert secret.next_authority
        assert secret.trusted == (secret.authority.certificate, secret.next_authority.certificate)
        assert leaf(prepared, 244).issuer == secret.authority.certificate

    def test_waits_until_its_successor_is_trusted(self, prepared: Content) -> None:
        assert step(prepared, 244) is None

    def test_is_replaced_and_stays_trusted_until_it_expires(self, prepared: Content) -> None:
        changed = take_step(prepared, 244, trusted=True)

        assert changed.keys() == {CA, CA_KEY, SERVING, SERVING_KEY, FORMER}
        assert (changed[CA], changed[CA_KEY]) == (prepared[NEXT], prepared[NEXT_KEY])
        assert leaf(changed, 244).certificate.not_valid_after_utc == NOW + 334 * DAY
        assert certificates(changed[FORMER]) == certificates(prepared[CA])
        assert step(changed, 244) is None

        later = take_step(changed, 310)

        assert certificates(prepared[CA])[0] in CertificateSecret(later, NOW + 364 * DAY).trusted

        removed = step(later, 365.1)

        assert removed
        assert removed.reason == "CARemoved"
        assert FORMER not in removed.content

    def test_renews_the_certificate_while_its_successor_waits(self, prepared: Content) -> None:
        renewed = step(prepared, 262)
        assert renewed
        assert renewed.reason == "CertificateRenewed"

    def test_that_has_expired_is_replaced(self, prepared: Content) -> None:
        replaced = step(prepared, 400)

        assert replaced
        assert replaced.heals
        # The successor, which nobody trusted in time, may be trusted by now.
        assert certificates(replaced.content[FORMER]) == certificates(prepared[NEXT])


def foreign() -> Content:
    """Returns what cert-manager leaves behind: a CA without its key, and a certificate for another host."""
    other = Authority.create("another", NOW)
    pair = other.issue_pair(["example.com"], NOW)
    return {CA: other.pem, SERVING: pair.certificate, SERVING_KEY: pair.key}


def rsa_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "damage",
    [
        {CA: b""},
        {CA_KEY: b""},
        {CA: b"-----BEGIN CERTIFICATE-----\ntrunc"},
        {CA_KEY: b"nonsense"},
        {CA_KEY: Authority.create("x", NOW).key_pem},
        {CA_KEY: rsa_key()},
        {CA: Authority.create("x", NOW).issue_pair(["x"], NOW).certificate},
    ],
)
def test_an_unusable_ca_and_its_certificate_are_replaced(issued: Content, damage: Content) -> None:
    replaced = step({**issued, **damage})

    assert replaced
    assert (replaced.reason, replaced.heals) == ("CertificatesReplaced", True)
    assert leaf(dict(replaced.content)).issuer not in certificates(issued[CA])
    assert step(dict(replaced.content)) is None


@pytest.mark.parametrize("content", [{}, foreign(), {"password": b"hunter2"}])
def test_a_foreign_secret_heals_in_one_step(content: Content) -> None:
    replaced = take_step(content)
    assert leaf(replaced).hosts == set(PLAN.hosts)
    assert step(replaced) is None


def test_the_ca_in_a_foreign_secret_stays_trusted() -> None:
    content = foreign()
    assert certificates(content[CA])[0] in CertificateSecret(take_step(content), NOW).trusted


@pytest.mark.parametrize(
    "damage",
    [
        {SERVING: b""},
        {SERVING_KEY: b""},
        {SERVING: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {SERVING_KEY: rsa_key()},
        {name: foreign()[name] for name in (SERVING, SERVING_KEY)},
    ],
)
def test_an_unusable_certificate_is_replaced(issued: Content, damage: Content) -> None:
    replaced = step({**issued, **damage})

    assert replaced
    assert (replaced.reason, replaced.heals) == ("CertificateReplaced", True)
    assert replaced.content[CA] == issued[CA]
    assert step(dict(replaced.content)) is None


@pytest.mark.parametrize("days", [100, 400])
def test_expired_certificates_are_replaced(issued: Content, days: float) -> None:
    replaced = take_step(issued, days)
    assert leaf(replaced, days)
    assert (replaced[CA] == issued[CA]) is (days < 365)


@pytest.mark.parametrize("damage", [{NEXT: b"nonsense"}, {NEXT_KEY: b"nonsense"}])
def test_an_unusable_next_ca_is_replaced_when_due(prepared: Content, damage: Content) -> None:
    again = take_step({**prepared, **damage}, 244)
    assert again[NEXT] != prepared[NEXT]
    assert CertificateSecret(again, NOW + 244 * DAY).next_authority


def test_an_unusable_next_ca_is_removed_otherwise(issued: Content) -> None:
    removed = take_step({**issued, NEXT: b"nonsense"})
    assert removed == issued


def test_an_unreadable_previous_ca_does_no_harm(issued: Content) -> None:
    assert step({**issued, FORMER: b"nonsense"}) is None


def test_a_missing_host_is_added_to_the_others(issued: Content) -> None:
    renamed = CertificateOptions(("new.dittofs-system.svc",))
    content = take_step(issued, plan=renamed)
    assert leaf(content).hosts == {*PLAN.hosts, *renamed.hosts}
    assert step(content) is step(content, plan=renamed) is None


class TestAClockThatIsSet:
    @pytest.mark.parametrize("days", [-0.9, 0.9])
    def test_by_less_than_a_day_changes_nothing(self, issued: Content, days: float) -> None:
        assert step(issued, days) is None

    @pytest.mark.parametrize("days", [-1000, 1000])
    def test_by_years_issues_valid_certificates_once(self, issued: Content, days: float) -> None:
        moved = take_step(issued, days)

        assert step(moved, days) is None

        back = take_step(moved)

        assert step(back) is None
        assert leaf(back)


def test_due_times_are_known_in_advance(prepared: Content) -> None:
    changed = take_step(prepared, 244, trusted=True)
    due = sorted(CertificateSecret(changed, NOW + 244 * DAY).due_times())
    assert due == [NOW + days * DAY for days in (304, 365, 244 + 365 * 2 / 3, 609)]
    assert list(CertificateSecret({}, NOW).due_times()) == []


def test_no_message_quotes_a_key(issued: Content) -> None:
    replaced = step({**issued, CA: b""})
    assert replaced
    assert "PRIVATE" not in replaced.message
    assert all(isinstance(ca, x509.Certificate) for ca in CertificateSecret(issued, NOW).trusted)
