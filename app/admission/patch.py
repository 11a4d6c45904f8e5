"""Computes the smallest JSON Patch (RFC 6902) from one JSON object to another. Never applies one."""

from collections.abc import Iterator, Mapping
from typing import Any

Operation = dict[str, Any]

_ABSENT = object()


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Operation]:
    """Compares objects member by member; replaces anything else that differs, a list too, as a whole."""
    return list(_compare(before, after, ""))


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Operation]:
    for name in sorted(before.keys() - after.keys()):
        yield {"op": "remove", "path": _pointer(at, name)}

    for name, value in after.items():
        path = _pointer(at, name)
        if value is before.get(name, _ABSENT):
            continue

        if name not in before:
            yield {"op": "add", "path": path, "value": value}
        elif isinstance(value, Mapping) and isinstance(before[name], Mapping):
            yield from _compare(before[name], value, path)
        elif value != before[name] or type(value) is not type(before[name]):
            yield {"op": "replace", "path": path, "value": value}


def _pointer(at: str, name: str) -> str:
    """Returns the JSON Pointer (RFC 6901) of a member."""
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
