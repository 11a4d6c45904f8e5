"""What core/v1 says of a value: fields that do not exist, wrong types, requests above limits. The data is in `core_v1`.

It knows less than an API server, which has the last word wherever it can be asked.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from app.storage import quantity
from app.storage.core_v1 import CORE_V1, KUBERNETES
from app.storage.finding import Finding, rejection
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.reading import closest_field, field_name

MOST_VIOLATIONS = 10

Schema = Mapping[str, Any]

_LONGEST_QUANTITY = 64
_INT64 = range(-(2**63), 2**63)


def violations(kind: str, value: Any, path: str) -> list[Finding]:
    """Why a value without nulls is no `kind` of core/v1, such as SecurityContext; the first ten reasons."""
    wrong = list(islice(_violations({"$ref": kind}, value, path), MOST_VIOLATIONS))
    if kind == "ResourceRequirements" and not wrong:
        wrong = list(islice(_request_violations(value, path), MOST_VIOLATIONS))
    return wrong


def _violations(schema: Schema, value: Any, path: str) -> Iterator[Finding]:
    if "$ref" in schema:
        yield from _type_violations(schema["$ref"], value, path)
        return

    expected, fits = _EXPECTED[schema["type"]]
    if not fits(value):
        yield rejection(path, f"{field_name(path)} must be {expected}")
    elif value not in schema.get("enum", [value]):
        yield rejection(path, f"{field_name(path)} must be {' or '.join(map(repr, schema['enum']))}")
    else:
        yield from _nested_violations(schema, value, path)


def _nested_violations(schema: Schema, value: Any, path: str) -> Iterator[Finding]:
    for index, item in enumerate(value if "items" in schema else ()):
        # In a list a null stands for an empty value.
        if item is not None:
            yield from _violations(schema["items"], item, f"{path}[{index}]")

    for key, item in value.items() if "additionalProperties" in schema else ():
        yield from _violations(schema["additionalProperties"], item, f"{path}[{key[:MAX_NAME_CHARACTERS]}]")


def _type_violations(kind: str, value: Any, path: str) -> Iterator[Finding]:
    if not isinstance(value, Mapping):
        yield rejection(path, f"{field_name(path)} must be an object")
        return

    for name, item in value.items():
        field = CORE_V1[kind].get(name)
        if field is None:
            yield _unknown_field(kind, name[:MAX_NAME_CHARACTERS], path)
        else:
            yield from _violations(field, item, f"{path}.{name}")


def _unknown_field(kind: str, name: str, path: str) -> Finding:
    closest = closest_field(name, CORE_V1[kind])
    advice = f"; did you mean {closest}?" if closest else ""
    where = f"{path}.{name}"
    return rejection(where, f"{field_name(where)} is not a field of a {kind} in Kubernetes {KUBERNETES}{advice}")


def _request_violations(resources: Mapping[str, Any], path: str) -> Iterator[Finding]:
    """Compares requests with limits, which no schema does (validateContainerResourceRequirements)."""
    limits = resources.get("limits", {})
    for name, request in resources.get("requests", {}).items():
        resource, overcommitted = name[:MAX_NAME_CHARACTERS], _can_be_overcommitted(name)

        if name not in limits:
            if not overcommitted:
                text = f"resources.limits lacks {resource}, which cannot be overcommitted: limit it to what it requests"
                yield rejection(f"{path}.limits", text)
            continue

        limit = limits[name]
        if _comparable(request) > _comparable(limit):
            text = f"resources.requests has {request} of {resource}, which is above its limit of {limit}"
            yield rejection(f"{path}.requests", text)
        elif not overcommitted and _comparable(request) != _comparable(limit):
            text = f"resources.requests has {request} of {resource}, which has to be its limit of {limit}"
            yield rejection(f"{path}.requests", text)


def _can_be_overcommitted(resource: str) -> bool:
    """Whether a pod may use more of it than it asks for: Kubernetes' own resources but for huge pages."""
    extended = "/" in resource and "kubernetes.io/" not in resource
    return not extended and not resource.startswith("hugepages-")


def _is_quantity(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        return len(str(value)) <= _LONGEST_QUANTITY and _comparable(value) is not None
    except ValueError:
        return False


def _comparable(value: str | float) -> Decimal:
    """The amount of a quantity, which may be a number and have spaces around it. Raises ValueError."""
    return quantity.parse_exact(str(value).strip(" "))


_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "integer": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool) and value in _INT64),
    "array": ("a list", lambda value: isinstance(value, list)),
    "quantity": ("a quantity, such as 500m or 2Gi", _is_quantity),
    "object": ("an object", lambda value: isinstance(value, Mapping)),
}
