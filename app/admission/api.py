"""The FastAPI applications: one with the two review endpoints, one for health and metrics. Decides nothing itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Metric, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app import logs
from app.admission.metrics import COUNTS, OPERATIONS, count_findings
from app.admission.patch import patch
from app.admission.review import (
    Answer,
    NotAReview,
    Review,
    Verdict,
    allow,
    allow_with_patch,
    deny,
    read_review,
    refuse,
    verdict_of,
)
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
# Yields further parts of the metrics page.
Render = Callable[[], AsyncIterator[str]]

log = logging.getLogger(__name__)


class BodyTooLarge(ValueError):
    """The client sent, or announced, more than BODY_BYTES."""


class _Stream(StreamingResponse):
    """Sends its parts one after the other.

    Starlette would run a task beside it that waits for the client to go away, and import for 12 ms what that needs.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


@dataclass(frozen=True)
class _SingleMetric(Collector):
    """Stands for a registry with one metric."""

    metric: Metric

    def collect(self) -> list[Metric]:
        return [self.metric]


class WebhookApplication(FastAPI):
    """A FastAPI application that hands reviews to their endpoints at once, without middleware and telemetry.

    These have nothing to do for a review, and took longer than judging it. Everything else is FastAPI's, such as the
    answer to another method or path.
    """

    def __init__(self, endpoints: Mapping[str, ASGIApp]) -> None:
        super().__init__(openapi_url=None)
        self._endpoints = endpoints
        for path, endpoint in endpoints.items():
            self.add_route(path, endpoint, methods=["POST"])  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"]) if scope.get("method") == "POST" else None
        await (endpoint or super().__call__)(scope, receive, send)


def webhook(gather: Gather, defaults: ObjectDefaults = NO_DEFAULTS) -> FastAPI:
    """Returns the application that the API server calls; the servers that it judges get the defaults."""

    async def mutate(review: Review) -> Answer:
        if review.operation not in OPERATIONS:
            return allow(review)

        defaulted = set_defaults(review.object)
        if defaulted is review.object:
            return allow(review)
        return allow_with_patch(review, patch(review.object, defaulted))

    async def validate(review: Review) -> Answer:
        if review.operation not in OPERATIONS:
            return allow(review)

        change = Change.read(review.object, review.old_object if review.operation == "UPDATE" else None)
        findings = judge(change, await gather(needs(change, defaults)))
        count_findings(findings)
        if reasons := rejections(findings):
            return deny(review, reasons, warnings(findings))
        return allow(review, warnings(findings))

    decisions = {MUTATE_PATH: mutate, VALIDATE_PATH: validate}
    return WebhookApplication({path: ReviewEndpoint(path, decide) for path, decide in decisions.items()})


def health(why_not_ready: Callable[[], str | None], server_metrics: Render | None = None) -> FastAPI:
    """Returns the application for probes and metrics.

    `why_not_ready` returns None once reviews can be answered. `server_metrics` yields what is added to the metrics
    page, in parts that are sent as they come: with many servers they are megabytes.
    """
    api = FastAPI(openapi_url=None)
    # They would double the series of every counter, and nobody asks when one was first counted.
    disable_created_metrics()  # type: ignore[no-untyped-call]

    @api.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @api.get("/readyz")
    async def readyz() -> Response:
        why = why_not_ready()
        return Response(f"{why or 'ok'}\n", status_code=503 if why else 200, media_type="text/plain")

    @api.get("/metrics")
    async def metrics(request: Request) -> Response:
        # As in other clients of Prometheus; whoever names metrics of the operator need not wait for those of servers.
        names = request.query_params.getlist("name[]")

        async def page() -> AsyncIterator[bytes]:
            for metric in (REGISTRY.restricted_registry(names) if names else REGISTRY).collect():
                yield generate_latest(_SingleMetric(metric))
                # All at once would take several milliseconds, in which no review is answered.
                await asyncio.sleep(0)
            if server_metrics and not names:
                async for part in server_metrics():
                    yield part.encode()

        return _Stream(page(), media_type=CONTENT_TYPE_LATEST)

    return api


class ReviewEndpoint:
    """An ASGI application that answers each review with what `decide` returns, and measures that."""

    def __init__(self, path: str, decide: Decide) -> None:
        self._decide = decide
        self._counts = COUNTS[path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        self._counts.in_flight += 1
        try:
            status, content = await self._answer(scope, receive, started)
        finally:
            self._counts.in_flight -= 1
        self._counts.count_answer(status, time.monotonic() - started)

        body = orjson.dumps(content)
        headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive, started: float) -> tuple[int, dict[str, Any]]:
        """Returns the HTTP status, and the AdmissionReview or error to send with it."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != b"application/json":
            shown = media_type.decode("latin-1")[:100] or "none"
            return 415, {"error": f"expected content type application/json, got {shown}"}

        try:
            review = read_review(await _read_body(headers.get(b"content-length", b"0"), receive))
        except BodyTooLarge:
            return 413, {"error": f"expected a body of at most {BODY_BYTES} bytes"}
        except NotAReview as error:
            return 400, {"error": str(error)}
        except ClientDisconnect:
            return 499, {"error": "the client went away before its body was complete"}

        with logs.correlate(review_id=review.uid):
            answer = await _decide_or_refuse(review, self._decide)
            verdict = verdict_of(answer)
            self._counts.count_review(review.operation, verdict)
            _log_decision(review, answer["response"], verdict, time.monotonic() - started)
        return 200, answer


async def _read_body(announced: bytes, receive: Receive) -> bytes:
    """Reads no more than allowed, also of a body that announces no length."""
    if announced.isdigit() and int(announced) > BODY_BYTES:
        raise BodyTooLarge

    # To add each part to all before it would take seconds when a client sends the body in tiny ones.
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect

        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise BodyTooLarge
        if not message.get("more_body"):
            return bytes(body)


async def _decide_or_refuse(review: Review, decide: Decide) -> Answer:
    if review.kind != KIND:
        return refuse(review, 400, f"this webhook judges {KIND} objects, not {review.kind or 'nameless kinds'}")

    try:
        return await decide(review)
    except Exception:
        # Whatever is wrong here, the API server must get an answer with the uid, and the client a reason.
        log.exception("review failed", extra={"namespace": review.namespace, "server": review.name})
        return refuse(review, 500, "dittofs-operator failed to judge this object; its log says why")


def _log_decision(review: Review, response: Answer, verdict: Verdict, seconds: float) -> None:
    """Logs one line per decision; the messages name Secrets and their keys, never a value."""
    fields = {
        "operation": review.operation,
        "namespace": review.namespace,
        "server": review.name,
        "verdict": verdict,
        "milliseconds": round(seconds * 1000, 3),
        "warnings": response.get("warnings", []),
        "reason": response.get("status", {}).get("message", ""),
    }

    logs.log_often(log, "reviewed", fields)
