"""AdmissionReviews as the API server sends them, and the application asked without a socket in between."""

from typing import Any

import httpx
from fastapi import FastAPI

from app.storage.spec import GROUP, KIND, PLURAL, VERSION

Json = dict[str, Any]


def review(manifest: Any, old: Any = None, operation: str = "", uid: str = "u-1") -> Json:
    request = {
        "uid": uid,
        "kind": {"group": GROUP, "version": VERSION, "kind": KIND},
        "resource": {"group": GROUP, "version": VERSION, "resource": PLURAL},
        "operation": operation or ("UPDATE" if old else "CREATE"),
        "namespace": "default",
        "object": manifest,
        "oldObject": old,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def client(application: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="https://webhook")
