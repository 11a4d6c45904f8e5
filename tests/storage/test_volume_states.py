from dataclasses import replace
from typing import Any

import pytest

from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.resize import ChangeClaims
from app.storage.unstructured import Manifest
from app.storage.volume_states import Phase, VolumeState, reported_states
from tests.harness.live_volumes import cache_claim, cache_state, live_with, mounting, step
from tests.harness.server_table import server, storage

DEFAULT_CLASS = StorageClasses((StorageClass("fast", is_default=True, expandable=True),))
QUOTA = "storage.cacheSize 20Gi is refused: exceeded quota"


def reported(generation: int = 2, observed: int = 2, **volume: Any) -> Manifest:
    """Returns a server whose cache is to have 20Gi, with what its status says of the cache."""
    status = {"observedGeneration": observed, "volumes": [{"name": "cache", **volume}]}
    manifest = server(**storage(cacheSize="20Gi"))
    return {**manifest, "metadata": {"name": "files", "generation": generation}, "status": status}


def reported_cache(manifest: Manifest, live_state: LiveState | None) -> VolumeState:
    return reported_states(read(manifest).server, manifest, live_state)[-1]


def having(**claim: Any) -> LiveState:
    fields = {"storage_class": "fast", "capacity": "5Gi", "phase": "Bound", "requested": "5Gi", **claim}
    return LiveState(claims={"cache-files-0": Claim("cache-files-0", **fields)}, classes=DEFAULT_CLASS)


def test_a_volume_is_reported_as_its_claim_is() -> None:
    state = reported_cache(reported(), having())

    assert (state.volume.name, state.claim_name, state.volume.size) == ("cache", "cache-files-0", "20Gi")
    assert (state.storage_class, state.capacity, state.phase) == ("fast", "5Gi", Phase.RESIZING)
    assert state.explain() == "volume claim cache-files-0 is to grow from 5Gi to 20Gi"
    assert reported_cache(reported(), having(capacity="20Gi")).phase == Phase.BOUND


def test_volumes_keep_the_order_of_claim_templates() -> None:
    manifest = server(**storage(contentSize="1Gi"))

    assert [state.volume.name for state in reported_states(read(manifest).server, manifest, None)] == [
        "metadata",
        "content",
        "cache",
    ]


def test_a_claim_to_be_created_has_its_future_class() -> None:
    manifest = server(storage={"metadataSize": "1Gi"})
    state = reported_cache(manifest, LiveState(classes=DEFAULT_CLASS))

    assert (state.storage_class, state.capacity, state.phase) == ("fast", None, Phase.PENDING)


def test_a_rejection_is_taken_from_the_status() -> None:
    refused = reported_cache(reported(phase="ResizeRefused", message=QUOTA), having())

    assert (refused.phase, refused.explain()) == (Phase.RESIZE_REFUSED, QUOTA)

    waits = reported_cache(reported(phase="Pending", message="it waits for a volume"), LiveState(classes=DEFAULT_CLASS))

    assert (waits.phase, waits.explain()) == (Phase.PENDING, "it waits for a volume")


def test_an_outdated_status_does_not_count() -> None:
    assert reported_cache(reported(observed=1, phase="ResizeRefused", message=QUOTA), having()).phase == Phase.RESIZING
    assert (
        reported_cache(reported(phase="ResizeRefused", message=QUOTA), having(requested="20Gi")).phase == Phase.RESIZING
    )
    assert reported_cache(reported(phase="Pending", message="it waits"), having(capacity="20Gi")).explain() == ""


def test_without_claims_the_status_counts() -> None:
    recorded = reported(storageClass="fast", capacity="5Gi", phase="Bound", message="well")

    state = reported_cache(recorded, None)

    assert (state.volume.name, state.claim_name, state.volume.size) == ("cache", "cache-files-0", "20Gi")
    assert (state.storage_class, state.capacity, state.phase) == ("fast", "5Gi", "Bound")
    assert state.explain() == "well"


def test_a_phase_that_nobody_knows_is_unknown() -> None:
    assert reported_cache(reported(phase="Melting"), None).phase == Phase.UNKNOWN


def test_without_claims_and_status_the_spec_counts() -> None:
    state = reported_cache(server(), None)

    assert (state.volume.name, state.claim_name, state.volume.size) == ("cache", "cache-files-0", "5Gi")
    assert (state.storage_class, state.capacity, state.phase) == (None, None, Phase.UNKNOWN)
    assert state.explain() == ""


def test_a_claim_of_another_class_is_listed_with_both() -> None:
    message = (
        'volume claim cache-files-0 is of StorageClass "slow", not "fast" as the spec asks; '
        "volumes cannot move; for another class, copy the data to a DittoServer of another name"
    )
    live = having(capacity="20Gi", storage_class="slow")

    state = reported_cache(reported(), live)

    assert (state.storage_class, state.explain()) == ("slow", message)
    assert reported_cache(reported(phase="Bound", message=message), live).explain() == message


def test_a_class_and_a_growth_are_both_listed() -> None:
    message = reported_cache(reported(), having(storage_class="slow", requested="20Gi")).explain()

    assert message.startswith("volume claim cache-files-0 grows from 5Gi to 20Gi; volume claim cache-files-0 is of")


def test_missing_pending_and_unknown_claims_differ() -> None:
    fresh, no_set = live_with(is_new=True), live_with(stateful_set=None, pod=None)
    missing, uncreated = live_with(), live_with(pod=None)
    unknown = live_with(claims_gap="forbidden: no")

    phases = [cache_state(live, "5Gi").phase for live in (fresh, no_set, missing, uncreated, unknown)]

    assert phases == [Phase.PENDING, Phase.PENDING, Phase.MISSING, Phase.MISSING, Phase.UNKNOWN]

    gone = "does not exist any more; the next pod would get a new, empty one"

    assert cache_state(missing, "5Gi").message.endswith(gone)
    assert cache_state(uncreated, "5Gi").message.endswith("the StatefulSet's controller has not created it")
    assert cache_state(unknown, "5Gi").message == "volume claim cache-files-0 is unknown: forbidden: no"


def test_a_terminating_claim_says_how_to_keep_its_data() -> None:
    leaving = live_with(cache_claim(terminating=True, volume="pv-1"), pod=mounting("metadata-files-0", "cache-files-0"))

    state = cache_state(leaving, "10Gi")

    assert state.phase == Phase.TERMINATING
    assert "kubectl patch persistentvolume pv-1" in state.message
    assert '"persistentVolumeReclaimPolicy":"Retain"' in state.message
    assert step(leaving, cacheSize="10Gi") is None

    unbound = live_with(cache_claim(terminating=True))

    assert cache_state(unbound, "10Gi").message.endswith("may be lost when the pod ends")


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("fixed", 'StorageClass "fixed" of volume claim cache-files-0 cannot expand volumes; classes that can: fast'),
        ("gone", 'StorageClass "gone" of volume claim cache-files-0 does not exist; classes that can: fast'),
        ("", "volume claim cache-files-0 is bound to a volume without a StorageClass"),
    ],
)
def test_the_class_of_the_claim_decides_on_expansion(named: str, why: str) -> None:
    live = live_with(cache_claim(storage_class=named))

    assert cache_state(live, "10Gi").phase == Phase.RESIZE_REFUSED
    assert cache_state(live, "10Gi").message == f"storage.cacheSize 10Gi cannot grow: {why}; it can stay at 5Gi"
    assert step(live, cacheSize="10Gi") is None


def test_a_rejection_is_quoted_with_the_possible_sizes() -> None:
    live = live_with(cache_claim(), refused={"cache-files-0": "forbidden: exceeded quota: disks"})

    assert cache_state(live, "10Gi").phase == Phase.RESIZE_REFUSED
    assert cache_state(live, "10Gi").message == (
        "storage.cacheSize 10Gi is refused, volume claim cache-files-0 stays at 5Gi: "
        "forbidden: exceeded quota: disks; ask for 5Gi or more, and less than 10Gi"
    )
    assert step(live, cacheSize="10Gi") is None


def test_an_expansion_quotes_the_driver() -> None:
    growing = cache_claim("5Gi", "10Gi", ours=True)

    assert cache_state(live_with(growing), "10Gi").phase == Phase.RESIZING
    assert cache_state(live_with(growing), "10Gi").message == "volume claim cache-files-0 grows from 5Gi to 10Gi"

    failing = replace(growing, resize_error="no space on the array")

    assert cache_state(live_with(failing), "10Gi").message.endswith("grows from 5Gi to 10Gi: no space on the array")


def test_an_infeasible_size_quotes_the_driver() -> None:
    live = live_with(cache_claim("5Gi", "20Gi", ours=True, infeasible_size="20480Mi", resize_error="at most 16Gi"))

    assert cache_state(live, "20Gi").phase == Phase.RESIZE_REFUSED
    assert cache_state(live, "20Gi").message == (
        "storage.cacheSize 20Gi is refused, volume claim cache-files-0 stays at 5Gi: "
        "at most 16Gi; ask for 5Gi or more, and less than 20Gi"
    )


def test_a_driver_that_gave_no_reason_is_named() -> None:
    live = live_with(cache_claim("5Gi", "20Gi", ours=True, infeasible_size="20Gi"))

    assert "the driver of volume claim cache-files-0 gave up on that size" in cache_state(live, "20Gi").message


def test_an_infeasible_size_says_nothing_of_others() -> None:
    live = live_with(cache_claim("5Gi", "16Gi", ours=True, infeasible_size="20Gi", resize_error="at most 16Gi"))

    assert cache_state(live, "16Gi").phase == Phase.RESIZING
    assert step(live, cacheSize="20Gi") == ChangeClaims({"cache-files-0": "20Gi"})


def test_an_expansion_taken_back_leaves_no_message() -> None:
    claim = cache_claim("5Gi", str(5 * 2**30 + 1), ours=True, infeasible_size="20Gi")

    state = cache_state(live_with(claim), "5Gi")

    assert (state.phase, state.message, state.larger) == (Phase.BOUND, "", False)


def test_an_expansion_that_stays_is_reported() -> None:
    """As by an API server before 1.34."""
    live = live_with(cache_claim("5Gi", "20Gi", ours=True), refused={"cache-files-0": "forbidden: less than before"})

    assert cache_state(live, "5Gi").phase == Phase.BOUND

    message = "volume claim cache-files-0 still asks for 20Gi: forbidden: less than before"

    assert cache_state(live, "5Gi").message == message
    assert cache_state(live, "8Gi").phase == Phase.RESIZING
    assert step(live) is None


@pytest.mark.parametrize("claim", [cache_claim("20Gi"), cache_claim("5Gi", "20Gi"), cache_claim("20Gi", ours=True)])
def test_a_claim_that_others_expanded_is_reported(claim: Claim) -> None:
    state = cache_state(live_with(claim), "5Gi")

    assert (state.phase, state.request, state.larger) == (Phase.BOUND, None, True)
    assert (
        state.message
        == "volume claim cache-files-0 asks for 20Gi, more than storage.cacheSize 5Gi; the claim keeps that size"
    )
    assert step(live_with(claim)) is None


def test_a_size_below_what_others_asked_for_waits() -> None:
    state = cache_state(live_with(cache_claim("5Gi", "20Gi")), "10Gi")

    assert (state.phase, state.request) == (Phase.RESIZING, None)
