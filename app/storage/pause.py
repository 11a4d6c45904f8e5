"""Tells whether a person has paused a server, and what that means. A paused server has its status written, no more."""

from collections.abc import Mapping
from typing import Any

from app.storage.problem import Problem, Stage

# On a DittoServer, with the value `true`: nothing is changed for it until somebody removes the annotation.
PAUSED_ANNOTATION = "dittofs.io/paused"
PAUSED = "Paused"


def is_paused(manifest: Mapping[str, Any]) -> bool:
    """Tells whether a raw DittoServer is paused. Any other value than `true` does nothing."""
    return ((manifest.get("metadata") or {}).get("annotations") or {}).get(PAUSED_ANNOTATION) == "true"


def is_paused_after(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tells whether a server is paused once the new manifest is applied: a manifest without the annotation keeps it."""
    annotations = (new.get("metadata") or {}).get("annotations") or {}
    return is_paused(new if PAUSED_ANNOTATION in annotations else old)


def paused_problem(name: str, namespace: str, stage: Stage = Stage.POD) -> Problem:
    """Explains why nothing is done for a server, and how to resume."""
    command = f"kubectl annotate dittoserver {name} --namespace {namespace} {PAUSED_ANNOTATION}-"
    message = f'annotation {PAUSED_ANNOTATION} is "true", so the operator changes nothing; to resume, run: {command}'
    return Problem(PAUSED, message, stage)
