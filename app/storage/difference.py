"""Compares desired objects with live ones. What others added to an object, or own in it, is no difference."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.storage import quantity
from app.storage.finding import one_line

# A digest of what was last applied: without it nobody would notice that a field has been removed.
APPLIED = "dittofs.io/applied"
DIGEST_CHARACTERS = 16

# What tells the items of a list apart, in the order of preference: a volume can be mounted twice.
_IDENTITIES = ("mountPath", "devicePath", "name", "uid", "containerPort", "ip")

# By these server-side apply tells them apart: with another value, it is another item.
_MERGE_KEYS = (*_IDENTITIES, "port", "protocol", "topologyKey", "whenUnsatisfiable")

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

# What changes with every write, or is written by others.
_BOOKKEEPING = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
_NAMES = ("name", "namespace")
MAX_CHANGED_FIELDS = 20
# Of a section with more, which no object of ours has, only that it differs is told: to look at each would take long.
MAX_ENTRIES = 200
MAX_STEP_CHARACTERS = 100


def marked(desired: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the manifest with a digest of itself, without claim templates, which are immutable."""
    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: _digest(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def removes_nothing(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Tells whether every field that was last applied to the live object is one of `desired`, which is not marked yet.

    Only the digest says what was applied. With values that others changed since, the answer is False, to be safe.
    """
    applied = (live["metadata"].get("annotations") or {}).get(APPLIED)
    return applied == _digest(_with_live_values(_without_claim_templates(desired), live))


def differs(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Tells whether the live object lacks something of `desired`, which comes from `marked`."""
    return not _covers(live, desired)


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the paths of the fields in which two states of an object differ, without their values and the status.

    A field that comes or goes is one path, also when it has fields itself. Keys and names in it may be anybody's text.
    """
    return changed_paths(_content(before), _content(after))


def changed_paths(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the paths in which two sections differ, as `changed_fields` does."""
    return _shortened(_paths(before, after, ""))


def patched_fields(patch: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the paths of the values in a merge patch, without those that only name the object."""
    metadata = {name: value for name, value in patch["metadata"].items() if name not in _NAMES}
    return _shortened(_leaves({**patch, "metadata": metadata}, ""))


def path_step(name: str) -> str:
    """Returns a key as a step of a path: in brackets, where it is no plain name."""
    bare = one_line(name.removeprefix("[").removesuffix("]"))[:MAX_STEP_CHARACTERS]
    return f".{name}" if name.isalnum() and bare == name else f"[{bare}]"


def _digest(manifest: Mapping[str, Any]) -> str:
    content = json.dumps(_without_claim_templates(manifest), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


def _without_claim_templates(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = {name: value for name, value in manifest.get("spec", {}).items() if name != "volumeClaimTemplates"}
    return {**manifest, "spec": spec}


def _with_live_values(desired: Any, live: Any) -> Any:
    """Returns those fields of `desired` that the live object has as well, with its values."""
    if isinstance(desired, dict) and isinstance(live, dict):
        return {
            name: value if _has_field(live, name, value) else _with_live_values(value, live[name])
            for name, value in desired.items()
            if name in live or _has_field(live, name, value)
        }

    if isinstance(desired, dict | list):
        return _with_live_items(desired, live)
    return live


def _with_live_items(desired: Any, live: Any) -> list[Any] | None:
    """Returns the items with the live values; None, which is never applied, where they cannot be told apart."""
    entries, live_entries = _named_entries(desired), _named_entries(live)
    if isinstance(desired, dict) or entries is None or live_entries is None:
        return None

    # An item with another key would be another item, and the one before it would stay.
    items = [(item, live_entries[name]) for name, item in entries.items() if name in live_entries]
    if any(item.get(key) != live_item.get(key) for item, live_item in items for key in _MERGE_KEYS if key in item):
        return None
    return [_with_live_values(item, live_item) for item, live_item in items]


def _content(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _BOOKKEEPING}
    return {**manifest, "metadata": metadata, "status": None}


def _shortened(paths: Iterable[str]) -> tuple[str, ...]:
    paths = list(paths)
    # It changes with whatever else does.
    digest = f"metadata.annotations[{APPLIED}]"
    if len(paths) > 1 and digest in paths:
        paths.remove(digest)

    more = len(paths) - MAX_CHANGED_FIELDS
    return tuple(paths) if more <= 0 else (*paths[:MAX_CHANGED_FIELDS], f"and {more} more")


def _paths(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in {**before, **after}:
        one, other = before.get(name), after.get(name)
        if one == other or (_is_empty(one) and _is_empty(other)):
            continue

        inner = f"{path}{path_step(name)}".lstrip(".")
        entries, other_entries = _named_entries(one), _named_entries(other)
        if entries is not None and other_entries is not None:
            yield from _paths(entries, other_entries, inner)
        else:
            yield inner


def _leaves(patch: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in patch.items():
        inner = f"{path}{path_step(name)}".lstrip(".")
        if isinstance(value, Mapping):
            yield from _leaves(value, inner)
        else:
            yield inner


def _named_entries(value: Any) -> Mapping[str, Any] | None:
    """Returns the fields of an object, or the items of a list by what tells them apart.

    None for anything else, and for one of more than MAX_ENTRIES.
    """
    if not isinstance(value, dict | list) or len(value) > MAX_ENTRIES:
        return None
    if isinstance(value, dict):
        return value
    if not value:
        return None

    identities = [_identity(item) for item in value]
    entries = {f"[{identity[1]}]": item for identity, item in zip(identities, value, strict=True) if identity}
    return entries if len(entries) == len(value) else None


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
    # Most fields are as desired, which takes less time to see than any of the exceptions.
    if value == desired or (_is_empty(desired) and _is_empty(value)):
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
    return desired in live or any(_identity(item) == identity and _covers(item, desired) for item in live)


def _identity(item: Any) -> tuple[str, Any] | None:
    """Returns what tells an item of a list apart; None for one without a name, or one that is no object."""
    named = item.get("metadata", item) if isinstance(item, dict) else None
    if not isinstance(named, dict):
        return None

    return next(((name, named[name]) for name in _IDENTITIES if not _is_empty(named.get(name))), None)


def _is_empty(value: Any) -> bool:
    """Tells whether the API server leaves the value out."""
    return value is None or value in ({}, [], "")
