"""The FastAPI applications: one with the two review endpoints, one for health and metrics. Decides nothing itself."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from app.admission.patch import patch
from app.admission.review import Answer, NotAReview, Review, allow, allow_with_patch, deny, read_review, refuse
from app.storage.change import Change
from app.storage.defaulting import set_defaults
from app.storage.facts import Facts, Needs
from app.storage.finding import rejections, warnings
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.rules import judge, needs
from app.storage.spec import KIND
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH

# The API server accepts objects of up to 3 MiB; the review of an update holds two of them.
BODY_BYTES = 7 * 2**20

# Looks up what a change is judged by; it answers within its own deadline and does not raise.
Gather = Callable[[Needs], Awaitable[Facts]]
Decide = Callable[[Review], Awaitable[Answer]]

log = logging.getLogger(__name__)

# The names and labels are controller-runtime's, so that dashboards and alerts for it work here too.
REQUESTS = Counter("controller_runtime_webhook_requests", "Admission requests by HTTP status.", ["webhook", "code"])
LATENCY = Histogram("controller_runtime_webhook_latency_seconds", "How long an admission request took.", ["webhook"])
IN_FLIGHT = Gauge("controller_runtime_webhook_requests_in_flight", "Admission requests being answered.", ["webhook"])


class BodyTooLarge(ValueError):
    """The client sent, or announced, more than BODY_BYTES."""


def webhook(gather: Gather, defaults: ObjectDefaults = NO_DEFAULTS) -> FastAPI:
    """Returns the application that the API server calls; the servers that it judges get the defaults."""
    # OpenTelemetry has nobody to report to here, and asking it at each request takes as long as all the rules.
    api = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})

    async def mutate(review: Review) -> Answer:
        if review.operation not in ("CREATE", "UPDATE"):
            return allow(review)

        defaulted = set_defaults(review.object)
        if defaulted is review.object:
            return allow(review)
        return allow_with_patch(review, patch(review.object, defaulted))

    async def validate(review: Review) -> Answer:
        if review.operation not in ("CREATE", "UPDATE"):
            return allow(review)

        change = Change.read(review.object, review.old_object if review.operation == "UPDATE" else None)
        findings = judge(change, await gather(needs(change, defaults)))
        if reasons := rejections(findings):
            return deny(review, reasons, warnings(findings))
        return allow(review, warnings(findings))

    # Starlette's routes: FastAPI's look for parameters and dependencies at each request, and there are none.
    api.add_route(MUTATE_PATH, _endpoint(MUTATE_PATH, mutate), methods=["POST"])
    api.add_route(VALIDATE_PATH, _endpoint(VALIDATE_PATH, validate), methods=["POST"])
    return api


def health(why_not_ready: Callable[[], str | None]) -> FastAPI:
    """Returns the application for probes and metrics; `why_not_ready` returns None once reviews can be answered."""
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


def _endpoint(path: str, decide: Decide) -> Callable[[Request], Awaitable[Response]]:
    """Returns a handler that answers each review with what `decide` returns, and measures that."""
    in_flight, latency = IN_FLIGHT.labels(path), LATENCY.labels(path)

    async def handle(request: Request) -> Response:
        started = time.monotonic()
        with in_flight.track_inprogress():
            status, content = await _answer(request, decide, started)

        latency.observe(time.monotonic() - started)
        REQUESTS.labels(path, str(status)).inc()
        return Response(orjson.dumps(content), status, media_type="application/json")

    return handle


async def _answer(request: Request, decide: Decide, started: float) -> tuple[int, dict[str, Any]]:
    """Returns the HTTP status, and the AdmissionReview or error to send with it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return 415, {"error": f"expected content type application/json, got {media_type[:100] or 'none'}"}

    try:
        review = read_review(await _read_body(request))
    except BodyTooLarge:
        return 413, {"error": f"expected a body of at most {BODY_BYTES} bytes"}
    except NotAReview as error:
        return 400, {"error": str(error)}
    except ClientDisconnect:
        return 499, {"error": "the client went away before its body was complete"}

    answer = await _decide_or_refuse(review, decide)
    _log_decision(review, answer["response"], time.monotonic() - started)
    return 200, answer


async def _read_body(request: Request) -> bytes:
    """Reads no more than allowed, also of a body that announces no length."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > BODY_BYTES:
        raise BodyTooLarge

    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise BodyTooLarge
    return bytes(body)


async def _decide_or_refuse(review: Review, decide: Decide) -> Answer:
    if review.kind != KIND:
        return refuse(review, 400, f"this webhook judges {KIND} objects, not {review.kind or 'nameless kinds'}")

    try:
        return await decide(review)
    except Exception:
        # Whatever is wrong here, the API server must get an answer with the uid, and the client a reason.
        log.exception("review failed", extra={"uid": review.uid, "namespace": review.namespace, "object": review.name})
        return refuse(review, 500, "dittofs-operator failed to judge this object; its log says why")


def _log_decision(review: Review, response: Answer, seconds: float) -> None:
    """Logs one line per decision; the messages name Secrets and their keys, never a value."""
    verdict = "patched" if "patch" in response else "allowed" if response["allowed"] else "denied"

    fields = {
        "uid": review.uid,
        "operation": review.operation,
        "namespace": review.namespace,
        "object": review.name,
        "verdict": verdict,
        "milliseconds": round(seconds * 1000, 3),
        "warnings": response.get("warnings", []),
        "reason": response.get("status", {}).get("message", ""),
    }
    log.info("reviewed", extra=fields)
