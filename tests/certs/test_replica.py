"""Several replicas for years, at API servers that hear of changes late, as the replicas do."""

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
# How often a replica checks although nothing is due.
CHECK = 60.0
# API servers hear of a new caBundle well within the time that replicas allow for it.
LATEST = SETTLE_SECONDS * 0.8


@dataclass
class History(Generic[T]):
    """Keeps the versions of an object; others hear of each one later."""

    history: list[tuple[float, T]]

    def at(self, when: float) -> tuple[int, T]:
        """Returns its version at that time, and its value."""
        version = bisect_right(self.history, when, key=itemgetter(0)) - 1
        return version, self.history[version][1]

    def replace(self, version: int, value: T, at: float) -> bool:
        """Returns False when it has changed since that version."""
        if version != len(self.history) - 1:
            return False
        self.history.append((at, value))
        return True


@dataclass
class World:
    secret: History[Content | None] = field(default_factory=lambda: History([(-DAY, None)]))
    bundles: Sequence[History[bytes]] = field(default_factory=lambda: [History([(-DAY, b"")]) for _ in range(2)])
    at: float = 0.0

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.at)

    @property
    def changes(self) -> int:
        return len(self.secret.history) + sum(len(bundle.history) for bundle in self.bundles)

    def has_bundles(self, lag: float) -> bool:
        """Returns whether an API server with that lag has heard of any caBundle; before that it trusts nobody."""
        return all(bundle.at(self.at - lag)[1] for bundle in self.bundles)

    def trusts(self, leaf: Leaf, lag: float) -> bool:
        """Returns whether an API server with that lag trusts the certificate for both webhooks."""
        published = [read(bundle.at(self.at - lag)[1]) for bundle in self.bundles]
        return leaf.is_valid(self.now) and all(leaf.issuer in bundle for bundle in published)

    def check(self, replica: Replica, lags: tuple[float, ...] = (0, 0, 0)) -> None:
        """Does for the replica what SelfManagedCertificate does in one check."""
        (version, content), *observed = self.observe(lags)
        replica.observe(content, [bundle for _, bundle in observed], self.now, self.at)
        replica.choose_leaf()
        wanted = replica.bundle()
        for published, (known, bundle) in zip(self.bundles, observed, strict=True):
            if wanted and bundle != wanted:
                published.replace(known, wanted, self.at)

        if step := replica.next_step(probed=True):
            self.secret.replace(version, step.content, self.at)

    def observe(self, lags: tuple[float, ...]) -> list[tuple[int, Any]]:
        """Returns version and value of each object for somebody who hears of it with that lag."""
        objects: list[History[Any]] = [self.secret, *self.bundles]
        return [history.at(self.at - lag) for history, lag in zip(objects, lags, strict=True)]


@dataclass
class Watching:
    """Runs a replica that checks when it hears of a change and when something is due."""

    lags: tuple[float, ...]
    replica: Replica = field(default_factory=lambda: Replica(PLAN))
    is_ready: bool = False
    observed: list[Any] | None = None
    due: float = 0

    @classmethod
    def by(cls, chance: random.Random) -> "Watching":
        """Picks lags: most replicas hear of most changes at once."""
        return cls(tuple(chance.choice((0.0, 0.0, chance.uniform(0, 3))) for _ in range(3)))

    def is_due(self, world: World) -> bool:
        return world.at >= self.due or world.observe(self.lags) != self.observed

    def check(self, world: World) -> None:
        self.observed = world.observe(self.lags)
        world.check(self.replica, self.lags)
        self.due = world.at + min(CHECK, self.replica.seconds_until_due())
        self.is_ready = self.is_ready or self.replica.is_trusted()


@pytest.mark.parametrize("seed", range(3))
def test_ready_replicas_are_always_trusted(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    replicas = [Watching.by(chance) for _ in range(3)]
    authorities, leaves, checked = set(), set(), 0
    quiet = 0

    while world.at < 2.5 * 365 * DAY:
        before = world.changes
        for watching in chance.sample(replicas, len(replicas)):
            if watching.is_due(world) and chance.random() < 0.9:
                watching.check(world)

        for served in [watching.replica.served for watching in replicas if watching.is_ready]:
            assert served
            for lag in filter(world.has_bundles, (0.0, chance.uniform(0, LATEST), LATEST)):
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
    """Runs one replica that hears of everything at once."""

    world: World = field(default_factory=World)
    replica: Replica = field(default_factory=lambda: Replica(PLAN))

    def advance(self, seconds: int = 60) -> None:
        for _ in range(seconds):
            self.world.at += 1
            self.world.check(self.replica)

    @property
    def published(self) -> set[bytes]:
        return {bundle.history[-1][1] for bundle in self.world.bundles}

    def put(self, bundle: bytes) -> None:
        for published in self.world.bundles:
            published.history.append((self.world.at, bundle))

    def put_secret(self, content: Content | None) -> None:
        self.world.secret.history.append((self.world.at, content))


@pytest.fixture
def alone() -> Alone:
    there = Alone()
    there.advance()
    return there


@pytest.mark.parametrize("blank", [b"", b"nonsense"])
def test_a_bundle_that_was_blanked_is_put_back(alone: Alone, blank: bytes) -> None:
    before = alone.published
    alone.put(blank)
    alone.advance(1)
    assert alone.published == before


def test_a_replica_that_hears_nothing_stays_trusted(alone: Alone) -> None:
    alone.world.at += 200 * DAY
    alone.advance()
    deaf, alone.replica = alone.replica, Replica(PLAN)

    assert deaf.served

    alone.world.at += 44 * DAY
    alone.advance()

    assert alone.replica.served
    assert alone.replica.served.issuer != deaf.served.issuer

    while is_valid(deaf.served.certificate, alone.world.now):
        assert alone.world.trusts(deaf.served, 0)
        alone.world.at += DAY
        alone.advance(3)


def test_a_lost_secret_costs_no_admission(alone: Alone) -> None:
    previous = alone.replica.served
    alone.put_secret(None)
    for _ in range(60):
        alone.advance(1)
        assert alone.replica.served
        assert alone.world.trusts(alone.replica.served, LATEST if alone.replica.served != previous else 0)

    assert previous
    assert alone.replica.served
    assert alone.replica.served.issuer != previous.issuer
    # Another replica may yet serve it, so that it is trusted for a day.
    assert alone.world.trusts(previous, 0)

    alone.world.at += DAY
    alone.advance()

    assert not alone.world.trusts(previous, 0)


def test_a_foreign_ca_stays_in_the_bundle_for_a_day() -> None:
    other = Authority.create("cert-manager", BEGIN)
    moving = Alone()
    moving.put(other.pem)
    moving.advance()
    theirs, ours = other.certificate, moving.replica.secret.trusted

    assert {*certificates(*moving.published)} == {theirs, *ours}

    moving.world.at += 0.9 * DAY
    moving.advance()

    assert theirs in certificates(*moving.published)

    moving.world.at += 0.2 * DAY
    moving.advance()

    assert certificates(*moving.published) == ours


def test_nothing_is_served_from_an_unpublished_ca(alone: Alone) -> None:
    previous = alone.replica.served

    assert previous

    alone.put_secret(None)
    alone.advance(1)
    for _ in range(30):
        # Somebody keeps putting the old CA back: nothing that the replica publishes stays.
        alone.put(pem(previous.issuer))
        content = alone.world.secret.history[-1][1]
        alone.replica.observe(
            content, [bundle.history[-1][1] for bundle in alone.world.bundles], alone.world.now, alone.world.at
        )
        assert alone.replica.choose_leaf() is None
        alone.world.at += 1


def test_the_next_ca_waits_for_probe(alone: Alone) -> None:
    alone.world.at += 200 * DAY
    alone.advance(2)
    alone.world.at += 44 * DAY
    alone.advance(3)
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


def test_the_next_check_is_when_something_is_due(alone: Alone) -> None:
    assert alone.replica.seconds_until_due() == pytest.approx(60 * DAY - 60, abs=2)

    fresh = Replica(PLAN)
    fresh.observe(None, [], BEGIN, 0)

    assert fresh.seconds_until_due() == float("inf")
    assert fresh.bundle() == b""

    content = alone.world.secret.history[-1][1]
    fresh.observe(content, [*alone.published], alone.world.now, alone.world.at)

    assert fresh.seconds_until_due() == SETTLE_SECONDS
