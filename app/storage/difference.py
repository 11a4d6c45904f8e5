"""Whether a live object lacks something of what is wanted. What others added to it, or own in it, is no difference."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.storage import quantity

# A digest of what was last applied: without it nobody would notice that a field is no longer wanted.
APPLIED = "dittofs.io/applied"
DIGEST_CHARACTERS = 16

# What tells the items of a list apart, in the order of preference: a volume can be mounted twice.
_IDENTITIES = ("mountPath", "name", "uid")


def marked(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with a digest of itself, but for claim templates: these are immutable, and kept as they live."""
    spec = {name: value for name, value in wanted.get("spec", {}).items() if name != "volumeClaimTemplates"}
    digest = hashlib.sha256(json.dumps({**wanted, "spec": spec}, sort_keys=True).encode()).hexdigest()[
        :DIGEST_CHARACTERS
    ]
    metadata = wanted["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def differs(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """`wanted` as `marked` gave it."""
    return not _covers(live, wanted)


def _covers(live: Any, wanted: Any) -> bool:
    if live == wanted:
        return True
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_has_field(live, name, value) for name, value in wanted.items())
    if isinstance(wanted, list) and wanted and all(isinstance(item, dict) for item in wanted):
        return isinstance(live, list) and all(_has_item(live, item, at) for at, item in enumerate(wanted))
    return False


def _has_field(live: Mapping[str, Any], name: str, wanted: Any) -> bool:
    found = live.get(name)
    if _is_nothing(wanted) and _is_nothing(found):
        return True
    # An annotation may have such a name as well.
    if name in ("requests", "limits") and isinstance(wanted, dict) and isinstance(found, dict):
        return all(_is_same_amount(found.get(each), amount) for each, amount in wanted.items())
    return name in live and _covers(found, wanted)


def _has_item(live: list[Any], wanted: Mapping[str, Any], position: int) -> bool:
    identity = _identity(wanted)
    if identity is None:
        return position < len(live) and _covers(live[position], wanted)
    return any(_identity(item) == identity and _covers(item, wanted) for item in live)


def _identity(item: Any) -> tuple[str, Any] | None:
    """None for what has none, nor is an object: what a user wrote verbatim is for the API server to judge."""
    named = item.get("metadata", item) if isinstance(item, dict) else None
    if not isinstance(named, dict):
        return None
    return next(((name, named[name]) for name in _IDENTITIES if name in named), None)


def _is_nothing(value: Any) -> bool:
    """The API server leaves out what is empty."""
    return value is None or value in ({}, [], "")


def _is_same_amount(live: Any, wanted: Any) -> bool:
    """1024Mi is 1Gi, and the API server writes the shorter one."""
    try:
        return quantity.parse_exact(str(live)) == quantity.parse_exact(str(wanted))
    except ValueError:
        return bool(live == wanted)
