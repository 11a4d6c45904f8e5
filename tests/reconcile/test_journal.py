import asyncio
from dataclasses import replace

import pytest

from app.reconcile.journal import Decisions, collect_writes, record_cause, record_status, record_write
from app.storage.object_write import ObjectWrite, Verb, WriteCause
from app.storage.problem import Problem
from tests.harness.log_lines import record_lines

pytestmark = pytest.mark.anyio


def write(name: str) -> ObjectWrite:
    return ObjectWrite("apply", "Service", "default", name, ("spec.type",), 0.0015)


async def test_writes_belong_to_the_task_that_makes_them() -> None:
    async def make(name: str) -> list[ObjectWrite]:
        with collect_writes() as writes:
            record_write(write(f"{name}-nfs"))
            await asyncio.sleep(0)
            record_write(write(f"{name}-smb"))
        return writes

    async with asyncio.TaskGroup() as group:
        one, two = (group.create_task(make(name)) for name in ("one", "two"))

    assert one.result() == [write("one-nfs"), write("one-smb")]
    assert two.result() == [write("two-nfs"), write("two-smb")]


async def test_each_write_is_one_line() -> None:
    with record_lines() as lines:
        record_write(write("files-nfs"))
    [line] = lines

    del line["time"]
    assert line == {
        "level": "INFO",
        "logger": "app.reconcile.journal",
        "message": "changed",
        "verb": "apply",
        "kind": "Service",
        "namespace": "default",
        "name": "files-nfs",
        "fields": ["spec.type"],
        "milliseconds": 1.5,
    }


async def test_a_line_about_a_drift_names_who_caused_it() -> None:
    drift = replace(write("files-nfs"), cause=WriteCause.DRIFT, changed_by=("kubectl-edit",))
    with record_lines() as lines:
        record_write(drift)
    [line] = lines

    assert (line["cause"], line["changed_by"]) == ("drift", ["kubectl-edit"])


@pytest.mark.parametrize(("verb", "message"), [("create", "created"), ("replace", "changed"), ("delete", "deleted")])
async def test_the_message_says_what_became_of_the_object(verb: Verb, message: str) -> None:
    with record_lines() as lines:
        record_write(ObjectWrite(verb, "Service", "default", "files"))
    assert [line["message"] for line in lines] == [message]


async def test_a_cause_is_one_line() -> None:
    with record_lines() as lines:
        record_cause("Restarting: spec", "the image")
    [line] = lines

    assert (line["message"], line["cause"], line["reason"]) == ("cause of the write", "Restarting: spec", "the image")


async def test_a_status_is_one_line() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Available", "message": "serves"}
    with record_lines() as lines:
        record_status({}, {"conditions": [ready], "phase": "Running"}, 0.002)
    [line] = lines

    assert (line["message"], line["conditions"], line["fields"]) == (
        "status changed",
        {"Ready": "True Available"},
        ["phase"],
    )
    assert (line["reason"], line["milliseconds"]) == ("serves", 2.0)


async def test_a_decision_is_logged_when_it_changes() -> None:
    key, decisions = ("default", "files"), Decisions()
    missing, taken = Problem("SecretNotFound", "no Secret"), Problem("NameTaken", "taken", stalls=True)

    def record(*problems: Problem) -> list[tuple[str, str, str]]:
        with record_lines() as lines:
            decisions.record(key, problems)
        return [(line["level"], line["message"], line["problem"]) for line in lines]

    assert record() == []
    assert record(missing) == [("INFO", "held back", "SecretNotFound")]
    assert record(missing) == []
    assert record(missing, taken) == [("WARNING", "held back", "NameTaken")]
    assert record(taken, missing) == []
    assert record(taken) == [("INFO", "no longer held back", "SecretNotFound")]
    assert record(Problem("NameTaken", "taken by another")) == [("INFO", "held back", "NameTaken")]

    decisions.forget(key)

    assert record(taken) == [("WARNING", "held back", "NameTaken")]
    assert record() == [("INFO", "no longer held back", "NameTaken")]
