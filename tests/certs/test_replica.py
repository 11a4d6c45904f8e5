"""Years of several replicas at an API server that is told of things late, as they are, too."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import Any, Generic, TypeVar

import pytest

from certs.authority import Authority, Leaf, certificates, is_valid, pem
from certs.replica import Replica
from certs.rotation import CA, NEXT, CertificateOptions, Content
from certs.trust import SETTLE_SECONDS

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86400.0
T = TypeVar("T")
PLAN = CertificateOptions(("dittofs-operator.dittofs-system.svc",))
read = cache(certificates)
# How often the carrier looks though nothing is due.
CHECK = 60.0
# An API server hears of a new caBundle well within what replicas allow for.
LATEST = SETTLE_SECONDS * 0.8


@dataclass
class Told(Generic[T]):
    """An object of the API server, of which others hear later."""

    history: list[tuple[float, T]]

    def at(self, when: float) -> tuple[int, T]:
        """Its version, and what it was then."""
        version = bisect_right(self.history, when, key=itemgetter(0)) - 1
        return version, self.history[version][1]

    def replace(self, version: int, value: T, at: float) -> bool:
        """Not when it has changed since."""
        if version != len(self.history) - 1:
            return False
        self.history.append((at, value))
        return True


@dataclass
class World:
    secret: Told[Content | None] = field(default_factory=lambda: Told([(-DAY, None)]))
    bundles: Sequence[Told[bytes]] = field(default_factory=lambda: [Told([(-DAY, b"")]) for _ in range(2)])
    at: float = 0.0

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.at)

    @property
    def changes(self) -> int:
        return len(self.secret.history) + sum(len(each.history) for each in self.bundles)

    def has_told(self, lag: float) -> bool:
        """Whether an API server that is that late has heard of any caBundle; before that it trusts nobody."""
        return all(each.at(self.at - lag)[1] for each in self.bundles)

    def trusts(self, leaf: Leaf, lag: float) -> bool:
        """Whether an API server that is that late admits, with both webhooks."""
        published = [read(each.at(self.at - lag)[1]) for each in self.bundles]
        return leaf.is_valid(self.now) and all(leaf.issuer in bundle for bundle in published)

    def look(self, replica: Replica, lags: tuple[float, ...] = (0, 0, 0)) -> None:
        """All that a replica does when it looks once, as the carrier does."""
        (version, content), *seen = self.seen(lags)
        replica.observe(content, [bundle for _, bundle in seen], self.now, self.at)
        replica.choose_leaf()
        wanted = replica.bundle()
        for told, (known, bundle) in zip(self.bundles, seen, strict=True):
            if wanted and bundle != wanted:
                told.replace(known, wanted, self.at)
        if step := replica.next_step(probed=True):
            self.secret.replace(version, step.content, self.at)

    def seen(self, lags: tuple[float, ...]) -> list[tuple[int, Any]]:
        """What one sees who hears of each object that late."""
        objects: list[Told[Any]] = [self.secret, *self.bundles]
        return [told.at(self.at - lag) for told, lag in zip(objects, lags, strict=True)]


@dataclass
class Watching:
    """A replica that looks when it hears of a change and when something is due, as the carrier lets it."""

    lags: tuple[float, ...]
    replica: Replica = field(default_factory=lambda: Replica(PLAN))
    is_ready: bool = False
    seen: list[Any] | None = None
    due: float = 0

    @classmethod
    def by(cls, chance: random.Random) -> "Watching":
        """Most hear of most things at once."""
        return cls(tuple(chance.choice((0.0, 0.0, chance.uniform(0, 3))) for _ in range(3)))

    def is_due(self, world: World) -> bool:
        return world.at >= self.due or world.seen(self.lags) != self.seen

    def look(self, world: World) -> None:
        self.seen = world.seen(self.lags)
        world.look(self.replica, self.lags)
        self.due = world.at + min(CHECK, self.replica.seconds_until_due())
        self.is_ready = self.is_ready or self.replica.is_trusted()


@pytest.mark.parametrize("seed", range(3))
def test_for_years_each_replica_that_is_ready_is_trusted_by_each_api_server(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    replicas = [Watching.by(chance) for _ in range(3)]
    authorities, leaves, checked = set(), set(), 0
    quiet = 0
    while world.at < 2.5 * 365 * DAY:
        before = world.changes
        for each in chance.sample(replicas, len(replicas)):
            if each.is_due(world) and chance.random() < 0.9:
                each.look(world)
        for served in [each.replica.served for each in replicas if each.is_ready]:
            assert served
            for lag in filter(world.has_told, (0.0, chance.uniform(0, LATEST), LATEST)):
                assert world.trusts(served, lag)
                checked += 1
            authorities.add(served.issuer)
            leaves.add(served.certificate)
        quiet = 0 if world.changes > before else quiet + 1
        if quiet < 30:
            world.at += 1
            continue
        world.at += chance.uniform(1, 4) * DAY
        # Once everything is quiet a replica is replaced.
        replicas[chance.randrange(len(replicas))] = Watching.by(chance)
        quiet = 25

    assert len(authorities) >= 4
    assert len(leaves) >= 14
    assert checked > 15000


@dataclass
class Alone:
    """One replica that has been at work for a minute."""

    world: World = field(default_factory=World)
    replica: Replica = field(default_factory=lambda: Replica(PLAN))

    def goes_on(self, seconds: int = 60) -> None:
        for _ in range(seconds):
            self.world.at += 1
            self.world.look(self.replica)

    @property
    def published(self) -> set[bytes]:
        return {each.history[-1][1] for each in self.world.bundles}

    def put(self, bundle: bytes) -> None:
        for each in self.world.bundles:
            each.history.append((self.world.at, bundle))

    def put_secret(self, content: Content | None) -> None:
        self.world.secret.history.append((self.world.at, content))


@pytest.fixture
def alone() -> Alone:
    there = Alone()
    there.goes_on()
    return there


@pytest.mark.parametrize("blank", [b"", b"nonsense"])
def test_a_bundle_that_was_blanked_is_put_back(alone: Alone, blank: bytes) -> None:
    before = alone.published
    alone.put(blank)
    alone.goes_on(1)
    assert alone.published == before


def test_a_replica_that_hears_nothing_any_more_stays_trusted_until_its_certificate_expires(alone: Alone) -> None:
    alone.world.at += 200 * DAY
    alone.goes_on()
    deaf, alone.replica = alone.replica, Replica(PLAN)

    assert deaf.served

    alone.world.at += 44 * DAY
    alone.goes_on()

    assert alone.replica.served
    assert alone.replica.served.issuer != deaf.served.issuer

    while is_valid(deaf.served.certificate, alone.world.now):
        assert alone.world.trusts(deaf.served, 0)
        alone.world.at += DAY
        alone.goes_on(3)


def test_a_secret_that_was_lost_costs_no_admission(alone: Alone) -> None:
    former = alone.replica.served
    alone.put_secret(None)
    for _ in range(60):
        alone.goes_on(1)
        assert alone.replica.served
        assert alone.world.trusts(alone.replica.served, LATEST if alone.replica.served != former else 0)

    assert former
    assert alone.replica.served
    assert alone.replica.served.issuer != former.issuer
    # Another replica may yet serve it, so that it is trusted for a day.
    assert alone.world.trusts(former, 0)

    alone.world.at += DAY
    alone.goes_on()

    assert not alone.world.trusts(former, 0)


def test_a_ca_of_another_mode_stays_beside_ours_for_a_day() -> None:
    other = Authority.create("cert-manager", BEGIN)
    moving = Alone()
    moving.put(other.pem)
    moving.goes_on()
    theirs, ours = other.certificate, moving.replica.secret.trusted

    assert {*certificates(*moving.published)} == {theirs, *ours}

    moving.world.at += 0.9 * DAY
    moving.goes_on()

    assert theirs in certificates(*moving.published)

    moving.world.at += 0.2 * DAY
    moving.goes_on()

    assert certificates(*moving.published) == ours


def test_a_certificate_of_a_ca_that_is_not_published_is_not_served(alone: Alone) -> None:
    former = alone.replica.served

    assert former

    alone.put_secret(None)
    alone.goes_on(1)
    for _ in range(30):
        # Whoever has told the API server to keep to the old one: nothing that we publish is there.
        alone.put(pem(former.issuer))
        content = alone.world.secret.history[-1][1]
        alone.replica.observe(
            content, [each.history[-1][1] for each in alone.world.bundles], alone.world.now, alone.world.at
        )
        assert alone.replica.choose_leaf() is None
        alone.world.at += 1


def test_the_next_ca_waits_for_probe(alone: Alone) -> None:
    alone.world.at += 200 * DAY
    alone.goes_on(2)
    alone.world.at += 44 * DAY
    alone.goes_on(3)
    content = alone.world.secret.history[-1][1]

    assert content
    assert NEXT in content
    assert not alone.replica.waits_for_probe()

    alone.world.at += SETTLE_SECONDS
    alone.replica.observe(content, [*alone.published], alone.world.now, alone.world.at)

    assert alone.replica.waits_for_probe()
    assert alone.replica.next_step(probed=False) is None

    changed = alone.replica.next_step(probed=True)

    assert changed
    assert changed.content[CA] == content[NEXT]


def test_it_looks_again_when_something_is_due(alone: Alone) -> None:
    assert alone.replica.seconds_until_due() == pytest.approx(60 * DAY - 60, abs=2)

    fresh = Replica(PLAN)
    fresh.observe(None, [], BEGIN, 0)

    assert fresh.seconds_until_due() == float("inf")
    assert fresh.bundle() == b""

    content = alone.world.secret.history[-1][1]
    fresh.observe(content, [*alone.published], alone.world.now, alone.world.at)

    assert fresh.seconds_until_due() == SETTLE_SECONDS
