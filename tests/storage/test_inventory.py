from typing import Any

from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.inventory import UNKNOWN, Entry, inventory
from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.resize import Phase
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage

CLASSES = StorageClasses((StorageClass("fast", is_default=True, expandable=True),))
QUOTA = "storage.cacheSize 20Gi is refused: exceeded quota"


def live(generation: int = 2, observed: int = 2, **volume: Any) -> Manifest:
    """A server whose cache is to have 20Gi, and what its status says of it."""
    status = {"observedGeneration": observed, "volumes": [{"name": "cache", **volume}]}
    manifest = server(**storage(cacheSize="20Gi"))
    return {**manifest, "metadata": {"name": "files", "generation": generation}, "status": status}


def cache(manifest: Manifest, live_state: LiveState | None) -> Entry:
    return inventory(read(manifest).server, manifest, live_state)[-1]


def having(**claim: Any) -> LiveState:
    known = {"storage_class": "fast", "capacity": "5Gi", "phase": "Bound", "requested": "5Gi", **claim}
    return LiveState(claims={"cache-files-0": Claim("cache-files-0", **known)}, classes=CLASSES)


def test_a_volume_is_told_as_its_claim_is() -> None:
    message = "volume claim cache-files-0 is to grow from 5Gi to 20Gi"
    assert cache(live(), having()) == Entry("cache", "cache-files-0", "20Gi", "fast", "5Gi", Phase.RESIZING, message)
    assert cache(live(), having(capacity="20Gi")).phase == Phase.BOUND


def test_the_volumes_come_in_the_order_of_the_claim_templates() -> None:
    manifest = server(**storage(contentSize="1Gi"))

    assert [entry.name for entry in inventory(read(manifest).server, manifest, None)] == [
        "metadata",
        "content",
        "cache",
    ]


def test_a_claim_that_is_yet_to_be_made_has_the_class_that_it_will_have() -> None:
    manifest = server(storage={"metadataSize": "1Gi"})
    entry = cache(manifest, LiveState(classes=CLASSES))
    assert (entry.storage_class, entry.capacity, entry.phase) == ("fast", None, Phase.PENDING)


def test_what_only_the_operator_was_told_is_taken_from_the_status() -> None:
    refused = cache(live(phase="ResizeRefused", message=QUOTA), having())
    assert (refused.phase, refused.message) == (Phase.RESIZE_REFUSED, QUOTA)
    waits = cache(live(phase="Pending", message="it waits for a volume"), LiveState(classes=CLASSES))
    assert (waits.phase, waits.message) == (Phase.PENDING, "it waits for a volume")


def test_what_the_status_says_of_another_generation_or_phase_is_over() -> None:
    assert cache(live(observed=1, phase="ResizeRefused", message=QUOTA), having()).phase == Phase.RESIZING
    assert cache(live(phase="ResizeRefused", message=QUOTA), having(requested="20Gi")).phase == Phase.RESIZING
    assert cache(live(phase="Pending", message="it waits"), having(capacity="20Gi")).message == ""


def test_without_the_claims_a_volume_is_told_as_the_status_has_it() -> None:
    recorded = live(storageClass="fast", capacity="5Gi", phase="Bound", message="well")
    assert cache(recorded, None) == Entry("cache", "cache-files-0", "20Gi", "fast", "5Gi", "Bound", "well")


def test_without_claims_and_status_nothing_is_known_but_the_spec() -> None:
    assert cache(server(), None) == Entry("cache", "cache-files-0", "5Gi", None, None, UNKNOWN)


def test_a_claim_of_another_class_is_listed_with_both() -> None:
    message = (
        'volume claim cache-files-0 is of StorageClass "slow", not "fast" as the spec asks; '
        "volumes cannot move; for another class, copy the data to a DittoServer of another name"
    )
    found = having(capacity="20Gi", storage_class="slow")

    assert (cache(live(), found).storage_class, cache(live(), found).message) == ("slow", message)
    assert cache(live(phase="Bound", message=message), found).message == message


def test_a_class_and_a_growth_are_both_listed() -> None:
    message = cache(live(), having(storage_class="slow", requested="20Gi")).message

    assert message.startswith("volume claim cache-files-0 grows from 5Gi to 20Gi; volume claim cache-files-0 is of")
