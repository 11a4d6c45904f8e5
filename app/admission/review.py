"""Reads an AdmissionReview of admission.k8s.io/v1, and builds the answers to it. Never decides which answer to give."""

import base64
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from app.admission.patch import Operation
from app.storage.finding import Finding, one_line
from app.storage.spec import GROUP, KIND, PLURAL, VERSION

API_VERSION = "admission.k8s.io/v1"
REVIEW_KIND = "AdmissionReview"

# The API server passes on 4096 characters of warnings, and of those beyond that only the first 256 each.
WARNING_CHARACTERS = 256
ALL_WARNINGS_CHARACTERS = 4096
# No valid Kubernetes name is longer. One that was not validated yet can be, and would fill log and answer.
NAME_CHARACTERS = 253

INVALID = 422

Answer = dict[str, Any]


class Verdict(StrEnum):
    """The outcome of a review, for logs and metrics."""

    ALLOWED = "allowed"
    WARNED = "warned"
    PATCHED = "patched"
    DENIED = "denied"
    ERROR = "error"  # The object was not judged: the operator failed, or was asked about another kind.


class NotAReview(ValueError):
    """The body is not an AdmissionReview that can be answered; the message says what was expected."""


class Review(NamedTuple):
    """One request of the API server; `object` and `old_object` are as the client sent them, or None."""

    uid: str
    operation: str
    kind: str
    namespace: str
    name: str
    object: Any
    old_object: Any


def read_review(body: bytes) -> Review:
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotAReview(f"the body is not JSON: {error}") from None

    expected = f"expected an {REVIEW_KIND} of {API_VERSION}"
    if not isinstance(review, dict):
        raise NotAReview(f"{expected}, got no object")
    version, kind = review.get("apiVersion"), review.get("kind")
    if (version, kind) != (API_VERSION, REVIEW_KIND):
        raise NotAReview(f"{expected}, got apiVersion {_quote(version)} and kind {_quote(kind)}")

    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise NotAReview("expected a request with a uid in the AdmissionReview")

    return Review(
        uid=request["uid"],
        operation=_text(request.get("operation")),
        kind=_text(_member(request.get("kind"), "kind")),
        namespace=_text(request.get("namespace"))[:NAME_CHARACTERS],
        name=_name(request)[:NAME_CHARACTERS],
        object=request.get("object"),
        old_object=request.get("oldObject"),
    )


def wrap_in_review(manifest: dict[str, Any], uid: str) -> Answer:
    """Returns the AdmissionReview that the API server would send if this DittoServer were created."""
    group_version = {"group": GROUP, "version": VERSION}
    metadata = manifest.get("metadata") or {}

    request = {
        "uid": uid,
        "kind": {**group_version, "kind": KIND},
        "resource": {**group_version, "resource": PLURAL},
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace") or "default",
        "operation": "CREATE",
        "object": manifest,
        "oldObject": None,
        "dryRun": True,
    }

    return {"apiVersion": API_VERSION, "kind": REVIEW_KIND, "request": request}


def allow(review: Review, warnings: Sequence[Finding] = ()) -> Answer:
    return _answer(review, {"allowed": True}, warnings)


def allow_with_patch(review: Review, operations: Sequence[Operation]) -> Answer:
    """Leaves the patch out if there are no operations: the API server accepts no empty one."""
    if not operations:
        return allow(review)

    encoded = base64.b64encode(orjson.dumps(operations)).decode()
    return _answer(review, {"allowed": True, "patchType": "JSONPatch", "patch": encoded})


def deny(review: Review, rejections: Sequence[Finding], warnings: Sequence[Finding] = ()) -> Answer:
    """Gives every reason with its field, so that kubectl lists them all."""
    causes = [
        {"reason": "FieldValueInvalid", "field": one_line(finding.path), "message": one_line(finding.message)}
        for finding in rejections
    ]
    reasons = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes)

    status = {
        "status": "Failure",
        "code": INVALID,
        "reason": "Invalid",
        "message": f'{KIND}.{GROUP} "{one_line(review.name)}" is invalid: {reasons}',
        "details": {"name": review.name, "group": GROUP, "kind": KIND, "causes": causes},
    }

    return _answer(review, {"allowed": False, "status": status}, warnings)


def refuse(review: Review, code: int, message: str) -> Answer:
    """Denies for another reason than the object: the webhook is called wrongly, or failed."""
    status = {"status": "Failure", "code": code, "message": one_line(message)}
    return _answer(review, {"allowed": False, "status": status})


def verdict_of(answer: Answer) -> Verdict:
    response = answer["response"]
    if not response["allowed"]:
        return Verdict.DENIED if response["status"]["code"] == INVALID else Verdict.ERROR
    if "patch" in response:
        return Verdict.PATCHED
    return Verdict.WARNED if "warnings" in response else Verdict.ALLOWED


def _answer(review: Review, response: Answer, warnings: Sequence[Finding] = ()) -> Answer:
    texts = [_shorten(one_line(finding.message)) for finding in warnings]
    kept = texts
    while sum(map(len, kept)) > ALL_WARNINGS_CHARACTERS:
        left_out = len(texts) - len(kept) + 2
        kept = [*texts[: len(kept) - 2], f"and {left_out} more warnings: dittofs-operator check"]

    optional = {"warnings": kept} if kept else {}
    return {"apiVersion": API_VERSION, "kind": REVIEW_KIND, "response": {"uid": review.uid, **response, **optional}}


def _shorten(text: str) -> str:
    return text if len(text) <= WARNING_CHARACTERS else f"{text[: WARNING_CHARACTERS - 1]}…"


def _quote(value: Any) -> str:
    """Returns the repr of a plain value only: of a deeply nested structure Python cannot make one."""
    return _shorten(repr(value)) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _name(request: dict[str, Any]) -> str:
    return _text(request.get("name")) or _text(_member(_member(request.get("object"), "metadata"), "name"))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
