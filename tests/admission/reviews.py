"""AdmissionReviews as the API server sends them, and a client of the application that needs no socket."""

from typing import Any

import httpx
from fastapi import FastAPI

from app.admission.review import wrap_in_review
from app.storage.facts import Facts, Needs, StorageClass, StorageClasses

Json = dict[str, Any]


async def classes(_needs: Needs) -> Facts:
    return Facts(storage_classes=StorageClasses((StorageClass("fast", is_default=True),)))


async def broken(_needs: Needs) -> Facts:
    raise RuntimeError("out of order")


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
