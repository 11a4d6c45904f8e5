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


def stepped(
    content: Content | None, days: float = 0, *, plan: CertificateOptions = PLAN, trusted: bool = False
) -> Content:
    made = step(content, days, plan=plan, trusted=trusted)
    assert made
    return dict(made.content)


def leaf(content: Content, days: float = 0) -> Leaf:
    found = CertificateSecret(content, NOW + days * DAY).leaf
    assert found
    return found


@pytest.fixture(scope="module")
def made() -> Content:
    return stepped(None)


@pytest.fixture(scope="module")
def prepared(made: Content) -> Content:
    """Day 244: the serving certificate was renewed in time, and the next CA is there."""
    return stepped(stepped(made, 200), 244)


def test_a_ca_and_a_certificate_are_made_where_there_is_no_secret(made: Content) -> None:
    assert made.keys() == {CA, CA_KEY, SERVING, SERVING_KEY}
    assert leaf(made).hosts == set(PLAN.hosts)
    assert leaf(made).certificate.not_valid_after_utc == NOW + 90 * DAY
    assert leaf(made).issuer.not_valid_after_utc == NOW + 365 * DAY


@pytest.mark.parametrize("days", [0, 59.9])
def test_what_is_good_stays(made: Content, days: float) -> None:
    assert step(made, days) is None


def test_the_certificate_is_renewed_at_two_thirds_of_its_life_by_the_same_ca(made: Content) -> None:
    renewed = step(made, 60)

    assert renewed
    assert (renewed.reason, renewed.heals) == ("CertificateRenewed", False)

    content = dict(renewed.content)

    assert leaf(content, 60).certificate.not_valid_after_utc == NOW + 150 * DAY
    assert {name for name in content if content[name] != made[name]} == {SERVING, SERVING_KEY}
    assert step(content, 60) is None


def test_settings_say_how_long_they_live() -> None:
    short = CertificateOptions(PLAN.hosts, authority_life=3 * DAY, serving_life=3 * DAY / 2)
    content = stepped(None, plan=short)

    assert leaf(content).certificate.not_valid_after_utc == NOW + 1.5 * DAY
    assert step(content, 0.99, plan=short) is None
    assert leaf(stepped(content, 1, plan=short), 1).certificate.not_valid_after_utc == NOW + 2.5 * DAY


def test_no_certificate_outlives_its_ca(made: Content) -> None:
    content = stepped(made, 300)
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

    def test_makes_way_and_stays_trusted_until_it_expires(self, prepared: Content) -> None:
        changed = stepped(prepared, 244, trusted=True)

        assert changed.keys() == {CA, CA_KEY, SERVING, SERVING_KEY, FORMER}
        assert (changed[CA], changed[CA_KEY]) == (prepared[NEXT], prepared[NEXT_KEY])
        assert leaf(changed, 244).certificate.not_valid_after_utc == NOW + 334 * DAY
        assert certificates(changed[FORMER]) == certificates(prepared[CA])
        assert step(changed, 244) is None

        later = stepped(changed, 310)

        assert certificates(prepared[CA])[0] in CertificateSecret(later, NOW + 364 * DAY).trusted

        dropped = step(later, 365.1)

        assert dropped
        assert dropped.reason == "CARemoved"
        assert FORMER not in dropped.content

    def test_renews_the_certificate_while_its_successor_waits(self, prepared: Content) -> None:
        renewed = step(prepared, 262)
        assert renewed
        assert renewed.reason == "CertificateRenewed"

    def test_that_expired_with_all_its_certificates_gives_way_to_a_new_one(self, prepared: Content) -> None:
        replaced = step(prepared, 400)

        assert replaced
        assert replaced.heals
        # The successor, which nobody trusted in time, may be trusted by now.
        assert certificates(replaced.content[FORMER]) == certificates(prepared[NEXT])


def foreign() -> Content:
    """As cert-manager leaves it: no key of the CA, and another's certificate."""
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
def test_a_ca_that_cannot_be_used_is_replaced_with_all_that_it_signed(made: Content, damage: Content) -> None:
    replaced = step({**made, **damage})

    assert replaced
    assert (replaced.reason, replaced.heals) == ("CertificatesReplaced", True)
    assert leaf(dict(replaced.content)).issuer not in certificates(made[CA])
    assert step(dict(replaced.content)) is None


@pytest.mark.parametrize("content", [{}, foreign(), {"password": b"hunter2"}])
def test_a_secret_of_somebody_else_heals_in_one_step(content: Content) -> None:
    replaced = stepped(content)
    assert leaf(replaced).hosts == set(PLAN.hosts)
    assert step(replaced) is None


def test_what_a_secret_of_somebody_else_trusted_stays_trusted() -> None:
    content = foreign()
    assert certificates(content[CA])[0] in CertificateSecret(stepped(content), NOW).trusted


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
def test_a_certificate_that_cannot_be_used_is_made_again_by_the_same_ca(made: Content, damage: Content) -> None:
    replaced = step({**made, **damage})

    assert replaced
    assert (replaced.reason, replaced.heals) == ("CertificateReplaced", True)
    assert replaced.content[CA] == made[CA]
    assert step(dict(replaced.content)) is None


@pytest.mark.parametrize("days", [100, 400])
def test_what_has_expired_is_made_again(made: Content, days: float) -> None:
    replaced = stepped(made, days)
    assert leaf(replaced, days)
    assert (replaced[CA] == made[CA]) is (days < 365)


@pytest.mark.parametrize("damage", [{NEXT: b"nonsense"}, {NEXT_KEY: b"nonsense"}])
def test_a_half_written_next_ca_is_made_again_while_one_is_due(prepared: Content, damage: Content) -> None:
    again = stepped({**prepared, **damage}, 244)
    assert again[NEXT] != prepared[NEXT]
    assert CertificateSecret(again, NOW + 244 * DAY).next_authority


def test_a_half_written_next_ca_is_dropped_while_none_is_due(made: Content) -> None:
    dropped = stepped({**made, NEXT: b"nonsense"})
    assert dropped == made


def test_an_unreadable_former_ca_does_no_harm(made: Content) -> None:
    assert step({**made, FORMER: b"nonsense"}) is None


def test_a_host_that_is_missing_is_added_to_those_that_another_replica_needs(made: Content) -> None:
    renamed = CertificateOptions(("new.dittofs-system.svc",))
    content = stepped(made, plan=renamed)
    assert leaf(content).hosts == {*PLAN.hosts, *renamed.hosts}
    assert step(content) is step(content, plan=renamed) is None


class TestAClockThatIsSet:
    @pytest.mark.parametrize("days", [-0.9, 0.9])
    def test_by_less_than_a_day_changes_nothing(self, made: Content, days: float) -> None:
        assert step(made, days) is None

    @pytest.mark.parametrize("days", [-1000, 1000])
    def test_by_years_makes_what_is_valid_then_and_once_only(self, made: Content, days: float) -> None:
        there = stepped(made, days)

        assert step(there, days) is None

        back = stepped(there)

        assert step(back) is None
        assert leaf(back)


def test_time_makes_due_what_it_says(prepared: Content) -> None:
    changed = stepped(prepared, 244, trusted=True)
    due = sorted(each for each in CertificateSecret(changed, NOW + 244 * DAY).due_times())
    assert due == [NOW + days * DAY for days in (304, 365, 244 + 365 * 2 / 3, 609)]
    assert list(CertificateSecret({}, NOW).due_times()) == []


def test_no_key_is_in_what_is_told(made: Content) -> None:
    replaced = step({**made, CA: b""})
    assert replaced
    assert "PRIVATE" not in replaced.message
    assert all(isinstance(each, x509.Certificate) for each in CertificateSecret(made, NOW).trusted)
