"""Merges a strategic merge patch into a value of core/v1, as kubectl does. It judges neither of them.

Maps are merged, null removes, and lists whose items have a merge key in core/v1 are merged by it; other lists are
replaced. Unlike kubectl it unites tolerations, which have no such key, keeps what is there in its place, leaves out
directives such as `$patch`, and ignores a null in place of a list with keys, as no API server stores it in a patch.
"""

from collections.abc import Mapping
from typing import Any

from app.storage.core_types import fields_of
from app.storage.pod import without_nulls
from app.storage.schema import Schema
from app.storage.unstructured import Manifest

# A field of core/v1 begins with a letter.
DIRECTIVE_PREFIX = "$"

UNITED = "Toleration"


def strategic_merge(kind: str, original: Mapping[str, Any], patch: Mapping[str, Any]) -> Manifest:
    """Returns the original, a `kind` of core/v1 such as PodSpec, with the patch merged into it. Neither is changed.

    The patch may be malformed; what its type does not allow is passed on for the API server to reject.
    """
    fields = fields_of(kind)
    merged = dict(original)

    for name, value in patch.items():
        field, before = fields.get(name, {}), merged.get(name)
        if name.startswith(DIRECTIVE_PREFIX):
            continue
        if value is None:
            if "mergeKey" not in field:
                merged.pop(name, None)
        elif isinstance(value, Mapping) and "$ref" in field:
            merged[name] = strategic_merge(field["$ref"], before if isinstance(before, Mapping) else {}, value)
        elif isinstance(value, Mapping):
            kept = before.items() if isinstance(before, Mapping) else ()
            merged[name] = {key: item for key, item in kept if key not in value} | without_nulls(value)
        elif isinstance(value, list):
            merged[name] = _merge_list(field, before if isinstance(before, list) else [], value)
        else:
            merged[name] = value
    return merged


def _merge_list(field: Schema, original: list[Any], patch: list[Any]) -> list[Any]:
    """Merges each item into the original one with its key, which keeps its place; others are appended."""
    kind, key = field.get("items", {}).get("$ref"), field.get("mergeKey")
    if kind == UNITED:
        return [*original, *(item for item in without_nulls({"": patch})[""] if item not in original)]
    if key is None:
        merged: list[Any] = without_nulls({"": patch})[""]
        return merged

    merged = list(original)
    for item in patch:
        if not isinstance(item, Mapping):
            merged.append(item)
            continue

        namesakes = (at for at, other in enumerate(original) if key in item and other.get(key) == item[key])
        position = next(namesakes, None)
        if position is None:
            merged.append(strategic_merge(kind, {}, item))
        else:
            merged[position] = strategic_merge(kind, merged[position], item)
    return merged
