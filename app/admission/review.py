"""The AdmissionReview of admission.k8s.io/v1: read from a request's body, answered with the same uid."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.admission.patch import Operation
from app.storage.finding import Finding, one_line
from app.storage.spec import GROUP, KIND, PLURAL, VERSION

API_VERSION = "admission.k8s.io/v1"
REVIEW_KIND = "AdmissionReview"

# The API server drops what is over: 4096 characters in all, and then all but the first 256 of each warning.
WARNING_CHARACTERS = 256
ALL_WARNINGS_CHARACTERS = 4096
# No Kubernetes name is longer; before validation one can be, and would fill log and answer.
NAME_CHARACTERS = 253

Answer = dict[str, Any]


class NotAReview(ValueError):
    """The body is no AdmissionReview that can be answered; the message says what was expected."""


@dataclass(frozen=True)
class Review:
    """One question of the API server; `object` and `old_object` are as the client sent them, or None."""

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
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (API_VERSION, REVIEW_KIND):
        raise NotAReview(f"expected an {REVIEW_KIND} of {API_VERSION}, got {_described(review)}")
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


def creation(manifest: dict[str, Any], uid: str) -> Answer:
    """The AdmissionReview that the API server would send if this DittoServer were created."""
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


def allowed(review: Review, warnings: Sequence[Finding] = ()) -> Answer:
    return _answer(review, {"allowed": True}, warnings)


def patched(review: Review, operations: Sequence[Operation]) -> Answer:
    """Allowed, with a patch; without operations there is none, as the API server wants no empty one."""
    if not operations:
        return allowed(review)
    encoded = base64.b64encode(orjson.dumps(operations)).decode()
    return _answer(review, {"allowed": True, "patchType": "JSONPatch", "patch": encoded})


def denied(review: Review, rejections: Sequence[Finding], warnings: Sequence[Finding] = ()) -> Answer:
    """Denied with every reason and its field, so that kubectl lists them all."""
    causes = [
        {"reason": "FieldValueInvalid", "field": one_line(finding.path), "message": one_line(finding.message)}
        for finding in rejections
    ]
    reasons = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
    status = {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": f'{KIND}.{GROUP} "{one_line(review.name)}" is invalid: {reasons}',
        "details": {"name": review.name, "group": GROUP, "kind": KIND, "causes": causes},
    }
    return _answer(review, {"allowed": False, "status": status}, warnings)


def refused(review: Review, code: int, message: str) -> Answer:
    """Denied for another cause than the object: the webhook is asked wrongly, or failed."""
    status = {"status": "Failure", "code": code, "message": one_line(message)}
    return _answer(review, {"allowed": False, "status": status})


def _answer(review: Review, response: Answer, warnings: Sequence[Finding] = ()) -> Answer:
    texts = _warning_texts(warnings)
    said = {"warnings": texts} if texts else {}
    return {"apiVersion": API_VERSION, "kind": REVIEW_KIND, "response": {"uid": review.uid, **response, **said}}


def _warning_texts(warnings: Iterable[Finding]) -> list[str]:
    texts = [_shortened(one_line(finding.message)) for finding in warnings]
    kept = texts
    while sum(map(len, kept)) > ALL_WARNINGS_CHARACTERS:
        kept = [*texts[: len(kept) - 2], f"and {len(texts) - len(kept) + 2} more warnings: dittofs-operator check"]
    return kept


def _shortened(text: str) -> str:
    return text if len(text) <= WARNING_CHARACTERS else f"{text[: WARNING_CHARACTERS - 1]}…"


def _described(review: Any) -> str:
    if not isinstance(review, dict):
        return "no object"
    return f"apiVersion {_quoted(review.get('apiVersion'))} and kind {_quoted(review.get('kind'))}"


def _quoted(value: Any) -> str:
    """Never the repr of a whole structure, which Python gives up where it is nested deeply."""
    return _shortened(repr(value)) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _name(request: dict[str, Any]) -> str:
    return _text(request.get("name")) or _text(_member(_member(request.get("object"), "metadata"), "name"))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
