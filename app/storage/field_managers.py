"""Tells from managedFields who wrote which fields of an object. Whoever may write the object can forge them."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from app.storage.difference import MAX_ENTRIES, path_step
from app.storage.finding import one_line

MAX_MANAGERS = 3
MAX_MANAGER_CHARACTERS = 60

_ANY_ITEM = re.compile(r"\[[^]]*\]")


def field_managers(live: Mapping[str, Any], paths: Collection[str], ours: str) -> tuple[str, ...]:
    """Returns who else than `ours` manages a field at one of the paths, which come from `changed_fields`, or within it.

    A field that somebody has removed is managed by nobody.
    """
    managers: dict[str, None] = {}
    for entry in live["metadata"].get("managedFields") or ():
        name = one_line(str(entry.get("manager") or ""))[:MAX_MANAGER_CHARACTERS]
        # Those of kubectl scale are not of the status, as those of controllers are.
        if not name or name == ours or entry.get("subresource") == "status":
            continue

        fields = entry.get("fieldsV1")
        if fields and any(_contain(fields, f".{path}") for path in paths):
            managers[name] = None
    return tuple(managers)[:MAX_MANAGERS]


def _contain(fields: Mapping[str, Any], path: str) -> bool:
    """Tells whether the fields have something at the rest of a path; a field without fields of its own has all."""
    if not path or not fields:
        return True
    if len(fields) > MAX_ENTRIES:
        return False

    for key, inner in fields.items():
        rest = _rest(key, path)
        if rest is not None and _contain(inner, rest):
            return True
    return False


def _rest(key: str, path: str) -> str | None:
    """Returns the path after the step of the key; None where the path goes elsewhere."""
    prefix, _, name = key.partition(":")
    if prefix == "k":
        try:
            identity = json.loads(name)
        except ValueError:
            return None
        if not isinstance(identity, dict) or "name" not in identity:
            # Such as the number of a port, which paths name by its name.
            item = _ANY_ITEM.match(path)
            return path[item.end() :] if item else None
        name = f"[{identity['name']}]"
    elif prefix != "f":
        return None

    step = path_step(name)
    rest = path.removeprefix(step)
    return rest if rest != path and rest[:1] in ("", ".", "[") else None
