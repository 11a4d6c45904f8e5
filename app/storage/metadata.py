"""What Kubernetes requires of the metadata of any object (ObjectMeta of meta/v1), for those who read manifests.

The API server checks all of it before it asks a webhook. Source of the rules: ValidateObjectMeta of apimachinery.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from app.storage.names import is_qualified_name
from app.storage.reading import LONGEST_NAME, ReadingProblem
from app.storage.schema import Schema

ANNOTATIONS_BYTES = 256 * 1024
MOST_PROBLEMS = 20

_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_INTEGER: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_OBJECT: Schema = {"type": "object"}
_STRINGS: Schema = {"type": "object", "additionalProperties": _STRING}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


METADATA = _object(
    name=_STRING,
    generateName=_STRING,
    namespace=_STRING,
    selfLink=_STRING,
    uid=_STRING,
    resourceVersion=_STRING,
    generation=_INTEGER,
    creationTimestamp=_TIME,
    deletionTimestamp=_TIME,
    deletionGracePeriodSeconds=_INTEGER,
    labels=_STRINGS,
    annotations=_STRINGS,
    ownerReferences=_array(
        _object(
            apiVersion=_STRING,
            kind=_STRING,
            name=_STRING,
            uid=_STRING,
            controller=_BOOLEAN,
            blockOwnerDeletion=_BOOLEAN,
        )
    ),
    finalizers=_array(_STRING),
    managedFields=_array(
        _object(
            manager=_STRING,
            operation=_STRING,
            apiVersion=_STRING,
            time=_TIME,
            fieldsType=_STRING,
            fieldsV1=_OBJECT,
            subresource=_STRING,
        )
    ),
)

_EXPECTED: dict[str, tuple[Any, str]] = {
    "string": (str, "must be a string; put it in quotes"),
    "boolean": (bool, "must be true or false"),
    "integer": (int, "must be an integer"),
    "object": (Mapping, "must be an object"),
    "array": (list, "must be a list"),
}
_WORD = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(f"({_WORD})?")
_NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SECONDS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)")
_A_QUALIFIED_NAME = "must be up to 63 letters, digits, dashes, dots and underscores, perhaps after a domain and a slash"


def metadata_problems(metadata: Any) -> list[ReadingProblem]:
    """Empty for metadata that the API server takes; a value of the wrong type is not looked at any further."""
    wrong_types = list(_wrong_types(metadata, METADATA, "metadata"))
    problems = wrong_types or list(_wrong_values(metadata or {}))
    return problems[:MOST_PROBLEMS]


def _wrong_types(value: Any, schema: Schema, path: str) -> Iterator[ReadingProblem]:
    """A null is as good as nothing, as everywhere in Kubernetes."""
    if value is None:
        return

    expected, message = _EXPECTED[schema["type"]]
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        yield ReadingProblem(path, f"{path} {message}")
    elif schema.get("format") and not _is_time(value):
        yield ReadingProblem(path, f"{path} must be a time such as 2026-01-31T12:00:00Z")
    else:
        for inner, field, inner_path in _members(value, schema, path):
            yield from _wrong_types(inner, field, inner_path)


def _members(value: Any, schema: Schema, path: str) -> Iterator[tuple[Any, Schema, str]]:
    """What is known to be in a value, with its schema and path."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield item, schema["items"], f"{path}[{position}]"
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if field := schema.get("properties", {}).get(name) or schema.get("additionalProperties"):
                yield item, field, member(path, name)


def member(path: str, name: str) -> str:
    """The path of a member, whose name is in brackets when it is not a plain word."""
    shortened = name[:LONGEST_NAME]
    return f"{path}.{shortened}" if re.fullmatch("[A-Za-z0-9]+", name) else f"{path}[{shortened}]"


def _is_time(value: str) -> bool:
    match = _SECONDS.fullmatch(value)
    try:
        return match is not None and bool(datetime.fromisoformat(match[1]))
    except ValueError:
        return False


def _wrong_values(metadata: Mapping[str, Any]) -> Iterator[ReadingProblem]:
    namespace = metadata.get("namespace")
    if namespace and not _NAMESPACE.fullmatch(namespace):
        limit = "must be up to 63 lower-case letters, digits and dashes, as no other namespace can exist"
        yield ReadingProblem("metadata.namespace", f"metadata.namespace {limit}")

    yield from _wrong_labels(metadata.get("labels") or {})
    yield from _wrong_annotations(metadata.get("annotations") or {})

    for position, finalizer in enumerate(metadata.get("finalizers") or []):
        if not is_qualified_name(finalizer or ""):
            path = f"metadata.finalizers[{position}]"
            yield ReadingProblem(path, f"{path} {_A_QUALIFIED_NAME}")

    yield from _wrong_owners(metadata.get("ownerReferences") or [])


def _wrong_labels(labels: Mapping[str, str | None]) -> Iterator[ReadingProblem]:
    for key, value in labels.items():
        path = member("metadata.labels", key)
        if not is_qualified_name(key):
            yield ReadingProblem(path, f"the key of {path} {_A_QUALIFIED_NAME}")
        if not _VALUE.fullmatch(value or ""):
            yield ReadingProblem(path, f"{path} must be up to 63 letters, digits, dashes, dots and underscores")


def _wrong_annotations(annotations: Mapping[str, str | None]) -> Iterator[ReadingProblem]:
    for key in annotations:
        if not is_qualified_name(key.lower()):
            path = member("metadata.annotations", key)
            yield ReadingProblem(path, f"the key of {path} {_A_QUALIFIED_NAME}")

    size = sum(len(key.encode()) + len((value or "").encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_BYTES:
        path = "metadata.annotations"
        yield ReadingProblem(path, f"{path} must have at most {ANNOTATIONS_BYTES} bytes in all")


def _wrong_owners(owners: list[Any]) -> Iterator[ReadingProblem]:
    for position, owner in enumerate(owners):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not (owner or {}).get(name):
                path = f"metadata.ownerReferences[{position}].{name}"
                yield ReadingProblem(path, f"{path} is required")

    controllers = [owner for owner in owners if (owner or {}).get("controller")]
    if len(controllers) > 1:
        yield ReadingProblem("metadata.ownerReferences", "metadata.ownerReferences must have at most one controller")
