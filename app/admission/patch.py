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
        old = before.get(name, _ABSENT)
        if value is old:
            continue

        path = _pointer(at, name)
        if old is _ABSENT:
            yield {"op": "add", "path": path, "value": value}
        elif isinstance(value, dict) and isinstance(old, dict):
            yield from _compare(old, value, path)
        elif value != old or type(value) is not type(old):
            yield {"op": "replace", "path": path, "value": value}


def _pointer(at: str, name: str) -> str:
    """Returns the JSON Pointer (RFC 6901) of a member."""
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
