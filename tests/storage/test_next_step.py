from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from app.storage.next_step import Concern, Inspection, State, plain, remedy, sorted_concerns
from app.storage.operator_health import OperatorFailure
from app.storage.reasons import NORMAL, REASONS, Reason
from app.storage.unstructured import Manifest
from app.storage.usage import Usage
from app.storage.volumes import METADATA, Volume
from tests.harness.json_strategies import ANY_JSON

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
READY_POD: Manifest = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SERVES = ("Ready", "True", "Available", "NFS is served")


def ago(**duration: float) -> str:
    return (NOW - timedelta(**duration)).isoformat().replace("+00:00", "Z")


def condition(kind: str, status: str, reason: str, message: str = "why", since: str = "") -> Manifest:
    since = since or ago(hours=1)
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def inspect(*conditions: Manifest, pod: Manifest | None = READY_POD, **status: Any) -> Inspection:
    metadata = {"name": "files", "namespace": "media", "generation": 2, "creationTimestamp": ago(days=1)}
    manifest = {"metadata": metadata, "status": {"observedGeneration": 2, "conditions": list(conditions), **status}}
    return Inspection(manifest, NOW, pod, is_pod_known=True)


def first_concern(inspection: Inspection) -> Concern:
    return sorted_concerns(inspection)[0]


def state_and_reason(inspection: Inspection) -> tuple[State, str]:
    concern = first_concern(inspection)
    return concern.state, concern.reason


def may_be_wrong(reason: Reason) -> bool:
    return bool(reason.conditions) and (reason not in NORMAL or reason.name == "Paused")


@pytest.mark.parametrize(
    "reason", [reason for reason in REASONS if may_be_wrong(reason)], ids=lambda reason: reason.name
)
def test_each_reason_has_a_next_step(reason: Reason) -> None:
    step = remedy(reason.name, "media", "files")

    assert step.text == plain(reason.remedy) != "Nothing has to be done."
    assert step.text.isprintable()
    assert not set("`[{") & set(step.text + (step.command or ""))


def test_links_become_files_of_the_documentation() -> None:
    assert plain("[Recover](../how-to/recover-a-volume-claim.md) `it`") == (
        "Recover (docs/how-to/recover-a-volume-claim.md) it"
    )
    assert plain("[SECURITY.md](../../SECURITY.md)") == "SECURITY.md (SECURITY.md)"


def test_the_command_names_the_server() -> None:
    assert remedy("QuotaExceeded", "media", "files").command == "kubectl -n media describe resourcequotas"
    assert remedy("CrashLoopBackOff", "media", "files").command == "kubectl -n media logs files-0 --previous"


def test_no_name_becomes_part_of_the_shell() -> None:
    assert remedy("CrashLoopBackOff", "a; b", "$(c)").command == "kubectl -n 'a; b' logs '$(c)-0' --previous"


def test_a_reason_of_the_kubelet_has_a_next_step() -> None:
    assert remedy("Evicted", "media", "files").command == "kubectl -n media describe pod files-0"


def test_a_server_that_serves_needs_nothing() -> None:
    concern = first_concern(inspect(condition(*SERVES)))
    assert (concern.state, concern.step.text) == (State.READY, "Nothing has to be done.")


def test_a_stopped_server_can_be_started() -> None:
    concern = first_concern(inspect(condition("Ready", "True", "Stopped"), pod=None))
    assert (concern.state, concern.step.command) == (State.STOPPED, "kubectl -n media edit dittoserver files")


def test_what_needs_a_person_comes_first() -> None:
    ready, credentials = condition("Ready", "False", "QuotaExceeded"), condition("CredentialsReady", "False", "Lost")
    stalled = condition("Stalled", "True", "ResizeRefused")

    assert state_and_reason(inspect(ready, credentials, pod=None)) == (State.DOWN, "QuotaExceeded")
    assert state_and_reason(inspect(ready, stalled, pod=None)) == (State.DOWN, "ResizeRefused")
    assert state_and_reason(inspect(condition(*SERVES), stalled, credentials)) == (State.BLOCKED, "ResizeRefused")
    assert state_and_reason(inspect(condition(*SERVES), credentials)) == (State.DEGRADED, "Lost")


def test_a_pod_that_starts_is_no_failure_for_ten_minutes() -> None:
    young = condition("Ready", "False", "PodStarting", since=ago(minutes=9))
    old = condition("Ready", "False", "PodStarting", since=ago(minutes=10))

    assert first_concern(inspect(young)).state == State.WORKING
    assert first_concern(inspect(old)).state == State.DOWN


def test_what_is_in_progress_is_no_failure() -> None:
    resizing = condition("StorageReady", "False", "Resizing")
    assert state_and_reason(inspect(condition(*SERVES), resizing)) == (State.WORKING, "Resizing")

    rollout = condition("Reconciling", "True", "RollingOut")
    assert state_and_reason(inspect(condition(*SERVES), rollout)) == (State.WORKING, "RollingOut")


def test_a_paused_server_is_to_be_resumed() -> None:
    paused, stores = condition("Reconciling", "True", "Paused"), condition("StoresReady", "False", "StoreFailing")
    concern = first_concern(inspect(condition("Ready", "False", "ImagePullBackOff"), paused, pod=None))

    assert (concern.state, concern.reason) == (State.DOWN, "Paused")
    assert concern.step.command == "kubectl -n media annotate dittoserver files dittofs.io/paused-"
    assert state_and_reason(inspect(condition(*SERVES), paused)) == (State.PAUSED, "Paused")
    assert state_and_reason(inspect(condition(*SERVES), paused, stores)) == (State.DEGRADED, "StoreFailing")


def test_a_server_without_a_share_serves() -> None:
    stores = condition("StoresReady", "False", "NoShare")
    assert state_and_reason(inspect(condition(*SERVES), stores)) == (State.NOTICE, "NoShare")


def test_what_is_only_mentioned_is_a_notice() -> None:
    larger = condition("StorageReady", "True", "ClaimLarger")

    assert state_and_reason(inspect(condition(*SERVES), larger)) == (State.NOTICE, "ClaimLarger")
    assert state_and_reason(inspect(condition(*SERVES), pendingRollout="a")) == (State.NOTICE, "RolloutPending")
    assert state_and_reason(inspect(condition(*SERVES), ignoredFields=["a"])) == (State.NOTICE, "FieldsIgnored")


def test_a_failed_share_degrades_its_server() -> None:
    shares = [{"name": "a", "path": "/a", "phase": "Ready"}, {"name": "b", "path": "/b", "phase": "Failed"}]
    concern = first_concern(inspect(condition(*SERVES), shares=shares))

    assert (concern.state, concern.reason) == (State.DEGRADED, "ShareFailed")
    assert concern.message.startswith("share b: ")


def test_a_volume_that_is_nearly_full_degrades_its_server() -> None:
    volume = Volume(METADATA, "spec.storage.metadataSize", "10Gi", "/data/metadata")
    server = inspect(condition(*SERVES))
    below, at = ([(volume, Usage(percent, 100))] for percent in (89, 90))

    assert first_concern(Inspection(server.manifest, NOW, READY_POD, usages=below)).state == State.READY

    concern = first_concern(Inspection(server.manifest, NOW, READY_POD, usages=at))
    assert (concern.state, concern.reason) == (State.DEGRADED, "VolumeNearlyFull")
    assert concern.step.text == "Raise storage.metadataSize, or delete what nobody needs."


@pytest.mark.parametrize(("minutes", "state"), [(0.5, State.WORKING), (2, State.UNOBSERVED)])
def test_an_operator_that_does_not_look_is_reported(minutes: float, state: State) -> None:
    server = inspect(condition(*SERVES), observedGeneration=1)
    server.manifest["metadata"]["managedFields"] = [
        {"time": ago(days=2)},
        {"time": ago(minutes=minutes)},
        {"time": ago(seconds=1), "subresource": "status"},
    ]
    concern = first_concern(server)

    assert (concern.state, concern.reason, concern.since) == (state, "OperatorBehind", ago(minutes=minutes))


def test_a_server_that_nobody_looked_at_is_down() -> None:
    concern = first_concern(inspect(pod=None, observedGeneration=-1))

    assert (concern.state, concern.reason) == (State.DOWN, "OperatorBehind")
    assert concern.step.command == "kubectl get pods -A -l app.kubernetes.io/name=dittofs-operator"


def test_a_status_that_contradicts_the_pod_is_not_believed() -> None:
    for pod in (None, {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, {}):
        concern = first_concern(inspect(condition(*SERVES), pod=pod))
        assert (concern.state, concern.reason) == (State.DOWN, "OperatorBehind")

    unknown = Inspection(inspect(condition(*SERVES)).manifest, NOW)
    assert first_concern(unknown).state == State.READY


def test_a_pod_that_just_ended_is_no_reason_to_doubt() -> None:
    lost = {"type": "Ready", "status": "False", "lastTransitionTime": ago(seconds=10)}
    assert first_concern(inspect(condition(*SERVES), pod={"status": {"conditions": [lost]}})).state == State.WORKING


@pytest.mark.parametrize(
    ("used", "reason", "expected"),
    [
        (100, "CrashLoopBackOff", (State.DOWN, "VolumeFull")),
        (100, "Unhealthy", (State.DOWN, "VolumeFull")),
        (95, "CrashLoopBackOff", (State.DOWN, "CrashLoopBackOff")),
        (100, "NodeLost", (State.DOWN, "NodeLost")),
        (100, "Available", (State.DEGRADED, "VolumeFull")),
    ],
)
def test_a_full_volume_explains_a_crash(used: int, reason: str, expected: tuple[State, str]) -> None:
    ready = condition("Ready", "True" if reason == "Available" else "False", reason)
    inspection = replace(
        inspect(ready),
        usages=[(Volume(METADATA, "spec.storage.metadataSize", "10Gi", "/data/metadata"), Usage(used, 100))],
    )

    assert state_and_reason(inspection) == expected
    [full] = [concern for concern in sorted_concerns(inspection) if concern.reason.startswith("Volume")]
    assert full.step.text == "Raise storage.metadataSize, or delete what nobody needs."


def test_a_volume_that_cannot_grow_is_not_to_be_raised() -> None:
    usages = [(Volume(METADATA, "spec.storage.metadataSize", "10Gi", "/data/metadata"), Usage(100, 100))]
    concern = sorted_concerns(replace(inspect(condition(*SERVES)), usages=usages, fixed_volumes=["metadata"]))[0]

    assert (concern.reason, concern.step.command) == ("VolumeFull", None)
    assert concern.step.text.startswith("Delete what nobody needs")


def test_a_deleted_server_waits_for_its_finalizers() -> None:
    server = inspect(condition(*SERVES))
    server.manifest["metadata"]["deletionTimestamp"] = ago(minutes=5)
    assert first_concern(server).state == State.WORKING

    server.manifest["metadata"]["finalizers"] = ["example.com/keep"]
    concern = first_concern(server)

    assert concern.state == State.BLOCKED
    assert "example.com/keep" in concern.message


def test_a_worse_concern_hides_no_other_one() -> None:
    crash = condition("Ready", "False", "CrashLoopBackOff", "it ended with 1")
    again = condition("Reconciling", "True", "CrashLoopBackOff", "it ended with 1")
    server = inspect(crash, again, pendingRollout="labels", ignoredFields=["spec.x"])

    assert [(concern.state, concern.reason) for concern in sorted_concerns(server)] == [
        (State.DOWN, "CrashLoopBackOff"),
        (State.NOTICE, "RolloutPending"),
        (State.NOTICE, "FieldsIgnored"),
    ]


@pytest.mark.parametrize(
    ("failure", "ready", "expected"),
    [
        # An operator that does nothing may be why the status is as it is.
        ("OperatorDown", SERVES, (State.UNOBSERVED, "OperatorDown")),
        ("OperatorDown", ("Ready", "False", "NodeLost"), (State.DOWN, "OperatorDown")),
        # A spec that cannot be changed only matters first where the remedy is to change it.
        ("WebhookDown", SERVES, (State.BLOCKED, "WebhookDown")),
        ("WebhookDown", ("Ready", "False", "NodeLost"), (State.DOWN, "NodeLost")),
        ("WebhookDown", ("Ready", "False", "ImagePullBackOff"), (State.DOWN, "WebhookDown")),
        ("CertificateExpired", ("Ready", "False", "InvalidSpec"), (State.DOWN, "CertificateExpired")),
    ],
)
def test_the_operator_comes_first_if_the_remedy_needs_it(
    failure: str, ready: tuple[str, str, str], expected: tuple[State, str]
) -> None:
    of_operator = OperatorFailure(failure, "why", "what to do", "kubectl get pods")
    inspection = replace(inspect(condition(*ready)), failure=of_operator)

    assert state_and_reason(inspection) == expected


@given(ANY_JSON, ANY_JSON, ANY_JSON)
def test_no_status_is_too_odd_to_be_judged(status: Any, conditions: Any, shares: Any) -> None:
    for value in (status, {"conditions": conditions, "shares": shares}, {"conditions": [conditions]}):
        manifest = {"metadata": {"name": "files", "generation": 1}, "status": value}
        assert first_concern(Inspection(manifest, NOW))
