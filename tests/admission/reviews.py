"""AdmissionReviews as the API server sends them, and a client of the application that needs no socket."""

from typing import Any

import httpx
from fastapi import FastAPI

from app.admission.review import wrap_in_review

Json = dict[str, Any]


def review(manifest: Any, old: Any = None, operation: str = "", uid: str = "u-1") -> Json:
    request = wrap_in_review(manifest if isinstance(manifest, dict) else {}, uid)
    request["request"] |= {
        "operation": operation or ("UPDATE" if old else "CREATE"),
        "object": manifest,
        "oldObject": old,
    }
    return request


def client(application: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="https://webhook")
