"""Decides which labels and annotations of the spec volume claims get and lose. Those of others stay as they are.

A record on the claim says which ones were set. The claim template has it as well, so that a new claim needs no write.
"""

import json
from collections.abc import Mapping
from typing import Any

from app.storage.facts import Claim
from app.storage.names import APP_LABEL, INSTANCE, is_annotation_key, is_qualified_name
from app.storage.spec import VolumeSettings
from app.storage.unstructured import Manifest
from app.storage.volumes import NO_SETTINGS

# On a claim: the keys of the labels and annotations that it has from the spec. Users can edit it like any annotation.
RECORD = "dittofs.io/claim-metadata"
# The StatefulSet's controller finds the claims of a server by these.
SELECTOR_LABELS = (APP_LABEL, INSTANCE)
# What the operator and Kubernetes' volume controllers keep in annotations. Without theirs a claim loses its volume.
RESERVED_PREFIXES = ("dittofs.io/", "pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")

_KINDS = ("labels", "annotations")


def is_reserved(kind: str, key: str) -> bool:
    """Tells whether a key of `labels` or of `annotations` is not for users to set."""
    return key in SELECTOR_LABELS if kind == "labels" else key.startswith(RESERVED_PREFIXES)


def settable_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Returns those of a claim that a spec may set, with the record of what it has set."""
    return {key: value for key, value in annotations.items() if key == RECORD or not is_reserved("annotations", key)}


def template_metadata(settings: VolumeSettings) -> Manifest:
    """Returns the labels and annotations of a claim template; without any in the spec, it has neither."""
    wanted = _wanted(settings)
    keys = {kind: sorted(wanted[kind]) for kind in _KINDS}
    if not any(keys.values()):
        return {}

    annotations = {**wanted["annotations"], RECORD: _record(keys)}
    return {**({"labels": wanted["labels"]} if wanted["labels"] else {}), "annotations": annotations}


def metadata_patch(settings: VolumeSettings, claim: Claim) -> Manifest | None:
    """Returns a merge patch of a claim's labels and annotations; None where there is nothing to change.

    What already has the wanted value is nobody's to remove unless the record says so: somebody else has set it.
    """
    if settings is NO_SETTINGS and RECORD not in claim.annotations:
        return None

    wanted, live = _wanted(settings), {"labels": claim.labels, "annotations": claim.annotations}
    recorded = _read_record(claim)
    patch: dict[str, dict[str, str | None]] = {}
    keys: dict[str, list[str]] = {}

    for kind in _KINDS:
        changed = {key: value for key, value in wanted[kind].items() if live[kind].get(key) != value}
        removed = dict.fromkeys(key for key in recorded[kind] if key in live[kind] and key not in wanted[kind])
        patch[kind] = {**changed, **removed}
        keys[kind] = sorted(key for key in wanted[kind] if key in changed or key in recorded[kind])

    record = _record(keys) if any(keys.values()) else None
    if record != claim.annotations.get(RECORD):
        patch["annotations"][RECORD] = record
    return {kind: patch[kind] for kind in _KINDS if patch[kind]} or None


def _wanted(settings: VolumeSettings) -> dict[str, dict[str, str]]:
    return {"labels": dict(settings.labels or {}), "annotations": dict(settings.annotations or {})}


def _record(keys: Mapping[str, list[str]]) -> str:
    return json.dumps({kind: keys[kind] for kind in _KINDS if keys[kind]}, separators=(",", ":"))


def _read_record(claim: Claim) -> dict[str, list[str]]:
    """Returns the keys in the record that can be the operator's; whatever else is in there counts as nothing."""
    try:
        record: Any = json.loads(claim.annotations.get(RECORD, "{}"))
    except (ValueError, RecursionError):
        record = {}

    keys: dict[str, list[str]] = {}
    for kind, is_key in (("labels", is_qualified_name), ("annotations", is_annotation_key)):
        listed = record.get(kind) if isinstance(record, dict) else None
        names = [key for key in (listed if isinstance(listed, list) else []) if isinstance(key, str)]
        keys[kind] = [key for key in names if is_key(key) and not is_reserved(kind, key)]
    return keys
