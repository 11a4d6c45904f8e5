"""Checks a value against its type in `core_v1`: unknown fields, wrong types, requests above limits."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import Any

from app.storage import quantity
from app.storage.finding import Finding, rejection
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.reading import closest_field, field_name
from app.storage.schema import Schema

MAX_VIOLATIONS = 10
# No type of core/v1 is nested as deep, and what recurses into a value could not follow it any further.
MAX_LEVELS = 16

_MAX_QUANTITY_CHARACTERS = 64
_INT64 = range(-(2**63), 2**63)


def fields_of(kind: str) -> Mapping[str, Schema]:
    """Returns the fields of a type of core/v1."""
    fields: Mapping[str, Schema] = _core_v1().CORE_V1[kind]
    return fields


@cache
def _core_v1() -> ModuleType:
    """Imports the types once a server needs them: most never do."""
    return import_module("app.storage.core_v1")


# An API server checks more, and has the last word wherever it can be asked.
def violations(schema: Schema, value: Any, path: str) -> list[Finding]:
    """Returns why a value without nulls is not what the schema says, such as a SecurityContext; the first ten reasons.

    The schema is one of `core_v1`.
    """
    findings = list(islice(_violations(schema, value, path), MAX_VIOLATIONS))
    if schema != {"$ref": "ResourceRequirements"} or findings:
        return findings

    # No schema compares requests with limits (validateContainerResourceRequirements).
    limits = value.get("limits", {})
    for name, request in value.get("requests", {}).items():
        resource = name[:MAX_NAME_CHARACTERS]

        # A pod may use more than it requests of Kubernetes' own resources, except for huge pages.
        is_extended = "/" in name and "kubernetes.io/" not in name
        can_be_overcommitted = not is_extended and not name.startswith("hugepages-")

        if name not in limits:
            if not can_be_overcommitted:
                text = f"resources.limits lacks {resource}, which cannot be overcommitted: limit it to what it requests"
                findings.append(rejection(f"{path}.limits", text))
            continue

        amount, max_amount = _parse_quantity(request), _parse_quantity(limits[name])
        if amount > max_amount or (amount < max_amount and not can_be_overcommitted):
            problem = "is above" if amount > max_amount else "has to be"
            text = f"resources.requests has {request} of {resource}, which {problem} its limit of {limits[name]}"
            findings.append(rejection(f"{path}.requests", text))
    return findings[:MAX_VIOLATIONS]


def is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_LEVELS):
        children: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                children += item.values()
            elif isinstance(item, list):
                children += item
        level = children
    return bool(level)


def _violations(schema: Schema, value: Any, path: str) -> Iterator[Finding]:
    expected, fits = _EXPECTED[schema.get("type", "object")]
    if not fits(value):
        yield rejection(path, f"{field_name(path)} must be {expected}")
    elif value not in schema.get("enum", [value]):
        yield rejection(path, f"{field_name(path)} must be {' or '.join(map(repr, schema['enum']))}")
    elif "items" in schema:
        # In a list a null stands for an empty value.
        for index, item in ((index, item) for index, item in enumerate(value) if item is not None):
            yield from _violations(schema["items"], item, f"{path}[{index}]")
    elif "additionalProperties" in schema:
        for key, item in value.items():
            yield from _violations(schema["additionalProperties"], item, f"{path}[{key[:MAX_NAME_CHARACTERS]}]")
    elif kind := schema.get("$ref"):
        for name, item in value.items():
            item_path = f"{path}.{name[:MAX_NAME_CHARACTERS]}"
            if field := fields_of(kind).get(name):
                yield from _violations(field, item, item_path)
                continue

            closest = closest_field(name[:MAX_NAME_CHARACTERS], fields_of(kind))
            advice = f"; did you mean {closest}?" if closest else ""
            problem = f"{field_name(item_path)} is not a field of a {kind} in Kubernetes {_core_v1().KUBERNETES}"
            yield rejection(item_path, f"{problem}{advice}")


def _is_quantity(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        return len(str(value)) <= _MAX_QUANTITY_CHARACTERS and _parse_quantity(value) is not None
    except ValueError:
        return False


def _parse_quantity(value: str | float) -> Decimal:
    """Parses a quantity, which may be a number and may have spaces around it. Raises ValueError."""
    return quantity.parse_exact(str(value).strip(" "))


_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "integer": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool) and value in _INT64),
    "array": ("a list", lambda value: isinstance(value, list)),
    "intOrString": (
        "an integer or a string",
        lambda value: isinstance(value, int | str) and not isinstance(value, bool),
    ),
    "quantity": ("a quantity, such as 500m or 2Gi", _is_quantity),
    "object": ("an object", lambda value: isinstance(value, Mapping)),
}
