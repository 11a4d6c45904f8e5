"""The smallest JSON Patch (RFC 6902) from one JSON object to another."""

from collections.abc import Iterator, Mapping
from typing import Any

Operation = dict[str, Any]

_NOTHING = object()


def patch(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> list[Operation]:
    """Objects are compared member by member; anything else that differs, a list too, is replaced as a whole."""
    return list(_operations(before, after, at))


def _operations(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Operation]:
    for name in sorted(before.keys() - after.keys()):
        yield {"op": "remove", "path": _member(at, name)}
    for name, value in after.items():
        path = _member(at, name)
        if value is before.get(name, _NOTHING):
            continue
        if name not in before:
            yield {"op": "add", "path": path, "value": value}
        elif isinstance(value, Mapping) and isinstance(before[name], Mapping):
            yield from _operations(before[name], value, path)
        elif value != before[name] or type(value) is not type(before[name]):
            yield {"op": "replace", "path": path, "value": value}


def _member(at: str, name: str) -> str:
    """A JSON Pointer (RFC 6901) to a member."""
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
