"""FastAPI: the two review endpoints, and health on an application of its own. Decides nothing: it asks `storage`."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from app.admission.patch import patch
from app.admission.review import (
    Answer,
    NotAReview,
    Review,
    allowed,
    denied,
    patched,
    read_review,
    refused,
)
from app.storage.defaulting import set_defaults
from app.storage.facts import Facts, Needs
from app.storage.finding import rejections, warnings
from app.storage.rules import Change, judge, needs
from app.storage.spec import KIND
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH

# The API server takes objects of up to 3 MiB; an update has two of them in one review.
BODY_BYTES = 7 * 2**20

# How to find out what a change has to be judged by; it answers within its own deadline and does not raise.
Gather = Callable[[Needs], Awaitable[Facts]]
Decide = Callable[[Review], Awaitable[Answer]]

log = logging.getLogger(__name__)

# The names and labels are controller-runtime's, so that its dashboards and alerts serve here too.
REQUESTS = Counter("controller_runtime_webhook_requests", "Admission requests by HTTP status.", ["webhook", "code"])
LATENCY = Histogram("controller_runtime_webhook_latency_seconds", "How long an admission request took.", ["webhook"])
IN_FLIGHT = Gauge("controller_runtime_webhook_requests_in_flight", "Admission requests being answered.", ["webhook"])


class BodyTooLarge(ValueError):
    """More than BODY_BYTES were sent, or announced."""


def webhook(gather: Gather) -> FastAPI:
    """The application that the API server calls."""
    # Nobody is told of the calls by OpenTelemetry, and to find that out for each takes as long as all the rules.
    api = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
    about_mutating, about_validating = _Metrics(MUTATE_PATH), _Metrics(VALIDATE_PATH)

    async def mutate(request: Request) -> Response:
        return await _answer(request, about_mutating, _mutated)

    async def validate(request: Request) -> Response:
        return await _answer(request, about_validating, lambda review: _validated(review, gather))

    # Starlette's routes: FastAPI's own look for parameters and dependencies, which there are none of, in each request.
    api.add_route(MUTATE_PATH, mutate, methods=["POST"])
    api.add_route(VALIDATE_PATH, validate, methods=["POST"])
    return api


def health(why_not_ready: Callable[[], str | None]) -> FastAPI:
    """Liveness, readiness and metrics; `why_not_ready` is None once reviews can be answered."""
    api = FastAPI(openapi_url=None)

    @api.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @api.get("/readyz")
    async def readyz() -> Response:
        why = why_not_ready()
        return Response(f"{why or 'ok'}\n", status_code=503 if why else 200, media_type="text/plain")

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return api


async def _mutated(review: Review) -> Answer:
    if review.operation not in ("CREATE", "UPDATE"):
        return allowed(review)
    filled = set_defaults(review.object)
    return allowed(review) if filled is review.object else patched(review, patch(review.object, filled))


async def _validated(review: Review, gather: Gather) -> Answer:
    if review.operation not in ("CREATE", "UPDATE"):
        return allowed(review)
    change = Change.read(review.object, review.old_object if review.operation == "UPDATE" else None)
    findings = judge(change, await gather(needs(change)))
    reasons = rejections(findings)
    return denied(review, reasons, warnings(findings)) if reasons else allowed(review, warnings(findings))


class _Metrics:
    """Of one endpoint."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.in_flight = IN_FLIGHT.labels(path)
        self.latency = LATENCY.labels(path)

    def answered(self, status: int, seconds: float) -> None:
        self.latency.observe(seconds)
        REQUESTS.labels(self._path, str(status)).inc()


async def _answer(request: Request, metrics: _Metrics, decide: Decide) -> Response:
    started = time.monotonic()
    with metrics.in_flight.track_inprogress():
        status, content = await _status_and_content(request, decide, started)
    metrics.answered(status, time.monotonic() - started)
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _status_and_content(request: Request, decide: Decide, started: float) -> tuple[int, dict[str, Any]]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return 415, {"error": f"expected content type application/json, got {media_type[:100] or 'none'}"}
    try:
        review = read_review(await _body(request))
    except BodyTooLarge:
        return 413, {"error": f"expected a body of at most {BODY_BYTES} bytes"}
    except NotAReview as error:
        return 400, {"error": str(error)}
    except ClientDisconnect:
        return 499, {"error": "the client went away before its body was complete"}
    answer = await _decided(review, decide)
    _log_decision(review, answer["response"], time.monotonic() - started)
    return 200, answer


async def _decided(review: Review, decide: Decide) -> Answer:
    if review.kind != KIND:
        return refused(review, 400, f"this webhook judges {KIND} objects, not {review.kind or 'nameless kinds'}")
    try:
        return await decide(review)
    except Exception:
        # Whatever is wrong in here, the API server must get an answer with the uid, and the client a reason.
        log.exception("review failed", extra={"uid": review.uid, "namespace": review.namespace, "object": review.name})
        return refused(review, 500, "dittofs-operator failed to judge this object; its log says why")


async def _body(request: Request) -> bytes:
    """The whole body; as it streams in, never more of it than allowed."""
    announced = request.headers.get("content-length", "0")
    body = bytearray()
    if announced.isdecimal() and int(announced) > BODY_BYTES:
        raise BodyTooLarge
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise BodyTooLarge
    return bytes(body)


def _log_decision(review: Review, response: Answer, seconds: float) -> None:
    """One line a decision. The messages name Secrets and their keys, never a value."""
    verdict = "patched" if "patch" in response else "allowed" if response["allowed"] else "denied"
    log.info(
        "reviewed",
        extra={
            "uid": review.uid,
            "operation": review.operation,
            "namespace": review.namespace,
            "object": review.name,
            "verdict": verdict,
            "milliseconds": round(seconds * 1000, 3),
            "warnings": response.get("warnings", []),
            "reason": response.get("status", {}).get("message", ""),
        },
    )
