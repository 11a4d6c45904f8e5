from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.storage.facts import Claim
from app.storage.live import LiveState
from app.storage.objects import Owner, claim_templates
from app.storage.resize import (
    ALLOW_DATA_LOSS,
    ChangeClaims,
    HoldPod,
    RecreateStatefulSet,
    ReleasePod,
    RemoveStatefulSet,
    RestartPod,
    field_owners,
    initial_templates,
    may_lose_data,
    may_restart,
    restart_due,
    restart_hold,
)
from app.storage.restart_cause import Restart, RestartCause
from app.storage.unstructured import Manifest
from app.storage.volume_states import RESTART_FOR_RESIZE, Phase, volume_states
from tests.harness.live_volumes import (
    AFTER,
    BEFORE,
    CLASSES,
    FIELD_OWNERS,
    NOON,
    POD,
    cache_claim,
    cache_state,
    live_stateful_set,
    live_with,
    mounting,
    server_with,
    step,
)

SINCE = "2026-02-01T12:00:00Z"
PATIENCE = timedelta(minutes=2)


def later(live: LiveState, seconds: int) -> Any:
    """Returns the step when the file system of the cache, desired with 10Gi, has been waiting for so long."""
    return step(live, NOON + timedelta(seconds=seconds), cacheSize="10Gi")


def template_sizes(stateful_set: Mapping[str, Any]) -> dict[str, str]:
    templates = stateful_set["spec"]["volumeClaimTemplates"]
    return {
        template["metadata"]["name"]: template["spec"]["resources"]["requests"]["storage"] for template in templates
    }


def test_a_volume_of_the_right_size_needs_nothing() -> None:
    assert step(live_with(cache_claim())) is None

    state = cache_state(live_with(cache_claim()), "5Gi")

    assert (state.claim, state.phase, state.message) == (cache_claim(), Phase.BOUND, "")
    assert (state.request, state.larger) == (None, False)


@pytest.mark.parametrize(
    ("capacity", "size"), [("5Gi", "5120Mi"), ("5368709120", "5Gi"), ("1Ti", "1024Gi"), ("6Gi", "6144Mi")]
)
def test_sizes_are_compared_as_amounts_and_not_as_text(capacity: str, size: str) -> None:
    live = live_with(cache_claim(capacity), stateful_set=live_stateful_set(cacheSize=size))

    assert step(live, cacheSize=size) is None


def test_6g_is_less_than_6gi() -> None:
    assert step(live_with(cache_claim("6G")), cacheSize="6Gi") == ChangeClaims({"cache-files-0": "6Gi"})


def test_a_size_that_a_driver_rounded_up_is_enough() -> None:
    live = live_with(cache_claim("8Gi", "5Gi"))

    assert cache_state(live, "5Gi").message == ""
    assert cache_state(live, "8Gi").request is None
    assert recreated_sizes(live, cacheSize="8Gi")["cache"] == "8Gi"


def recreated_sizes(live: LiveState, **wanted: str) -> dict[str, str]:
    """Returns the sizes that the StatefulSet is recreated with."""
    assert isinstance(step(live, **wanted), HoldPod)
    again = step(replace(live, stateful_set=None, removed=live.stateful_set), **wanted)

    assert isinstance(again, RecreateStatefulSet)
    return template_sizes(again.stateful_set)


def test_claims_are_changed_before_the_statefulset() -> None:
    live = live_with(cache_claim())
    wanted = {"metadataSize": "20Gi", "cacheSize": "10Gi"}

    assert step(live, **wanted) == ChangeClaims({"metadata-files-0": "20Gi", "cache-files-0": "10Gi"})

    one_is_done = live_with(cache_claim("5Gi", "10Gi"))

    assert step(one_is_done, **wanted) == ChangeClaims({"metadata-files-0": "20Gi"})


KEPT = Claim("controlplane-files-0", "slow", "2Gi", "Bound", "2Gi")


def test_the_template_of_a_kept_database_comes_last() -> None:
    templates = initial_templates(server_with(), LiveState(claims={KEPT.name: KEPT}, classes=CLASSES))

    assert [template["metadata"]["name"] for template in templates] == ["metadata", "cache", "controlplane"]
    assert templates[-1]["spec"]["storageClassName"] == "slow"


def of_the_go_operator() -> Manifest:
    """Returns a StatefulSet with the volumes that the Go operator creates from 0.18 on."""
    live = live_stateful_set()
    templates = live["spec"]["volumeClaimTemplates"]
    database = {**templates[0], "metadata": {"name": "controlplane"}}
    live["spec"]["volumeClaimTemplates"] = [templates[0], database]
    mount = {"name": "controlplane", "mountPath": "/data/controlplane"}
    live["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [mount]
    return live


def test_a_cache_is_added_beside_a_kept_database() -> None:
    live = live_with(KEPT, stateful_set=of_the_go_operator())

    assert step(live) == HoldPod(POD, adds_volumes=True)
    assert recreated_sizes(live) == {"metadata": "10Gi", "cache": "5Gi", "controlplane": "10Gi"}


def test_a_kept_database_of_another_size_changes_no_template() -> None:
    live = of_the_go_operator()
    cache = claim_templates(server_with().spec)[-1]
    live["spec"]["volumeClaimTemplates"].insert(1, cache)

    pod = mounting("metadata-files-0", "cache-files-0", KEPT.name)

    assert step(live_with(KEPT, cache_claim(), stateful_set=live, pod=pod)) is None


def test_a_pod_is_held_when_its_database_would_go_with_it() -> None:
    leaving = replace(KEPT, terminating=True)
    pod = mounting("metadata-files-0", KEPT.name)
    live = live_with(leaving, stateful_set=of_the_go_operator(), pod=pod)

    assert "volume claim controlplane-files-0 is being deleted" in (restart_hold(server_with(), live) or "")


HELD: Manifest = {
    **POD,
    "metadata": {**POD["metadata"], "ownerReferences": [*POD["metadata"]["ownerReferences"], {"uid": "u"}]},
}


def test_the_statefulset_is_recreated_around_its_pod() -> None:
    grown = live_with(cache_claim("5Gi", "10Gi", ours=True))
    wanted = {"cacheSize": "10Gi"}

    assert step(grown, **wanted) == HoldPod(POD)

    held = replace(grown, pod=HELD)

    assert step(held, **wanted) == RemoveStatefulSet(live_stateful_set())

    removed = replace(held, stateful_set=None, removed=live_stateful_set())
    again = step(removed, **wanted)

    assert isinstance(again, RecreateStatefulSet)
    assert again.stateful_set["metadata"].keys() == {"name", "namespace", "labels", "ownerReferences"}
    assert (
        field_owners({**live_stateful_set(), "metadata": {"managedFields": [*FIELD_OWNERS, {"subresource": "status"}]}})
        == FIELD_OWNERS
    )

    back = replace(held, stateful_set=live_stateful_set(cacheSize="10Gi"))

    assert step(back, **wanted) == ReleasePod(HELD)
    assert step(replace(back, pod=POD), **wanted) is None


def test_without_a_pod_there_is_nothing_to_hold() -> None:
    stopped = live_with(cache_claim("5Gi", "10Gi", ours=True), pod=None)

    assert step(stopped, cacheSize="10Gi") == RemoveStatefulSet(live_stateful_set())


def test_a_statefulset_of_another_is_not_recreated() -> None:
    """Removed for a server of the same name that has been deleted since."""
    removed = live_stateful_set()
    removed["metadata"]["ownerReferences"] = [Owner("files", "here", "former").reference]

    assert step(live_with(cache_claim(), stateful_set=None, removed=removed), cacheSize="10Gi") is None


def test_a_pod_of_another_is_left_alone(pending: LiveState) -> None:
    another = {**POD, "metadata": {**POD["metadata"], "ownerReferences": [{"controller": True, "uid": "other"}]}}

    assert step(live_with(cache_claim("5Gi", "10Gi"), pod=another), cacheSize="10Gi") == RemoveStatefulSet(
        live_stateful_set()
    )
    assert later(replace(pending, pod=another), 120) is None


def test_an_orphan_pod_is_not_another_s() -> None:
    orphan = {**POD, "metadata": {"creationTimestamp": BEFORE}}

    assert step(live_with(cache_claim("5Gi", "10Gi"), pod=orphan), cacheSize="10Gi") == HoldPod(orphan)


def test_a_recreated_statefulset_only_has_new_templates() -> None:
    removed = live_stateful_set()
    removed["metadata"]["annotations"] = {"example.com/by": "another"}
    removed["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "noon"
    removed["spec"]["updateStrategy"] = {"type": "OnDelete"}
    again = step(live_with(cache_claim("5Gi", "10Gi"), stateful_set=None, removed=removed), cacheSize="10Gi")

    assert isinstance(again, RecreateStatefulSet)
    assert {**again.stateful_set["spec"], "volumeClaimTemplates": []} == {**removed["spec"], "volumeClaimTemplates": []}
    assert again.stateful_set["metadata"]["annotations"] == {"example.com/by": "another"}


def test_a_terminating_statefulset_is_left_alone() -> None:
    leaving = live_stateful_set()
    leaving["metadata"]["deletionTimestamp"] = BEFORE

    assert step(live_with(cache_claim(), stateful_set=leaving), cacheSize="10Gi") is None


def test_only_what_the_operator_removed_is_recreated() -> None:
    assert step(live_with(cache_claim(), stateful_set=None), cacheSize="10Gi") is None


def test_an_unbound_claim_is_left_alone() -> None:
    pending = Claim("cache-files-0", "fast", requested="5Gi")

    assert step(live_with(pending), cacheSize="10Gi") is None
    assert cache_state(live_with(pending), "10Gi").phase == Phase.PENDING

    lost = cache_claim(phase="Lost")

    assert step(live_with(lost), cacheSize="10Gi") is None
    assert cache_state(live_with(lost), "10Gi").phase == Phase.LOST


def test_the_template_of_an_unobserved_claim_stays() -> None:
    missing = live_with()
    unknown = live_with(claims_gap="forbidden: no")
    stopped = live_with(
        stateful_set={**live_stateful_set(), "spec": {**live_stateful_set()["spec"], "replicas": 0}}, pod=None
    )

    assert [step(live, cacheSize="10Gi") for live in (missing, unknown, stopped)] == [None] * 3


USED = mounting("metadata-files-0", "cache-files-0")


@pytest.mark.parametrize(
    "held",
    [live_with(cache_claim(terminating=True), pod=USED), live_with(pod=USED)],
    ids=["terminating", "missing"],
)
def test_no_restart_while_a_claim_would_be_lost(held: LiveState) -> None:
    assert "cache-files-0" in (restart_hold(server_with(), held) or "")

    leaving = mounting("cache-files-0", deletionTimestamp=AFTER)
    unused = mounting("metadata-files-0")
    for change in ({"pod": None}, {"pod": leaving}, {"pod": unused}, {"may_lose_data": True}):
        assert restart_hold(server_with(), replace(held, **change)) is None


@pytest.mark.parametrize("other", [cache_claim(), cache_claim(phase="Pending", capacity=""), cache_claim(phase="Lost")])
def test_other_claims_hold_no_restart(other: Claim) -> None:
    assert restart_hold(server_with(), live_with(other, pod=USED)) is None
    assert restart_hold(server_with(), live_with(pod=USED, claims_gap="forbidden")) is None


def test_only_the_owner_allows_data_to_be_lost() -> None:
    assert may_lose_data({"metadata": {"annotations": {ALLOW_DATA_LOSS: "true"}}})
    assert not may_lose_data({"metadata": {"annotations": {ALLOW_DATA_LOSS: "yes"}}})
    assert not may_lose_data({"metadata": {}})


def test_a_new_statefulset_keeps_the_sizes_of_claims() -> None:
    """As when the operator was interrupted after it had removed the StatefulSet."""
    fixed = live_with(cache_claim(storage_class="fixed"), stateful_set=None)
    resizing = live_with(cache_claim("5Gi", "10Gi"), stateful_set=None)
    pending = live_with(Claim("cache-files-0", "fast", requested="7Gi"), stateful_set=None)

    created = [initial_templates(server_with(cacheSize="10Gi"), live) for live in (fixed, resizing, pending)]
    requests = [templates[-1]["spec"]["resources"]["requests"]["storage"] for templates in created]

    assert requests == ["5Gi", "10Gi", "7Gi"]


def test_a_rejected_claim_holds_up_no_other() -> None:
    live = live_with(cache_claim(storage_class="fixed"))
    wanted = {"metadataSize": "20Gi", "cacheSize": "10Gi"}

    assert step(live, **wanted) == ChangeClaims({"metadata-files-0": "20Gi"})

    grown = Claim("metadata-files-0", "fast", "20Gi", "Bound", "20Gi")

    assert recreated_sizes(live_with(cache_claim(storage_class="fixed"), grown), **wanted) == {
        "metadata": "20Gi",
        "cache": "5Gi",
    }


@pytest.mark.parametrize(("size", "request_"), [("16Gi", "16Gi"), ("5Gi", str(5 * 2**30 + 1))])
def test_an_expansion_is_taken_back_as_far_as_possible(size: str, request_: str) -> None:
    live = live_with(
        cache_claim("5Gi", "20Gi", ours=True, infeasible_size="20Gi"), stateful_set=live_stateful_set(cacheSize="20Gi")
    )

    assert step(live, cacheSize=size) == ChangeClaims({"cache-files-0": request_})

    after = live_with(cache_claim("5Gi", request_, ours=True), stateful_set=live_stateful_set(cacheSize="20Gi"))

    assert recreated_sizes(after, cacheSize=size)["cache"] == size


@pytest.fixture
def pending() -> LiveState:
    """The volume of the cache has grown, its file system has not."""
    grown = cache_claim("5Gi", "10Gi", ours=True, waits_for_pod_since=SINCE)
    return live_with(grown, stateful_set=live_stateful_set(cacheSize="10Gi"), patience=PATIENCE)


def test_a_file_system_has_time_to_grow_online(pending: LiveState) -> None:
    assert cache_state(pending, "10Gi").phase == Phase.FILE_SYSTEM_RESIZE_PENDING
    assert later(pending, 119) is None
    assert restart_due(volume_states(server_with(cacheSize="10Gi"), pending), pending) == NOON + PATIENCE


def test_after_that_the_pod_is_restarted(pending: LiveState) -> None:
    why = "the file system of volume claim cache-files-0 cannot grow while it is in use"

    assert later(pending, 120) == RestartPod(POD, Restart(RestartCause.VOLUMES, why))


def test_a_newer_pod_is_not_restarted_again(pending: LiveState) -> None:
    renewed = replace(pending, pod={**POD, "metadata": {**POD["metadata"], "creationTimestamp": AFTER}})

    assert later(renewed, 1200) is None
    assert restart_due(volume_states(server_with(cacheSize="10Gi"), renewed), renewed) is None


def test_a_terminating_pod_is_not_deleted_again(pending: LiveState) -> None:
    leaving = replace(pending, pod={**POD, "metadata": {**POD["metadata"], "deletionTimestamp": AFTER}})

    assert later(leaving, 120) is None


def test_a_user_can_forbid_the_restart(pending: LiveState) -> None:
    forbidden = replace(pending, may_restart=False)

    assert later(forbidden, 120) is None
    assert RESTART_FOR_RESIZE in cache_state(forbidden, "10Gi").message
    assert not may_restart({"metadata": {"annotations": {RESTART_FOR_RESIZE: "never"}}})
    assert may_restart({"metadata": {"annotations": {RESTART_FOR_RESIZE: "always"}}})
    assert may_restart({"metadata": {}})


def test_without_a_pod_the_next_one_grows_the_volume(pending: LiveState) -> None:
    stopped = replace(pending, pod=None)

    assert later(stopped, 120) is None
    assert cache_state(stopped, "10Gi").message.endswith("it grows as soon as a pod uses the volume")


def test_an_added_volume_keeps_the_order_of_templates() -> None:
    live = live_with(cache_claim())

    assert list(recreated_sizes(live, contentSize="50Gi")) == ["metadata", "content", "cache"]

    content = volume_states(server_with(contentSize="50Gi"), live)[1]

    assert content.phase == Phase.PENDING


def test_the_pod_restarts_to_mount_an_added_volume() -> None:
    added = live_stateful_set(contentSize="50Gi")
    live = live_with(cache_claim(), stateful_set=added)
    why = "volume content was added, and the volumes of a pod cannot change"

    assert step(live, contentSize="50Gi") == RestartPod(POD, Restart(RestartCause.VOLUMES, why))

    has_it = {**POD, "spec": {"volumes": [{"name": "metadata"}, {"name": "content"}, {"name": "cache"}]}}

    assert step(replace(live, pod=has_it), contentSize="50Gi") is None

    unmounted = live_stateful_set()
    unmounted["spec"]["volumeClaimTemplates"] = claim_templates(server_with(contentSize="50Gi").spec)

    assert step(live_with(cache_claim(), stateful_set=unmounted), contentSize="50Gi") is None


def test_a_pod_updated_by_hand_is_not_restarted() -> None:
    added = live_stateful_set(contentSize="50Gi")
    added["spec"]["updateStrategy"] = {"type": "OnDelete"}

    assert step(live_with(cache_claim(), stateful_set=added), contentSize="50Gi") is None


def test_a_new_server_restarts_nothing() -> None:
    live = LiveState(classes=CLASSES)

    assert step(live, contentSize="50Gi") is None


def test_other_or_reordered_templates_recreate_nothing() -> None:
    has_it = {**POD, "spec": {"volumes": [{"name": "metadata"}, {"name": "content"}, {"name": "cache"}]}}
    adopted = live_stateful_set(contentSize="50Gi")
    adopted["spec"]["volumeClaimTemplates"].reverse()

    assert step(live_with(cache_claim(), stateful_set=adopted, pod=has_it)) is None
