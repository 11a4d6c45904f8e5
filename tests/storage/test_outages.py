from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.storage.events import Event
from app.storage.outages import (
    MAX_FAILURES,
    PROGRESS,
    failures_after,
    failures_before,
    outage_events,
    recovery_events,
)
from app.storage.reasons import REASONS

NOON = datetime(2026, 2, 1, 12, 0, tzinfo=UTC)
ENDPOINT = "NFS is served at files-file.here.svc:2049"


def condition(status: str, reason: str, message: str = "x", minutes: float = 0) -> dict[str, Any]:
    """Returns a condition that has its status since so many minutes after noon."""
    since = (NOON + timedelta(minutes=minutes)).isoformat()
    return {"status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def not_ready(reason: str, message: str = "x") -> dict[str, Any]:
    return {"Ready": condition("False", reason, message)}


def available(minutes: float = 0) -> dict[str, Any]:
    return {"Ready": condition("True", "Available", ENDPOINT, minutes)}


class Outage:
    """Follows the conditions of a server, and remembers what the reconciler remembers."""

    def __init__(self, *, was_ready: bool = True) -> None:
        self.was_ready = was_ready
        self.before: dict[str, Any] = available(-60) if was_ready else {}
        self.failures: tuple[Event, ...] = ()

    def turn(self, after: dict[str, Any]) -> list[Event]:
        failures = failures_before(self.before, self.failures)
        events = list(outage_events(self.before, after, failures, was_ready=self.was_ready))
        self.failures, self.before = failures_after(after, failures, events), after
        return events


def test_a_failure_and_its_end_are_an_event_each() -> None:
    outage = Outage()

    assert outage.turn(not_ready("CrashLoopBackOff", "exit code 1")) == [
        Event("Warning", "CrashLoopBackOff", "exit code 1")
    ]
    # The pod tries again.
    assert outage.turn(not_ready("PodStarting")) == []
    assert outage.turn(not_ready("CrashLoopBackOff", "exit code 1")) == []
    assert outage.turn(not_ready("PodStarting")) == []
    assert outage.turn(available(12)) == [
        Event("Normal", "Recovered", f"{ENDPOINT}, after about 10 minutes of CrashLoopBackOff")
    ]
    assert outage.failures == ()


def test_a_new_server_and_a_planned_restart_become_available() -> None:
    for outage in (Outage(was_ready=False), Outage()):
        assert outage.turn(not_ready("PodStarting")) == []
        assert outage.turn(available(1)) == [Event("Normal", "Available", ENDPOINT)]
        assert outage.turn(available(1)) == []


def test_a_long_outage_needs_no_known_failure() -> None:
    known, new = Outage(), Outage(was_ready=False)
    for outage in (known, new):
        outage.turn(not_ready("PodStarting"))

    assert known.turn(available(180)) == [Event("Normal", "Recovered", f"{ENDPOINT}, after about 3 hours")]
    assert new.turn(available(180)) == [Event("Normal", "Available", ENDPOINT)]


def test_a_stop_is_no_outage() -> None:
    outage = Outage()
    outage.turn({"Ready": condition("True", "Stopped")})
    outage.turn(not_ready("PodStarting"))

    assert outage.turn(available(1)) == [Event("Normal", "Available", ENDPOINT)]


def test_a_failure_is_not_announced_after_a_restart() -> None:
    outage = Outage()
    outage.turn(not_ready("Unhealthy"))
    outage.failures = ()

    assert outage.turn(not_ready("Unhealthy")) == []
    assert [event.message for event in outage.turn(available(3))] == [f"{ENDPOINT}, after about 3 minutes of Unhealthy"]


def test_an_outage_whose_end_another_replica_saw_is_over() -> None:
    failure = Event("Warning", "Unhealthy", "x")

    assert failures_before(available(), (failure,)) == failures_before({}, (failure,)) == ()
    assert failures_before(not_ready("PodStarting"), (failure,)) == (failure,)


def test_what_flaps_has_few_events() -> None:
    outage = Outage()
    events = [event for number in range(50) for event in outage.turn(not_ready("MountFailed", f"volume {number}"))]

    assert len(events) == MAX_FAILURES


def test_a_reason_of_others_is_not_taken_over() -> None:
    assert Outage().turn(not_ready("AnyWord", "evicted")) == [Event("Warning", "NotReady", "evicted")]


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("CredentialsReady", condition("False", "SecretNotFound"), condition("True", "Found", "every Secret", 3)),
        ("CredentialsReady", condition("Unknown", "SecretUnreadable"), condition("True", "Found", "every Secret", 3)),
        ("StorageReady", condition("False", "ClaimLost"), condition("True", "Bound", "every claim", 3)),
        ("StoresReady", condition("False", "StoreFailing"), condition("True", "Loaded", "2 shares", 3)),
        ("Stalled", condition("True", "RestartHeldBack"), condition("False", "Reconciled", "", 3)),
    ],
)
def test_a_condition_that_is_in_order_again_is_announced(kind: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    before, after = (of_conditions(**{kind: entry}) for entry in (bad, good))
    [event] = recovery_events(before, after)

    text = good["message"] or "nothing blocks the operator any more"
    assert event == Event("Normal", "Recovered", f"{text}, after about 3 minutes of {bad['reason']}")
    assert list(recovery_events(after, after)) == list(recovery_events({}, after)) == []


def of_conditions(**entries: Any) -> dict[str, Any]:
    return {**available(), "Reconciling": condition("False", "Reconciled"), **entries}


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("CredentialsReady", condition("Unknown", "NotRead"), condition("True", "Found")),
        ("StorageReady", condition("False", "ClaimPending"), condition("True", "Bound")),
        # The Event Resized says that.
        ("StorageReady", condition("False", "Resizing"), condition("True", "Bound")),
        ("Stalled", condition("True", "ResizeRefused"), condition("False", "Reconciled")),
        ("StoresReady", condition("False", "NoShare"), condition("True", "Loaded")),
        ("StoresReady", condition("Unknown", "ServerUnreachable"), condition("True", "Loaded")),
    ],
)
def test_what_was_no_failure_does_not_recover(kind: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert list(recovery_events(of_conditions(**{kind: before}), of_conditions(**{kind: after}))) == []


def test_a_cause_of_an_outage_ends_with_it() -> None:
    stalled = {"Stalled": condition("True", "NameTaken"), **not_ready("NameTaken")}

    assert (
        list(recovery_events(of_conditions(**stalled), of_conditions(Stalled=condition("False", "Reconciled")))) == []
    )


def test_a_pause_is_no_recovery() -> None:
    stalled = of_conditions(Stalled=condition("True", "RestartHeldBack"))
    paused = of_conditions(Stalled=condition("False", "Reconciled"), Reconciling=condition("True", "Paused"))

    assert list(recovery_events(stalled, paused)) == []


def test_a_status_with_any_text_for_a_time_does_no_harm() -> None:
    before = {"Ready": {**condition("False", "Unhealthy"), "lastTransitionTime": "noon"}}
    [event] = outage_events(before, available(), failures_before(before, ()), was_ready=True)

    assert event.message.endswith("after less than a minute of Unhealthy")


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.5, "less than a minute"),
        (1, "about 1 minute"),
        (9.9, "about 9 minutes"),
        (39, "about 30 minutes"),
        (119, "about 110 minutes"),
        (150, "about 2 hours"),
        (60 * 47, "about 47 hours"),
        (60 * 24 * 9, "about 9 days"),
    ],
)
def test_similar_outages_have_the_same_length(minutes: float, text: str) -> None:
    outage = Outage()
    outage.turn(not_ready("Unhealthy"))

    assert [event.message for event in outage.turn(available(minutes))] == [f"{ENDPOINT}, after {text} of Unhealthy"]


def test_the_reference_has_a_warning_for_each_failure() -> None:
    reasons = [reason for reason in REASONS if "Ready" in reason.conditions.split(", ")]

    assert {reason.name for reason in reasons if "Warning" not in reason.event} == {*PROGRESS}
