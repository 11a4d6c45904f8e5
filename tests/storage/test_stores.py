from dataclasses import replace
from typing import Any

import pytest

from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.server_health import Family, ServerHealth
from app.storage.status import CONDITIONS
from app.storage.status_schema import ServerStatus
from app.storage.stores import observe_server, stores_ready
from tests.harness.observations import (
    LATER,
    MINUTE_AGO,
    altered,
    condition,
    dittoserver,
    events_of,
    reasons,
    running,
    starting,
    status_of,
)
from tests.harness.recorded_health import STARTED_AT

LEGACY = ServerHealth(Family.LEGACY, STARTED_AT, 2)
CURRENT = ServerHealth(Family.CURRENT, STARTED_AT, 1, version="0.29.0")


def verdict(health: ServerHealth, **spec: Any) -> tuple[str, str, str]:
    decided = condition("StoresReady", running(health=health), dittoserver(**spec))
    return decided["status"], decided["reason"], decided["message"]


def test_shares_that_are_loaded_are_counted() -> None:
    assert verdict(LEGACY) == ("True", "Loaded", "2 shares are loaded, and no store fails")
    assert verdict(CURRENT) == ("True", "Loaded", "1 share is loaded, and no store fails")


def test_what_a_server_does_not_report_is_not_claimed() -> None:
    """Without its metrics, a server from 0.13 on says nothing about S3."""
    status, reason, message = verdict(replace(CURRENT, reports_stores=False))

    assert (status, reason) == ("True", "Loaded")
    assert "no store fails" not in message
    assert "with metrics.enabled" in message


@pytest.mark.parametrize(
    ("family", "version", "tool"),
    [
        (Family.LEGACY, None, "dittofsctl"),
        (Family.LEGACY, "0.4.2", "dittofsctl"),
        (Family.LEGACY, "0.8.3", "dfsctl"),
        (Family.CURRENT, None, "dfsctl"),
    ],
)
def test_without_a_share_the_next_command_is_named(family: Family, version: str | None, tool: str) -> None:
    health = ServerHealth(family, STARTED_AT, 0, version=version)

    status, reason, message = verdict(health, controlPlane={"port": 8090})

    assert (status, reason) == ("False", "NoShare")
    assert "list one in spec.shares" in message
    assert "kubectl port-forward -n here service/files-api 8080:8090" in message
    assert f"{tool} share create --help" in message


def test_shares_of_the_spec_are_referred_to() -> None:
    _, reason, message = verdict(ServerHealth(Family.CURRENT, STARTED_AT, 0), shares=[{"name": "media"}])

    assert (reason, message) == ("NoShare", "the server has loaded none of spec.shares yet; status.shares says why")


def test_every_store_that_fails_is_named() -> None:
    health = ServerHealth(Family.LEGACY, STARTED_AT, 0, ("S3 rejects the credentials: 403", "metadata store x fails"))

    assert verdict(health) == ("False", "StoreFailing", "S3 rejects the credentials: 403; metadata store x fails")


def test_an_unknown_number_of_shares_is_unknown() -> None:
    assert verdict(ServerHealth(Family.LEGACY, STARTED_AT))[:2] == ("Unknown", "NotReported")


def test_a_server_that_does_not_answer_is_unknown_and_ready() -> None:
    observation = running(unanswered="no answer to GET /health within 5 s")
    decided = condition("StoresReady", observation)

    assert (decided["status"], decided["reason"]) == ("Unknown", "ServerUnreachable")
    assert "no answer to GET /health within 5 s" in decided["message"]
    assert "port 8080" in decided["message"]
    assert reasons(observation)["Ready"] == ("True", "Available")


def test_a_server_without_a_ready_pod_is_not_asked() -> None:
    assert reasons(starting())["StoresReady"] == ("Unknown", "NotRunning")
    assert reasons(altered(running(), pod=None))["StoresReady"] == ("Unknown", "NotRunning")
    assert reasons(running(health=LEGACY), dittoserver(replicas=0))["StoresReady"] == ("Unknown", "Stopped")


def test_the_first_status_has_every_condition() -> None:
    """Also where the pod was ready before the operator wrote anything."""
    assert reasons(running())["StoresReady"] == ("Unknown", "NotRunning")
    assert [condition["type"] for condition in status_of(running())["conditions"]] == [*CONDITIONS]


def test_ready_does_not_depend_on_stores() -> None:
    failing = running(health=ServerHealth(Family.LEGACY, STARTED_AT, 1, ("S3 rejects the credentials: 403",)))
    assert {**reasons(failing), "StoresReady": None} == {**reasons(running()), "StoresReady": None}


def test_before_anybody_has_asked_nothing_changes() -> None:
    """An operator that starts writes no status, neither for servers of before this condition nor for others."""
    assert stores_ready(read(dittoserver()).server, LiveState(pod=running().live.pod)) is None

    first = status_of(running())
    before = [condition for condition in first["conditions"] if condition["type"] != "StoresReady"]
    without = first | {"conditions": before}
    assert status_of(running(), dittoserver(without), LATER) == without
    assert "server" not in without

    known = status_of(running(health=CURRENT))
    after = status_of(running(server=ServerStatus.read({"status": known})), dittoserver(known), LATER)
    assert after == known


def test_an_answer_changes_the_status_once() -> None:
    known = status_of(running(health=CURRENT))
    again = status_of(running(health=CURRENT, server=ServerStatus.read({"status": known})), dittoserver(known), LATER)

    assert again == known


def test_what_the_server_reports_is_in_the_status() -> None:
    status = status_of(running(health=CURRENT))
    expected = {"family": "Current", "version": "0.29.0", "startedAt": STARTED_AT, "shares": 1}

    assert status["server"] == expected
    assert ServerStatus.read({"status": status}).model_dump(by_alias=True, exclude_none=True) == expected


def test_what_was_reported_stays_while_the_server_is_away() -> None:
    reported = ServerStatus(family="Current", version="0.29.0", started_at=STARTED_AT, shares=1)

    assert observe_server(LiveState(server=reported)) == reported
    changed = observe_server(LiveState(server=reported, health=LEGACY))
    assert (changed.family, changed.version, changed.shares) == ("Legacy", None, 2)


def test_events_are_recorded_when_it_becomes_false() -> None:
    fine = status_of(running(health=LEGACY), now=MINUTE_AGO)
    failing = ServerHealth(Family.LEGACY, STARTED_AT, 2, ("S3 rejects the credentials: 403",))
    empty = ServerHealth(Family.LEGACY, STARTED_AT, 0)

    [event] = events_of(fine, running(health=failing))
    assert (event.type, event.reason, event.message) == ("Warning", "StoreFailing", "S3 rejects the credentials: 403")
    [event] = events_of(fine, running(health=empty))
    assert (event.type, event.reason) == ("Normal", "NoShare")

    assert events_of(status_of(running(health=failing)), running(health=failing)) == []
    [event] = events_of(status_of(running(health=failing)), running(health=LEGACY))
    assert (event.type, event.reason) == ("Normal", "Recovered")
    assert events_of(status_of(running(health=empty)), running(health=LEGACY)) == []
    assert events_of(fine, running(unanswered="no answer")) == []
