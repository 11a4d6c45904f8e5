from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, claim_templates, stateful_set
from app.storage.reading import read
from app.storage.resize import (
    ALLOW_DATA_LOSS,
    RESTART_FOR_RESIZE,
    ChangeClaims,
    HoldPod,
    Phase,
    RecreateStatefulSet,
    ReleasePod,
    RemoveStatefulSet,
    RestartPod,
    VolumeState,
    field_owners,
    initial_templates,
    may_lose_data,
    may_restart,
    next_step,
    restart_due,
    restart_hold,
    volume_states,
)
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage

FAST, FIXED = StorageClass("fast", expandable=True), StorageClass("fixed")
CLASSES = StorageClasses((FAST, FIXED))
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
SINCE = "2026-02-01T12:00:00Z"
REQUEST_TIMEOUT_SECONDS = timedelta(minutes=2)
BEFORE, AFTER = "2026-02-01T09:00:00Z", "2026-02-01T12:01:00Z"
POD: Manifest = {
    "metadata": {"creationTimestamp": BEFORE, "ownerReferences": [{"controller": True, "uid": "s"}]},
    "spec": {"volumes": [{"name": "metadata"}, {"name": "cache"}]},
}
OWNER = Owner("files", "here", "u")
ENTRIES = [{"manager": "dittofs-operator", "operation": "Apply"}]


def wanting(**sizes: str) -> DittoServer:
    return read({**server(**storage(**sizes)), "metadata": {"name": "files", "namespace": "here"}}).server


def claim(capacity: str = "5Gi", requested: str | None = None, **found: Any) -> Claim:
    """The claim of the cache; `ours` is one whose size the operator asked for."""
    by = frozenset({OPERATOR if found.pop("ours", False) else "kube-controller-manager"})
    known = {"storage_class": "fast", "phase": "Bound", "requested_by": by, **found}
    return Claim("cache-files-0", capacity=capacity, requested=requested or capacity, **known)


def live(**sizes: str) -> Manifest:
    """The StatefulSet of a server with these sizes, as the API server has it."""
    made = stateful_set(OWNER, wanting(**sizes).spec, "digest")
    made["metadata"] |= {"uid": "s", "resourceVersion": "1", "managedFields": ENTRIES}
    made["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
    return made


def live_state(*claims: Claim, **found: Any) -> LiveState:
    """Of a server whose StatefulSet was made for 10Gi of metadata and 5Gi of cache."""
    metadata = Claim("metadata-files-0", "fast", "10Gi", "Bound", "10Gi")
    known = {"classes": CLASSES, "stateful_set": live(), "pod": POD, **found}
    return LiveState({each.name: each for each in (metadata, *claims)}, **known)


def cache(found: LiveState, size: str) -> VolumeState:
    return volume_states(wanting(cacheSize=size), found)[-1]


def step(found: LiveState, **sizes: str) -> Any:
    return next_step(wanting(**sizes), OWNER, found, NOON)


def later(found: LiveState, seconds: int) -> Any:
    """The step when the file system of the cache, wanted with 10Gi, has been waiting for so long."""
    return next_step(wanting(cacheSize="10Gi"), OWNER, found, NOON + timedelta(seconds=seconds))


def sizes(made: Mapping[str, Any]) -> dict[str, str]:
    templates = made["spec"]["volumeClaimTemplates"]
    return {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in templates}


def test_what_is_as_large_as_it_is_wanted_needs_nothing() -> None:
    assert step(live_state(claim())) is None
    assert cache(live_state(claim()), "5Gi") == VolumeState(
        volume_states(wanting(), LiveState())[-1].volume, claim(), Phase.BOUND
    )


@pytest.mark.parametrize(
    ("capacity", "size"), [("5Gi", "5120Mi"), ("5368709120", "5Gi"), ("1Ti", "1024Gi"), ("6Gi", "6144Mi")]
)
def test_sizes_are_compared_as_amounts_and_not_as_text(capacity: str, size: str) -> None:
    found = live_state(claim(capacity), stateful_set=live(cacheSize=size))
    assert step(found, cacheSize=size) is None


def test_6g_of_a_claim_is_less_than_6gi_and_grows() -> None:
    assert step(live_state(claim("6G")), cacheSize="6Gi") == ChangeClaims({"cache-files-0": "6Gi"})


def test_what_a_driver_has_rounded_up_is_enough() -> None:
    found = live_state(claim("8Gi", "5Gi"))
    assert cache(found, "5Gi").message == ""
    assert cache(found, "8Gi").request is None
    assert sizes_made(found, cacheSize="8Gi")["cache"] == "8Gi"


def sizes_made(found: LiveState, **wanted: str) -> dict[str, str]:
    """What the StatefulSet is recreated with, when it comes to that."""
    assert isinstance(step(found, **wanted), HoldPod)
    again = step(replace(found, stateful_set=None, removed=found.stateful_set), **wanted)
    assert isinstance(again, RecreateStatefulSet)
    return sizes(again.stateful_set)


def test_every_claim_is_changed_before_the_statefulset_is() -> None:
    found = live_state(claim())
    wanted = {"metadataSize": "20Gi", "cacheSize": "10Gi"}

    assert step(found, **wanted) == ChangeClaims({"metadata-files-0": "20Gi", "cache-files-0": "10Gi"})

    one_is_done = live_state(claim("5Gi", "10Gi"))

    assert step(one_is_done, **wanted) == ChangeClaims({"metadata-files-0": "20Gi"})


HELD: Manifest = {
    **POD,
    "metadata": {**POD["metadata"], "ownerReferences": [*POD["metadata"]["ownerReferences"], {"uid": "u"}]},
}


def test_the_statefulset_is_recreated_around_its_pod() -> None:
    grown = live_state(claim("5Gi", "10Gi", ours=True))
    wanted = {"cacheSize": "10Gi"}

    assert step(grown, **wanted) == HoldPod(POD)

    held = replace(grown, pod=HELD)

    assert step(held, **wanted) == RemoveStatefulSet(live())

    removed = replace(held, stateful_set=None, removed=live())
    again = step(removed, **wanted)

    assert isinstance(again, RecreateStatefulSet)
    assert again.stateful_set["metadata"].keys() == {"name", "namespace", "labels", "ownerReferences"}
    assert field_owners({**live(), "metadata": {"managedFields": [*ENTRIES, {"subresource": "status"}]}}) == ENTRIES

    back = replace(held, stateful_set=live(cacheSize="10Gi"))

    assert step(back, **wanted) == ReleasePod(HELD)
    assert step(replace(back, pod=POD), **wanted) is None


def test_without_a_pod_there_is_nothing_to_hold() -> None:
    stopped = live_state(claim("5Gi", "10Gi", ours=True), pod=None)

    assert step(stopped, cacheSize="10Gi") == RemoveStatefulSet(live())


def test_a_statefulset_of_another_server_is_not_recreated() -> None:
    """Removed for a server of the same name that has been deleted since."""
    removed = live()
    removed["metadata"]["ownerReferences"] = [Owner("files", "here", "former").reference]

    assert step(live_state(claim(), stateful_set=None, removed=removed), cacheSize="10Gi") is None


def test_a_pod_of_another_is_given_no_owner_and_not_restarted(pending: LiveState) -> None:
    another = {**POD, "metadata": {**POD["metadata"], "ownerReferences": [{"controller": True, "uid": "other"}]}}
    assert step(live_state(claim("5Gi", "10Gi"), pod=another), cacheSize="10Gi") == RemoveStatefulSet(live())
    assert later(replace(pending, pod=another), 120) is None


def test_a_pod_that_is_yet_to_be_adopted_again_is_not_another_s() -> None:
    orphan = {**POD, "metadata": {"creationTimestamp": BEFORE}}
    assert step(live_state(claim("5Gi", "10Gi"), pod=orphan), cacheSize="10Gi") == HoldPod(orphan)


def test_what_is_made_again_differs_in_its_templates_alone() -> None:
    removed = live()
    removed["metadata"]["annotations"] = {"example.com/by": "another"}
    removed["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "noon"
    removed["spec"]["updateStrategy"] = {"type": "OnDelete"}
    again = step(live_state(claim("5Gi", "10Gi"), stateful_set=None, removed=removed), cacheSize="10Gi")

    assert isinstance(again, RecreateStatefulSet)
    assert {**again.stateful_set["spec"], "volumeClaimTemplates": []} == {**removed["spec"], "volumeClaimTemplates": []}
    assert again.stateful_set["metadata"]["annotations"] == {"example.com/by": "another"}


def test_nothing_is_done_while_somebody_removes_the_statefulset() -> None:
    leaving = live()
    leaving["metadata"]["deletionTimestamp"] = BEFORE
    assert step(live_state(claim(), stateful_set=leaving), cacheSize="10Gi") is None


def test_a_statefulset_that_was_not_removed_here_is_not_recreated() -> None:
    assert step(live_state(claim(), stateful_set=None), cacheSize="10Gi") is None


def test_a_claim_that_is_not_bound_is_left_alone_until_it_is() -> None:
    pending = Claim("cache-files-0", "fast", requested="5Gi")

    assert step(live_state(pending), cacheSize="10Gi") is None
    assert cache(live_state(pending), "10Gi").phase == Phase.PENDING

    lost = claim(phase="Lost")

    assert step(live_state(lost), cacheSize="10Gi") is None
    assert cache(live_state(lost), "10Gi").phase == Phase.LOST


def test_the_template_of_an_unobserved_claim_stays() -> None:
    missing = live_state()
    unknown = live_state(claims_gap="forbidden: no")
    stopped = live_state(stateful_set={**live(), "spec": {**live()["spec"], "replicas": 0}}, pod=None)

    assert [step(each, cacheSize="10Gi") for each in (missing, unknown, stopped)] == [None] * 3


def test_missing_pending_and_unknown_claims_differ() -> None:
    fresh, no_set = live_state(is_new=True), live_state(stateful_set=None, pod=None)
    missing, uncreated = live_state(), live_state(pod=None)
    unknown = live_state(claims_gap="forbidden: no")
    every = (fresh, no_set, missing, uncreated, unknown)

    phases = [cache(each, "5Gi").phase for each in every]

    assert phases == [Phase.PENDING, Phase.PENDING, Phase.MISSING, Phase.MISSING, Phase.UNKNOWN]
    assert cache(missing, "5Gi").message.endswith("does not exist any more; the next pod would get a new, empty one")
    assert cache(uncreated, "5Gi").message.endswith("the StatefulSet's controller has not created it")
    assert cache(unknown, "5Gi").message == "volume claim cache-files-0 is unknown: forbidden: no"


def mounting(*claims: str, **metadata: str) -> Manifest:
    volumes = [{"name": name.split("-")[0], "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {"metadata": {**POD["metadata"], **metadata}, "spec": {"volumes": volumes}}


USED = mounting("metadata-files-0", "cache-files-0")


@pytest.mark.parametrize(
    "held",
    [live_state(claim(terminating=True), pod=USED), live_state(pod=USED)],
    ids=["terminating", "missing"],
)
def test_no_restart_while_a_claim_would_go_with_the_pod(held: LiveState) -> None:
    assert "cache-files-0" in (restart_hold(wanting(), held) or "")

    leaving = mounting("cache-files-0", deletionTimestamp=AFTER)
    unused = mounting("metadata-files-0")
    for change in ({"pod": None}, {"pod": leaving}, {"pod": unused}, {"may_lose_data": True}):
        assert restart_hold(wanting(), replace(held, **change)) is None


@pytest.mark.parametrize("other", [claim(), claim(phase="Pending", capacity=""), claim(phase="Lost")])
def test_other_claims_hold_no_restart(other: Claim) -> None:
    assert restart_hold(wanting(), live_state(other, pod=USED)) is None
    assert restart_hold(wanting(), live_state(pod=USED, claims_gap="forbidden")) is None


def test_a_terminating_claim_says_how_to_keep_its_data() -> None:
    leaving = live_state(claim(terminating=True, volume="pv-1"), pod=USED)

    state = cache(leaving, "10Gi")

    assert state.phase == Phase.TERMINATING
    assert "kubectl patch persistentvolume pv-1" in state.message
    assert '"persistentVolumeReclaimPolicy":"Retain"' in state.message
    assert step(leaving, cacheSize="10Gi") is None
    assert cache(live_state(claim(terminating=True)), "10Gi").message.endswith("may be lost when the pod ends")


def test_only_the_owner_allows_data_to_be_lost() -> None:
    assert may_lose_data({"metadata": {"annotations": {ALLOW_DATA_LOSS: "true"}}})
    assert not may_lose_data({"metadata": {"annotations": {ALLOW_DATA_LOSS: "yes"}}})
    assert not may_lose_data({"metadata": {}})


def test_a_created_statefulset_keeps_the_sizes_of_claims() -> None:
    """As when the operator was interrupted after it had removed the StatefulSet."""
    fixed = live_state(claim(storage_class="fixed"), stateful_set=None)
    resizing = live_state(claim("5Gi", "10Gi"), stateful_set=None)
    pending = live_state(Claim("cache-files-0", "fast", requested="7Gi"), stateful_set=None)

    created = [initial_templates(wanting(cacheSize="10Gi"), each) for each in (fixed, resizing, pending)]
    requests = [made[-1]["spec"]["resources"]["requests"]["storage"] for made in created]

    assert requests == ["5Gi", "10Gi", "7Gi"]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("fixed", 'StorageClass "fixed" of volume claim cache-files-0 cannot expand volumes; classes that can: fast'),
        ("gone", 'StorageClass "gone" of volume claim cache-files-0 does not exist; classes that can: fast'),
        ("", "volume claim cache-files-0 is bound to a volume without a StorageClass"),
    ],
)
def test_the_class_of_the_live_claim_decides_whether_it_grows(named: str, why: str) -> None:
    found = live_state(claim(storage_class=named))
    assert cache(found, "10Gi").phase == Phase.RESIZE_REFUSED
    assert cache(found, "10Gi").message == f"storage.cacheSize 10Gi cannot grow: {why}; it can stay at 5Gi"
    assert step(found, cacheSize="10Gi") is None


def test_what_one_claim_is_refused_keeps_no_other_from_growing() -> None:
    found = live_state(claim(storage_class="fixed"))
    wanted = {"metadataSize": "20Gi", "cacheSize": "10Gi"}

    assert step(found, **wanted) == ChangeClaims({"metadata-files-0": "20Gi"})

    grown = Claim("metadata-files-0", "fast", "20Gi", "Bound", "20Gi")

    assert sizes_made(live_state(claim(storage_class="fixed"), grown), **wanted) == {"metadata": "20Gi", "cache": "5Gi"}


def test_what_the_api_server_refuses_is_told_in_its_words_with_the_range_that_is_left() -> None:
    found = live_state(claim(), refused={"cache-files-0": "forbidden: exceeded quota: disks"})

    assert cache(found, "10Gi").phase == Phase.RESIZE_REFUSED
    assert cache(found, "10Gi").message == (
        "storage.cacheSize 10Gi is refused, volume claim cache-files-0 stays at 5Gi: "
        "forbidden: exceeded quota: disks; ask for 5Gi or more, and less than 10Gi"
    )
    assert step(found, cacheSize="10Gi") is None


def test_a_growth_that_goes_on_says_so_and_what_the_driver_has_to_say() -> None:
    growing = claim("5Gi", "10Gi", ours=True)

    assert cache(live_state(growing), "10Gi").phase == Phase.RESIZING
    assert cache(live_state(growing), "10Gi").message == "volume claim cache-files-0 grows from 5Gi to 10Gi"

    failing = replace(growing, resize_error="no space on the array")

    assert cache(live_state(failing), "10Gi").message.endswith("grows from 5Gi to 10Gi: no space on the array")


def test_what_the_driver_gave_up_is_told_in_its_words_with_the_range_that_is_left() -> None:
    found = live_state(claim("5Gi", "20Gi", ours=True, infeasible_size="20480Mi", resize_error="at most 16Gi"))

    assert cache(found, "20Gi").phase == Phase.RESIZE_REFUSED
    assert cache(found, "20Gi").message == (
        "storage.cacheSize 20Gi is refused, volume claim cache-files-0 stays at 5Gi: "
        "at most 16Gi; ask for 5Gi or more, and less than 20Gi"
    )


def test_a_driver_that_gave_up_without_a_word_is_named() -> None:
    found = live_state(claim("5Gi", "20Gi", ours=True, infeasible_size="20Gi"))
    assert "the driver of volume claim cache-files-0 gave it up" in cache(found, "20Gi").message


def test_what_the_driver_gave_up_is_no_verdict_on_another_size() -> None:
    found = live_state(claim("5Gi", "16Gi", ours=True, infeasible_size="20Gi", resize_error="at most 16Gi"))
    assert cache(found, "16Gi").phase == Phase.RESIZING
    assert step(found, cacheSize="20Gi") == ChangeClaims({"cache-files-0": "20Gi"})


@pytest.mark.parametrize(("size", "request_"), [("16Gi", "16Gi"), ("5Gi", str(5 * 2**30 + 1))])
def test_a_growth_is_taken_back_as_far_as_the_api_server_allows(size: str, request_: str) -> None:
    found = live_state(claim("5Gi", "20Gi", ours=True, infeasible_size="20Gi"), stateful_set=live(cacheSize="20Gi"))
    assert step(found, cacheSize=size) == ChangeClaims({"cache-files-0": request_})
    after = live_state(claim("5Gi", request_, ours=True), stateful_set=live(cacheSize="20Gi"))
    assert sizes_made(after, cacheSize=size)["cache"] == size


def test_a_growth_that_is_taken_back_altogether_leaves_nothing_to_complain_of() -> None:
    found = cache(live_state(claim("5Gi", str(5 * 2**30 + 1), ours=True, infeasible_size="20Gi")), "5Gi")
    assert (found.phase, found.message, found.larger) == (Phase.BOUND, "", False)


def test_a_growth_that_cannot_be_taken_back_is_told_of() -> None:
    """As by an API server before 1.34."""
    found = live_state(claim("5Gi", "20Gi", ours=True), refused={"cache-files-0": "forbidden: less than before"})

    assert cache(found, "5Gi").phase == Phase.BOUND
    assert cache(found, "5Gi").message == "volume claim cache-files-0 still asks for 20Gi: forbidden: less than before"
    assert cache(found, "8Gi").phase == Phase.RESIZING
    assert step(found) is None


@pytest.mark.parametrize("found", [claim("20Gi"), claim("5Gi", "20Gi"), claim("20Gi", ours=True)])
def test_a_claim_that_others_let_grow_is_left_as_it_is_and_told_of(found: Claim) -> None:
    state = cache(live_state(found), "5Gi")
    assert (state.phase, state.request, state.larger) == (Phase.BOUND, None, True)
    assert state.message == "volume claim cache-files-0 asks for 20Gi, more than storage.cacheSize 5Gi; it stays so"
    assert step(live_state(found)) is None


def test_a_size_between_what_there_is_and_what_others_asked_for_waits_for_theirs() -> None:
    state = cache(live_state(claim("5Gi", "20Gi")), "10Gi")
    assert (state.phase, state.request) == (Phase.RESIZING, None)


@pytest.fixture
def pending() -> LiveState:
    """The volume of the cache has grown, its file system has not."""
    grown = claim("5Gi", "10Gi", ours=True, waits_for_pod_since=SINCE)
    return live_state(grown, stateful_set=live(cacheSize="10Gi"), patience=REQUEST_TIMEOUT_SECONDS)


def test_a_file_system_has_time_to_grow_while_it_is_in_use(pending: LiveState) -> None:
    assert cache(pending, "10Gi").phase == Phase.FILE_SYSTEM_RESIZE_PENDING
    assert later(pending, 119) is None
    assert restart_due(wanting(cacheSize="10Gi"), pending) == NOON + REQUEST_TIMEOUT_SECONDS


def test_after_that_the_pod_is_restarted(pending: LiveState) -> None:
    why = "the file system of volume claim cache-files-0 cannot grow while it is in use"
    assert later(pending, 120) == RestartPod(POD, why)


def test_a_pod_that_was_made_since_is_not_restarted_again(pending: LiveState) -> None:
    renewed = replace(pending, pod={**POD, "metadata": {**POD["metadata"], "creationTimestamp": AFTER}})
    assert later(renewed, 1200) is None
    assert restart_due(wanting(cacheSize="10Gi"), renewed) is None


def test_a_pod_that_is_being_deleted_is_not_deleted_again(pending: LiveState) -> None:
    leaving = replace(pending, pod={**POD, "metadata": {**POD["metadata"], "deletionTimestamp": AFTER}})
    assert later(leaving, 120) is None


def test_a_user_can_forbid_the_restart_and_is_told_what_to_do(pending: LiveState) -> None:
    forbidden = replace(pending, may_restart=False)

    assert later(forbidden, 120) is None
    assert RESTART_FOR_RESIZE in cache(forbidden, "10Gi").message
    assert not may_restart({"metadata": {"annotations": {RESTART_FOR_RESIZE: "never"}}})
    assert may_restart({"metadata": {"annotations": {RESTART_FOR_RESIZE: "always"}}})
    assert may_restart({"metadata": {}})


def test_without_a_pod_the_file_system_grows_with_the_next_one(pending: LiveState) -> None:
    stopped = replace(pending, pod=None)
    assert later(stopped, 120) is None
    assert cache(stopped, "10Gi").message.endswith("that follows when a pod uses it")


def test_a_volume_that_is_added_comes_into_the_templates_in_their_order() -> None:
    found = live_state(claim())
    assert list(sizes_made(found, contentSize="50Gi")) == ["metadata", "content", "cache"]
    content = volume_states(wanting(contentSize="50Gi"), found)[1]
    assert (content.phase, content.restarts) == (Phase.PENDING, True)


def test_the_pod_restarts_for_a_volume_that_was_added_once_it_is_to_mount_it() -> None:
    added = live(contentSize="50Gi")
    found = live_state(claim(), stateful_set=added)
    why = "volume content was added, and the volumes of a pod cannot change"

    assert step(found, contentSize="50Gi") == RestartPod(POD, why)

    has_it = {**POD, "spec": {"volumes": [{"name": "metadata"}, {"name": "content"}, {"name": "cache"}]}}

    assert step(replace(found, pod=has_it), contentSize="50Gi") is None

    unmounted = live()
    unmounted["spec"]["volumeClaimTemplates"] = claim_templates(wanting(contentSize="50Gi").spec)

    assert step(live_state(claim(), stateful_set=unmounted), contentSize="50Gi") is None


def test_a_pod_that_waits_for_a_person_is_not_restarted_for_a_volume() -> None:
    added = live(contentSize="50Gi")
    added["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert step(live_state(claim(), stateful_set=added), contentSize="50Gi") is None


def test_a_new_server_restarts_nothing() -> None:
    found = LiveState(classes=CLASSES)
    assert not any(state.restarts for state in volume_states(wanting(contentSize="50Gi"), found))
    assert step(found, contentSize="50Gi") is None


def test_templates_in_another_order_or_more_of_them_are_no_reason_to_make_it_again() -> None:
    has_it = {**POD, "spec": {"volumes": [{"name": "metadata"}, {"name": "content"}, {"name": "cache"}]}}
    adopted = live(contentSize="50Gi")
    adopted["spec"]["volumeClaimTemplates"].reverse()
    assert step(live_state(claim(), stateful_set=adopted, pod=has_it)) is None
