"""The fields in which two specs differ, and a spec in which only one of them has changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.storage.unstructured import Manifest

# A null that is written out: in a podTemplate it removes what the operator or Kubernetes would set.
NULL: Any = object()

_MAX_VALUE_CHARACTERS = 60
_POD_TEMPLATE = "podTemplate"


@dataclass(frozen=True)
class FieldChange:
    """A change of one field of the spec, or of a section that comes or goes; None is a field that is not there.

    A step of the path such as [sidecar] is the entry of a list that has this name.
    """

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def field(self) -> str:
        return ".".join(self.path).replace(".[", "[")


def field_changes(old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[FieldChange]:
    """Yields a section that comes or goes as one change: its fields may make no sense one by one."""
    is_pod = path[:1] == (_POD_TEMPLATE,)
    for name in {**old, **new}:
        before, after = (NULL if is_pod and side.get(name, ...) is None else side.get(name) for side in (old, new))
        if is_pod and _is_named(before) and _is_named(after):
            before, after = _by_name(before), _by_name(after)

        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from field_changes(before, after, (*path, name))
        elif before != after:
            yield FieldChange((*path, name), before, after)


def with_field(section: Mapping[str, Any], path: Sequence[str], value: Any) -> Manifest:
    """Returns the section with one field changed as a FieldChange says."""
    head, *rest = path
    if rest:
        inner = section.get(head) or {}
        if isinstance(inner, list):
            return {**section, head: list(with_field(_by_name(inner), rest, value).values())}
        return {**section, head: with_field(inner, rest, value)}
    if value is None:
        return {name: item for name, item in section.items() if name != head}
    return {**section, head: None if value is NULL else value}


def format_value(value: Any) -> str:
    if value is None:
        return "unset"
    text = "null" if value is NULL else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[: _MAX_VALUE_CHARACTERS - 1]}…"


def _is_named(value: Any) -> bool:
    """Tells whether it is a list of entries with names of their own, such as containers, which are merged by them."""
    if not isinstance(value, list) or not value:
        return False
    names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
    return all(isinstance(name, str) for name in names) and len({*names}) == len(names)


def _by_name(items: Any) -> Manifest:
    return {f"[{item['name']}]": item for item in items}
