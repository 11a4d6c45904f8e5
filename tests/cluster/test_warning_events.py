"""Events that are kept, by server, and until when. The tests put objects into the stores."""

from typing import Any

import pytest

from app.cluster.store import Store
from app.cluster.warning_events import EVENTS_PER_SERVER, WarningEvents
from app.storage.evidence import CLAIM, POD, STATEFUL_SET
from app.storage.unstructured import Manifest, ObjectKey
from tests.harness.warning_events import event

SERVER = "here", "files"
NAMES = {STATEFUL_SET: "files", POD: "files-0", CLAIM: "cache-files-0"}
BEGUN = "2026-11-27T03:30:00Z"


class World:
    """A server with its objects. The UID of an object is its kind."""

    def __init__(self, *kinds: str) -> None:
        self.servers = Store()
        self.stores = {kind: Store() for kind in NAMES}
        self.warnings = WarningEvents(self.servers, self.stores)
        self.reported: list[ObjectKey] = []
        self.warnings.event_handlers.append(self.reported.append)
        self._version = 0
        self.servers.put(self.named("files"))
        for kind in kinds:
            self.create(kind)

    def named(self, name: str, **metadata: str) -> Manifest:
        self._version += 1
        version = str(self._version)
        return {"metadata": {"namespace": "here", "name": name, "resourceVersion": version, **metadata}}

    def create(self, kind: str, created: str = BEGUN, uid: str = "") -> None:
        self.stores[kind].put(self.named(NAMES[kind], uid=uid or kind, creationTimestamp=created))

    def delete(self, kind: str) -> None:
        self.stores[kind].remove(self.named(NAMES[kind]))

    def warn(self, kind: str, reason: str, message: str, *, uid: str = "", **fields: Any) -> None:
        about = {"kind": kind, "name": NAMES[kind], "uid": uid or kind}
        self.warnings.put(event(reason=reason, message=message, involvedObject=about, **fields))

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.warnings.about(SERVER)]


def at(time: str) -> dict[str, str]:
    return {"lastTimestamp": f"2026-11-27T{time}:00Z"}


def test_only_known_servers_have_events() -> None:
    world = World(POD)
    for name in ("other-0", "web-0"):
        world.warnings.put(event(involvedObject={"kind": POD, "name": name, "uid": POD}))
    assert (world.warnings._events, world.reported) == ({}, [])


def test_another_uid_is_nobodys_event() -> None:
    world = World(POD)
    world.warn(POD, "FailedMount", "forged", uid="another")

    assert world.messages == []

    world.create(POD, uid="another")

    assert world.messages == ["forged"]


def test_forged_events_displace_no_true_one() -> None:
    world = World(POD)
    world.warn(POD, "FailedMount", "true")
    for number in range(2 * EVENTS_PER_SERVER):
        world.warn(POD, "FailedMount", "forged", uid=f"forged-{number}", **at("05:00"))

    assert world.messages == ["true"]
    assert len(world.warnings._get(SERVER)) == EVENTS_PER_SERVER


def test_the_newest_event_of_a_topic_counts() -> None:
    world = World(POD)
    world.warn(POD, "FailedMount", "new", **at("03:50"))
    world.warn(POD, "FailedMount", "old", **at("03:40"))

    assert world.messages == ["new"]

    world.warn(POD, "FailedMount", "newer", **at("03:55"))

    assert world.messages == ["newer"]


def test_a_server_is_woken_by_news_only() -> None:
    world = World(POD)
    volume = 'MountVolume.SetUp failed for volume "{}" : x'
    world.warn(POD, "FailedMount", volume.format("a"), **at("03:40"))

    assert world.reported == [SERVER]

    world.warn(POD, "FailedMount", volume.format("a"), **at("03:41"), count=2)

    assert world.reported == [SERVER]

    world.warn(POD, "FailedMount", volume.format("b"), **at("03:42"))

    assert world.reported == [SERVER] * 2

    # That the other volume is mounted, nobody says.
    world.warn(POD, "FailedMount", volume.format("b"), **at("04:30"))

    assert world.reported == [SERVER] * 3


def test_an_expired_event_still_explains() -> None:
    """A volume that is attached elsewhere is reported once, and Events live for an hour."""
    world = World(POD)
    world.warn(POD, "FailedAttachVolume", "Multi-Attach error")
    world.warnings.remove(world.named("e"))
    world.warnings.keep_only([], None, 10)

    assert world.messages == ["Multi-Attach error"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(POD, "FailedMount"), (CLAIM, "ProvisioningFailed"), (STATEFUL_SET, "FailedCreate")],
)
def test_events_go_with_their_object(kind: str, reason: str) -> None:
    world = World(kind)
    world.warn(kind, reason, "x")

    assert world.messages == ["x"]

    world.delete(kind)

    assert world.warnings._events == {}


REFUSED = "Create {} in StatefulSet files failed error: exceeded quota"


@pytest.mark.parametrize(("created", "what"), [(POD, "Pod files-0"), (CLAIM, "Claim cache-files-0 for Pod files-0")])
def test_a_refusal_is_over_once_it_was_created(created: str, what: str) -> None:
    world = World(STATEFUL_SET)
    world.warn(STATEFUL_SET, "FailedCreate", REFUSED.format(what), **at("03:20"))

    assert len(world.messages) == 1

    world.create(created, BEGUN)

    assert world.messages == []

    # As a restarted operator hears of them, in whichever order.
    world.warn(STATEFUL_SET, "FailedCreate", REFUSED.format(what), **at("03:20"))

    assert world.messages == []

    world.delete(created)
    world.warn(STATEFUL_SET, "FailedCreate", REFUSED.format(what), **at("03:40"))

    assert len(world.messages) == 1


def test_a_claim_that_exists_leaves_the_pods_refusal() -> None:
    world = World(STATEFUL_SET)
    world.warn(STATEFUL_SET, "FailedCreate", REFUSED.format("Pod files-0"), **at("03:20"))
    world.create(CLAIM)
    assert world.messages == [REFUSED.format("Pod files-0")]


def test_events_of_a_lost_history_are_forgotten() -> None:
    """The list that follows a restore of etcd contains those that did happen."""
    world = World(POD)
    world.warn(POD, "FailedMount", "of the lost history")
    world.warnings.note_version(7)
    world.warnings.forget_versions("there")

    assert world.messages == ["of the lost history"]

    world.warnings.forget_versions("here")

    assert (world.messages, world.warnings.latest) == ([], 0)
