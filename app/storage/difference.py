"""Compares desired objects with live ones. What others added to an object, or own in it, is no difference."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.storage import quantity

# A digest of what was last applied: without it nobody would notice that a field has been removed.
APPLIED = "dittofs.io/applied"
DIGEST_CHARACTERS = 16

# What tells the items of a list apart, in the order of preference: a volume can be mounted twice.
_IDENTITIES = ("mountPath", "devicePath", "name", "uid", "containerPort", "ip")

# Of 1024Mi and 1Gi the API server writes the shorter one, and a number as text. A test compares these with core/v1.
QUANTITIES = ("divisor", "sizeLimit")
MAPS_OF_QUANTITIES = ("limits", "overhead", "requests")
# In these fields the API server leaves out false and 0.
_LEFT_OUT_FIELDS = """
    chapAuthDiscovery chapAuthSession hostIPC hostNetwork hostPID hostPort initialDelaySeconds partition readOnly
    sslEnabled stdin stdinOnce tty
"""
# In these it puts a default in the place of 0 and of an empty text.
_DEFAULTED_FIELDS = """
    apiVersion dnsPolicy failureThreshold fsType imagePullPolicy iscsiInterface keyring path periodSeconds pool protocol
    restartPolicy schedulerName scheme storageMode successThreshold terminationMessagePath terminationMessagePolicy
    timeoutSeconds user
"""
_LEFT_OUT, _DEFAULTED = frozenset(_LEFT_OUT_FIELDS.split()), frozenset(_DEFAULTED_FIELDS.split())


def marked(desired: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the manifest with a digest of itself, without claim templates, which are immutable."""
    spec = {name: value for name, value in desired.get("spec", {}).items() if name != "volumeClaimTemplates"}
    content = json.dumps({**desired, "spec": spec}, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]

    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: digest}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def differs(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Tells whether the live object lacks something of `desired`, which comes from `marked`."""
    return not _covers(live, desired)


def _covers(live: Any, desired: Any) -> bool:
    if live == desired:
        return True
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(_has_field(live, name, value) for name, value in desired.items())
    if isinstance(desired, list) and desired and all(isinstance(item, dict) for item in desired):
        return isinstance(live, list) and all(_has_item(live, item, at) for at, item in enumerate(desired))
    return False


def _has_field(live: Mapping[str, Any], name: str, desired: Any) -> bool:
    value = live.get(name)
    if _is_empty(desired) and _is_empty(value):
        return True

    if desired in (0, "") and (name in _DEFAULTED or (name in _LEFT_OUT and not value)):
        return True

    # An annotation may have such a name as well.
    if name in MAPS_OF_QUANTITIES and isinstance(desired, dict) and isinstance(value, dict):
        return all(_is_same_amount(value.get(resource), amount) for resource, amount in desired.items())
    if name in QUANTITIES and _is_same_amount(value, desired):
        return True
    return name in live and _covers(value, desired)


def _is_same_amount(live: Any, desired: Any) -> bool:
    try:
        return quantity.parse_exact(str(live)) == quantity.parse_exact(str(desired).strip(" "))
    except ValueError:
        return bool(live == desired)


def _has_item(live: list[Any], desired: Mapping[str, Any], position: int) -> bool:
    identity = _identity(desired)
    if identity is None:
        return position < len(live) and _covers(live[position], desired)
    return any(_identity(item) == identity and _covers(item, desired) for item in live)


def _identity(item: Any) -> tuple[str, Any] | None:
    """Returns what tells an item of a list apart; None for one without a name, or one that is no object."""
    named = item.get("metadata", item) if isinstance(item, dict) else None
    if not isinstance(named, dict):
        return None
    return next(((name, named[name]) for name in _IDENTITIES if not _is_empty(named.get(name))), None)


def _is_empty(value: Any) -> bool:
    """Tells whether the API server leaves the value out."""
    return value is None or value in ({}, [], "")
