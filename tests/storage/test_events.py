from dataclasses import replace

import pytest

from app.storage.events import Event, share_events
from app.storage.facts import StorageClasses
from app.storage.pause import paused_problem
from app.storage.problem import Problem, Stage
from app.storage.unstructured import Manifest
from tests.harness.observations import (
    ENDPOINT,
    HOUR_AGO,
    INVALID_SPEC,
    LARGER_CACHE,
    NAME_TAKEN,
    PENDING,
    SECRET_NOT_FOUND,
    SERVICE_OUTDATED,
    WRITE_FAILED,
    dittoserver,
    events_of,
    growing,
    of_class,
    running,
    starting,
    status_of,
)


def test_another_class_is_reported_once() -> None:
    assert [event.reason for event in events_of(status_of(running()), of_class("slow"))] == ["StorageClassDiffers"]
    assert events_of(status_of(of_class("slow")), of_class("slow")) == []


def test_a_server_reports_once_that_it_is_available() -> None:
    available = Event("Normal", "Available", f"NFS is served at {ENDPOINT}")

    assert events_of(None, running()) == [available]
    assert events_of(status_of(starting()), running()) == [available]
    assert events_of(status_of(running()), running()) == []
    assert events_of(None, starting(claims={})) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problems": [NAME_TAKEN]}, "NameTaken"),
        ({"problems": [INVALID_SPEC]}, "InvalidSpec"),
        ({"problems": [SECRET_NOT_FOUND]}, "SecretNotFound"),
        ({"problems": [Problem("SecretUnreadable", "x", Stage.CREDENTIALS)]}, "SecretUnreadable"),
        ({"claims": {"metadata-files-0": replace(PENDING, created=HOUR_AGO)}}, "ClaimOverdue"),
        ({"claims": {"metadata-files-0": replace(PENDING, phase="Lost")}}, "ClaimLost"),
        ({"classes": StorageClasses(), "claims": {}}, "StorageClassNotFound"),
    ],
)
def test_each_problem_is_reported_once(changes: Manifest, reason: str) -> None:
    observation = starting(**changes)
    before = status_of(starting())

    assert [(event.type, event.reason) for event in events_of(before, observation)] == [("Warning", reason)]
    assert events_of(status_of(observation), observation) == []


def test_a_new_message_is_reported_again() -> None:
    one, other = (
        starting(problems=[Problem("SecretNotFound", message, Stage.CREDENTIALS)]) for message in ("one", "other")
    )

    assert [event.message for event in events_of(status_of(one), other)] == ["other"]


def test_only_a_rejected_expansion_is_reported() -> None:
    refused = growing(infeasible_size="10Gi", resize_error="at most 8Gi")
    before = status_of(growing(), dittoserver(**LARGER_CACHE))

    assert [event.reason for event in events_of(before, refused, dittoserver(**LARGER_CACHE))] == ["ResizeRefused"]
    assert events_of(status_of(running()), growing(), dittoserver(**LARGER_CACHE)) == []


def test_a_finished_expansion_is_reported() -> None:
    grown = growing(capacity="10Gi")
    before = status_of(growing(), dittoserver(**LARGER_CACHE))

    resized = Event("Normal", "Resized", "every volume has the size that the spec asks for: metadata 10Gi, cache 10Gi")

    assert resized in events_of(before, grown, dittoserver(**LARGER_CACHE))


def test_a_share_that_fails_or_leaves_the_spec_is_told_once() -> None:
    ready, failed = {"name": "a", "phase": "Ready"}, {"name": "a", "phase": "Failed", "message": "no"}
    retained = {"name": "a", "phase": "Retained", "message": "kept"}

    assert [event.reason for event in share_events({}, {"shares": [failed]})] == ["ShareFailed"]
    assert [event.reason for event in share_events({"shares": [ready]}, {"shares": [retained]})] == ["ShareRetained"]
    assert [event.reason for event in share_events({"shares": [failed]}, {"shares": [ready]})] == ["Recovered"]
    for entry in (ready, failed, retained):
        assert list(share_events({"shares": [entry]}, {"shares": [entry]})) == []
    assert list(share_events({"shares": [ready]}, {})) == []


def test_a_pause_and_its_end_are_reported_once() -> None:
    paused, works = running(is_paused=True), running()

    assert [event.reason for event in events_of(status_of(works), paused)] == ["Paused"]
    assert events_of(status_of(paused), paused) == []
    assert [event.reason for event in events_of(status_of(paused), works)] == ["Resumed"]


def test_the_pause_of_a_server_without_its_secrets_is_no_warning_as_well() -> None:
    new = starting(is_paused=True, problems=[paused_problem("files", "here", Stage.CREDENTIALS)])

    assert [(event.type, event.reason) for event in events_of(None, new)] == [("Normal", "Paused")]


@pytest.mark.parametrize("problem", [WRITE_FAILED, SERVICE_OUTDATED])
def test_what_cannot_be_written_is_reported_once(problem: Problem) -> None:
    failed = running(problems=[problem])

    assert events_of(status_of(running()), failed) == [Event("Warning", problem.reason, problem.message)]
    assert events_of(status_of(failed), failed) == []
