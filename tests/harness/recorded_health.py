"""What both kinds of DittoFS servers answered when they were asked for their health, as recorded from real ones."""

from collections.abc import Mapping
from typing import Any

from tests.harness.raw_server import Received, reply

STARTED_AT = "2026-11-27T11:33:02Z"

S3_FORBIDDEN = (
    "S3 health check failed: operation error S3: HeadBucket, https response error StatusCode: 403, RequestID: , "
    "HostID: , api error Forbidden: Forbidden"
)
S3_DOWN = (
    "S3 health check failed: operation error S3: HeadBucket, exceeded maximum number of attempts, 3, https response "
    'error StatusCode: 0, RequestID: , HostID: , request send failed, Head "http://10.0.0.9:9000/dittofs": '
    "dial tcp 10.0.0.9:9000: connect: connection refused"
)

_DATA = {"service": "dittofs", "started_at": STARTED_AT, "uptime": "33s", "uptime_sec": 33}
_ADAPTERS = {"running": 2, "types": ["smb", "nfs"]}
_NOT_FOUND = reply(404, b"404 page not found\n", "text/plain; charset=utf-8")


def health(status: str = "healthy", **fields: Any) -> dict[str, Any]:
    return {"status": status, "timestamp": "2026-11-27T11:33:35.1Z", **fields}


def legacy_answers(shares: int = 1, s3_error: str = "") -> dict[str, bytes]:
    """Returns the answers of a server up to 0.8, by the request."""
    if shares == 0:
        ready = reply(503, health("unhealthy", error="no shares configured"))
    else:
        ready = reply(200, health(data={"adapters": _ADAPTERS, "metadata_stores": 1, "shares": shares}))

    stores: dict[str, Any] = {
        "metadata_stores": [{"name": "m1", "type": "metadata", "status": "healthy", "latency": "4.8µs"}]
    }
    if shares:
        status = {"status": "unhealthy", "error": s3_error} if s3_error else {"status": "healthy"}
        stores["block_store"] = {"name": "block-store", "type": "block", "latency": "8.5ms", **status}
    code, word = (503, "unhealthy") if s3_error else (200, "healthy")

    return {
        "GET /health": reply(200, health(data=_DATA)),
        "GET /health/ready": ready,
        "GET /health/stores": reply(code, health(word, data=stores)),
    }


def current_answers(shares: int = 1, version: str = "v0.29.0", down: str = "") -> dict[str, bytes]:
    """Returns the answers of a server from 0.13 on; `down` is a share whose remote store cannot be reached."""
    grace = {"active": False, "expected_clients": 0, "reclaimed_clients": 0, "remaining_seconds": 0}
    ready = {"adapters": _ADAPTERS, "grace_period": grace, "metadata_stores": 1, "shares": shares}
    metrics = (
        "# HELP dittofs_build_info Build information for the running DittoFS server (always 1).\n"
        "# TYPE dittofs_build_info gauge\n"
        f'dittofs_build_info{{commit="none",version="{version}"}} 1\n'
        'dittofs_remote_up{share="/fine"} 1\n'
    )
    if down:
        metrics += f'dittofs_remote_up{{share="{down}"}} 0\ndittofs_remote_outage_seconds{{share="{down}"}} 85\n'

    return {
        "GET /health": reply(200, health(data={**_DATA, "control_plane_db": "reachable"})),
        "GET /health/ready": reply(200, health(data=ready)),
        "GET /metrics": reply(200, metrics.encode(), "text/plain; version=0.0.4; charset=utf-8"),
    }


class Answers:
    """Answers as recorded, and anything else with 404; `answers` may be replaced meanwhile."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.answers = answers
        self.received: list[Received] = []

    def __call__(self, request: Received) -> bytes:
        self.received.append(request)
        return self.answers.get(request.line, _NOT_FOUND)
