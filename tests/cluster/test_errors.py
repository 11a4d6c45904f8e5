from typing import Any

import pytest

from app.cluster.errors import (
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Unavailable,
    Undecodable,
    UnknownPath,
    error_from,
)
from app.storage.facts import Cause

CANNOT = 'StatefulSet in version "v1" cannot be handled as a StatefulSet: '


def status(message: str = "no", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "message": message, "details": details}


def causes(answer: dict[str, Any]) -> tuple[Cause, ...]:
    error = error_from(422, answer)
    assert isinstance(error, Invalid)
    return error.causes


@pytest.mark.parametrize(
    ("code", "answer", "expected"),
    [
        (404, status(name="s3"), NotFound),
        (404, status(), UnknownPath),
        (404, None, UnknownPath),
        (404, {"kind": "Secret"}, UnknownPath),
        (401, status(), Forbidden),
        (403, status(), Forbidden),
        (403, status(causes=[{"reason": "NamespaceTerminating"}]), NamespaceTerminating),
        (400, status(), Invalid),
        (422, status(f"{CANNOT}no"), Undecodable),
        (409, status(), Conflict),
        (410, status(), Expired),
        (429, status(), Unavailable),
        (503, status(), Unavailable),
        (200, None, Unavailable),
        (502, None, Unavailable),
    ],
)
def test_a_status_becomes_an_error(code: int, answer: Any, expected: type[ClusterError]) -> None:
    assert type(error_from(code, answer)) is expected


def test_a_message_is_one_short_line() -> None:
    assert str(error_from(409, status("two\n  lines"))) == "two lines"
    assert len(str(error_from(409, status("x" * 1000)))) == 401


def test_an_answer_without_a_status_is_not_quoted() -> None:
    assert str(error_from(502, {"password": "hunter2"})) == "HTTP status 502, without a Kubernetes Status"


def test_causes_without_a_field_are_about_a_policy() -> None:
    listed = [{"message": "denied by a policy"}, {"field": "spec.a", "message": "Required value"}]

    assert causes(status(causes=listed)) == (Cause("spec.a", "Required value"),)
    assert causes(status(causes=listed[:1])) == ()
    assert causes({"kind": "Status"}) == ()


def test_every_unknown_field_is_a_cause() -> None:
    message = f'{CANNOT}strict decoding error: unknown field "spec.a[0].b", unknown field "spec.x "y", z"'

    expected = (Cause("spec.a[0].b", "unknown field"), Cause('spec.x "y", z', "unknown field"))

    assert causes(status(message)) == expected


def test_a_wrong_type_is_a_cause_without_a_field() -> None:
    reason = "json: cannot unmarshal string into Go struct field X.spec.y of type bool"

    assert causes(status(CANNOT + reason)) == (Cause("", reason),)


@pytest.mark.parametrize(
    "message",
    ["", 'admission webhook "a" does not support dry run', f'admission webhook "a" denied the request: {CANNOT}no'],
)
def test_another_refusal_is_no_decoding_error(message: str) -> None:
    assert type(error_from(422, status(message))) is Invalid
