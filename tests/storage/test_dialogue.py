from typing import Any

import pytest

from app.storage.dialogue import MAX_RECORDS, Answer, StoreRecord, Unanswered, list_records
from tests.harness.dialogues import NO_ANSWER, converse, ok, refused, store


def test_records_are_by_name() -> None:
    _, records = converse(list_records(("shares",)), ok([store("a", bucket="b"), {"id": 1}, "x", store("c", "fs")]))

    assert records.keys() == {"a", "c"}
    assert records["a"].config["bucket"] == "b"
    assert records["a"].is_healthy


@pytest.mark.parametrize(
    "answer",
    [NO_ANSWER, refused(500), refused(403), ok(), ok({}), ok("[]"), ok([{"name": "a"}] * (MAX_RECORDS + 1))],
)
def test_a_list_that_makes_no_sense_is_no_answer(answer: Answer) -> None:
    with pytest.raises(Unanswered):
        converse(list_records(("shares",)), answer)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"bucket":"b"}', {"bucket": "b"}),
        ({"bucket": "b"}, {"bucket": "b"}),
        ("", {}),
        ("[" * 100_000, {}),
        (None, {}),
        ([], {}),
        ("[1]", {}),
    ],
)
def test_a_config_is_an_object_or_json(config: Any, expected: Any) -> None:
    record = StoreRecord.read({"name": "a", "config": config})

    assert record
    assert record.config == expected


@pytest.mark.parametrize("status", [None, "healthy", [], {}, {"status": "unhealthy"}, {"status": ["healthy"]}])
def test_only_a_healthy_status_is_healthy(status: Any) -> None:
    record = StoreRecord.read({"name": "a", "status": status})

    assert record
    assert not record.is_healthy
