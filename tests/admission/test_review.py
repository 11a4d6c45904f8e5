import base64
import re
from typing import Any

import orjson
import pytest

from app.admission.review import NotAReview, Review, allow, allow_with_patch, deny, read_review, refuse
from app.storage.finding import rejection, warning


def body(**request: Any) -> bytes:
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


REVIEW = Review("u-1", "CREATE", "DittoServer", "files", "a", {}, None)


def test_a_review_is_read() -> None:
    review = read_review(
        body(uid="u-1", operation="CREATE", kind={"kind": "DittoServer"}, namespace="files", name="a", object={})
    )
    assert review == REVIEW


def test_the_name_may_come_from_the_object() -> None:
    assert read_review(body(uid="u", object={"metadata": {"name": "b"}})).name == "b"


def test_names_are_cut_to_253_characters() -> None:
    review = read_review(body(uid="u", name="x" * 10**6, namespace="y" * 10**6))
    assert (review.name, review.namespace) == ("x" * 253, "y" * 253)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", "the body is not JSON"),
        (b'{"apiVersion": ', "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[]", "expected an AdmissionReview of admission.k8s.io/v1, got no object"),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}', "'admission.k8s.io/v1beta1'"),
        (b'{"apiVersion": "v1", "kind": "Pod"}', "kind 'Pod'"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}', "a request with a uid"),
        (body(), "a request with a uid"),
        (body(uid=""), "a request with a uid"),
        (body(uid=7), "a request with a uid"),
    ],
)
def test_what_is_no_review_is_refused_with_a_reason(sent: bytes, expected: str) -> None:
    with pytest.raises(NotAReview, match=re.escape(expected)):
        read_review(sent)


def test_an_answer_has_the_uid_of_the_request() -> None:
    assert allow(REVIEW) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_a_patch_is_encoded_for_the_api_server() -> None:
    response = allow_with_patch(REVIEW, [{"op": "add", "path": "/spec/replicas", "value": 1}])["response"]
    assert response["patchType"] == "JSONPatch"
    assert orjson.loads(base64.b64decode(response["patch"])) == [{"op": "add", "path": "/spec/replicas", "value": 1}]


def test_no_operations_are_no_patch() -> None:
    assert allow_with_patch(REVIEW, []) == allow(REVIEW)


def test_a_denial_has_every_finding_with_its_path() -> None:
    answer = deny(REVIEW, [rejection("spec.a", "a is bad"), rejection("spec.b", "b is bad")], [warning("spec.c", "c")])
    response = answer["response"]

    assert response["allowed"] is False
    assert response["warnings"] == ["c"]

    status = response["status"]

    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"] == 'DittoServer.dittofs.dittofs.com "a" is invalid: spec.a: a is bad; spec.b: b is bad'
    assert [cause["field"] for cause in status["details"]["causes"]] == ["spec.a", "spec.b"]


def test_a_refusal_has_its_code() -> None:
    assert refuse(REVIEW, 500, "no\nluck")["response"]["status"] == {
        "status": "Failure",
        "code": 500,
        "message": "no luck",
    }


def test_a_warning_has_no_control_character() -> None:
    [text] = allow(REVIEW, [warning("x", "one\ntwo\x00three\x7f\ud800")])["response"]["warnings"]
    assert text == "one two three  "


def test_warnings_stay_within_the_limits() -> None:
    texts = allow(REVIEW, [warning("x", f"{number} " + "w" * 500) for number in range(30)])["response"]["warnings"]

    assert sum(map(len, texts)) <= 4096
    assert all(len(text) <= 256 for text in texts)
    assert texts[0].startswith("0 w")
    assert texts[-1] == f"and {30 - len(texts) + 1} more warnings: dittofs-operator check"
