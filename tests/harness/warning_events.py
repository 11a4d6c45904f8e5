"""Builds Warning Events as the API server sends them to the operator."""

from typing import Any

from app.storage.evidence import WarningEvent
from app.storage.unstructured import Manifest

UID = "d7fb2ad4-51f1-45b3-83da-373c853c7709"


def event(kind: str = "Pod", name: str = "files-0", reason: Any = "FailedMount", **fields: Any) -> Manifest:
    return {
        "metadata": {"name": "e", "namespace": "here", "creationTimestamp": "2026-11-27T03:00:00Z"},
        "involvedObject": {"kind": kind, "name": name, "uid": UID, "namespace": "here"},
        "reason": reason,
        "message": "m",
        **fields,
    }


def warning(message: str, reason: str, kind: str = "Pod", name: str = "files-0", **fields: Any) -> WarningEvent:
    parsed = WarningEvent.read(event(kind, name, reason, message=message, **fields))
    assert parsed is not None
    return parsed
