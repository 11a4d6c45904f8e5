"""Kubernetes objects as raw JSON, and how they are identified, as in apimachinery's package of this name."""

from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]

# Namespace, empty for what has none, and name.
ObjectKey = tuple[str, str]

DEFAULT_NAMESPACE = "default"


def key_of(manifest: Mapping[str, Any]) -> ObjectKey:
    """Returns the namespace, empty where the object has none, and the name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def namespaced_key(manifest: Manifest) -> ObjectKey:
    """Returns namespace and name. A manifest without a namespace belongs to `default`."""
    metadata = manifest["metadata"]
    return metadata.get("namespace") or DEFAULT_NAMESPACE, metadata["name"]


def is_terminating(manifest: Mapping[str, Any]) -> bool:
    """Tells whether the object has been deleted and is there only until its finalizers, or what uses it, are gone."""
    return bool(manifest["metadata"].get("deletionTimestamp"))
