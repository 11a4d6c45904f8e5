"""Tells in what two states of a DittoServer's status differ, for the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.difference import changed_paths
from app.storage.status import conditions


@dataclass(frozen=True)
class StatusChange:
    """`conditions` has the status and the reason of each condition that changed, by type.

    `message` explains the first of them, Ready before all others; `fields` are the paths of what else differs.
    """

    conditions: Mapping[str, str]
    message: str
    fields: tuple[str, ...]


def status_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> StatusChange:
    """Compares two states of a status; either may be empty, and the earlier one may be anybody's."""
    earlier, now = conditions({"status": before}), conditions({"status": after})
    changed = {
        kind: condition
        for kind, condition in now.items()
        if any(condition[name] != earlier.get(kind, {}).get(name) for name in ("status", "reason", "message"))
    }
    first = changed.get("Ready") or next(iter(changed.values()), None)
    sides = [{name: value for name, value in side.items() if name != "conditions"} for side in (before, after)]

    return StatusChange(
        {kind: f"{condition['status']} {condition['reason']}" for kind, condition in changed.items()},
        first["message"] if first else "",
        changed_paths(*sides),
    )
