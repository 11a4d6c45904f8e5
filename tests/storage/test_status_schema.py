from typing import Any

import pytest

from app.storage.schema import structural
from app.storage.status_schema import ServerStatus, Status
from tests.harness.observations import running, status_of


def test_conditions_and_volumes_are_lists_by_key() -> None:
    fields = structural(Status)["properties"]

    assert fields["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert fields["volumes"]["x-kubernetes-list-map-keys"] == ["name"]


def test_a_condition_is_one_of_meta_v1() -> None:
    condition = structural(Status)["properties"]["conditions"]["items"]

    assert condition["required"] == ["type", "status", "lastTransitionTime", "reason"]
    assert condition["properties"]["lastTransitionTime"]["format"] == "date-time"


def test_the_schema_knows_what_the_operator_writes() -> None:
    Status.model_validate(status_of(running()))


def test_a_server_is_read_from_the_status() -> None:
    server = {"family": "Current", "version": "0.29.0", "startedAt": "2026-11-27T11:33:02Z", "shares": 2}
    status = ServerStatus.read({"status": {"server": server}})

    assert (status.family, status.version, status.shares) == ("Current", "0.29.0", 2)


@pytest.mark.parametrize(
    "status",
    [
        None,
        [],
        {},
        {"server": None},
        {"server": 7},
        {"server": {"family": "Other"}},
        {"server": {"version": "0.29.0; rm -rf /"}},
        {"server": {"version": "latest"}},
        {"server": {"shares": -1}},
        {"server": {"family": "Legacy", "shares": "1"}},
        {"server": {"startedAt": "x" * 65}},
    ],
)
def test_a_status_that_is_none_says_nothing(status: Any) -> None:
    assert ServerStatus.read({"status": status}) == ServerStatus()


def test_what_is_unreadable_in_a_status_is_left_out() -> None:
    status = {
        "observedGeneration": 2,
        "conditions": [{"type": "Ready"}],
        "phase": "Odd",
        "availableReplicas": 1,
        "x": 1,
    }
    readable = Status.read({"status": status})

    assert (readable.observed_generation, readable.available_replicas) == (2, 1)
    assert (readable.conditions, readable.phase) == (None, None)
    assert Status.read({"status": "odd"}) == Status.read({}) == Status.read({"status": {}})


def test_a_condition_without_a_message_is_read() -> None:
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": "", "reason": "Ready"}
    status = Status.read({"status": {"conditions": [condition, condition | {"message": None}]}})

    assert [condition.message for condition in status.conditions or ()] == ["", ""]
