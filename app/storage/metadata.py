"""Checks the metadata of a manifest (ObjectMeta of meta/v1) by the rules of apimachinery's ValidateObjectMeta."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from app.storage.finding import Finding, rejection
from app.storage.names import MAX_NAME_CHARACTERS, is_label_value, is_qualified_name
from app.storage.schema import Schema

MAX_ANNOTATIONS_BYTES = 256 * 1024
MAX_ERRORS = 20

_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_INTEGER: Schema = {"type": "integer"}
_STRINGS: Schema = {"type": "object", "additionalProperties": _STRING}
_TIME: Schema = {"type": "string", "format": "date-time"}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


_OWNER_REFERENCE = _object(
    apiVersion=_STRING, kind=_STRING, name=_STRING, uid=_STRING, controller=_BOOLEAN, blockOwnerDeletion=_BOOLEAN
)
_MANAGED_FIELDS_ENTRY = _object(
    **dict.fromkeys(("manager", "operation", "apiVersion", "fieldsType", "subresource"), _STRING),
    time=_TIME,
    fieldsV1={"type": "object"},
)
METADATA_SCHEMA = _object(
    **dict.fromkeys(("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion"), _STRING),
    **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), _INTEGER),
    **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), _TIME),
    **dict.fromkeys(("labels", "annotations"), _STRINGS),
    ownerReferences=_array(_OWNER_REFERENCE),
    finalizers=_array(_STRING),
    managedFields=_array(_MANAGED_FIELDS_ENTRY),
)

_EXPECTED: dict[str, tuple[Any, str]] = {
    "string": (str, "must be a string; put it in quotes"),
    "boolean": (bool, "must be true or false"),
    "integer": (int, "must be an integer"),
    "object": (Mapping, "must be an object"),
    "array": (list, "must be a list"),
}
_NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SECONDS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)")
_NAMESPACE_LIMIT = "must be up to 63 lower-case letters, digits and dashes, as no other namespace can exist"
_LABEL_LIMIT = "must be up to 63 letters, digits, dashes, dots and underscores"
_QUALIFIED_NAME_LIMIT = f"{_LABEL_LIMIT}, perhaps after a domain and a slash"


# A review needs none of this: the API server checks metadata before it calls a webhook.
def metadata_errors(metadata: Any) -> list[Finding]:
    """Returns nothing for metadata that the API server accepts; values of the wrong type hide all other errors."""
    errors = list(_type_errors(metadata, METADATA_SCHEMA, "metadata")) or list(_value_errors(metadata or {}))
    return errors[:MAX_ERRORS]


def field_path(parent: str, name: str) -> str:
    """Returns the path of a field, whose name is in brackets when it is not a plain word."""
    shortened = name[:MAX_NAME_CHARACTERS]
    return f"{parent}.{shortened}" if re.fullmatch("[A-Za-z0-9]+", name) else f"{parent}[{shortened}]"


def _type_errors(value: Any, schema: Schema, path: str) -> Iterator[Finding]:
    # As everywhere in Kubernetes, a null stands for a field that was left out.
    if value is None:
        return

    expected, message = _EXPECTED[schema["type"]]
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        yield rejection(path, f"{path} {message}")
    elif schema.get("format") and not _is_time(value):
        yield rejection(path, f"{path} must be a time such as 2026-01-31T12:00:00Z")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _type_errors(item, schema["items"], f"{path}[{position}]")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if field := schema.get("properties", {}).get(name) or schema.get("additionalProperties"):
                yield from _type_errors(item, field, field_path(path, name))


def _is_time(value: str) -> bool:
    match = _SECONDS.fullmatch(value)
    try:
        return match is not None and bool(datetime.fromisoformat(match[1]))
    except ValueError:
        return False


def _value_errors(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    namespace = metadata.get("namespace")
    if namespace and not _NAMESPACE.fullmatch(namespace):
        yield rejection("metadata.namespace", f"metadata.namespace {_NAMESPACE_LIMIT}")

    for key, value in (metadata.get("labels") or {}).items():
        path = field_path("metadata.labels", key)
        if not is_qualified_name(key):
            yield rejection(path, f"the key of {path} {_QUALIFIED_NAME_LIMIT}")
        if not is_label_value(value or ""):
            yield rejection(path, f"{path} {_LABEL_LIMIT}")

    annotations: Mapping[str, str | None] = metadata.get("annotations") or {}
    for key in annotations:
        if not is_qualified_name(key.lower()):
            path = field_path("metadata.annotations", key)
            yield rejection(path, f"the key of {path} {_QUALIFIED_NAME_LIMIT}")

    size = sum(len(key.encode()) + len((value or "").encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        path = "metadata.annotations"
        yield rejection(path, f"{path} must have at most {MAX_ANNOTATIONS_BYTES} bytes in all")

    for position, finalizer in enumerate(metadata.get("finalizers") or []):
        if not is_qualified_name(finalizer or ""):
            path = f"metadata.finalizers[{position}]"
            yield rejection(path, f"{path} {_QUALIFIED_NAME_LIMIT}")

    yield from _owner_reference_errors(metadata.get("ownerReferences") or [])


def _owner_reference_errors(references: list[Any]) -> Iterator[Finding]:
    for position, reference in enumerate(references):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not (reference or {}).get(name):
                path = f"metadata.ownerReferences[{position}].{name}"
                yield rejection(path, f"{path} is required")

    controllers = [reference for reference in references if (reference or {}).get("controller")]
    if len(controllers) > 1:
        yield rejection("metadata.ownerReferences", "metadata.ownerReferences must have at most one controller")
