"""Describes a request that has changed an object in the cluster, by which fields and why. Values never appear in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from app.storage.difference import APPLIED

Verb = Literal["create", "apply", "patch", "merge", "replace", "delete"]


class WriteCause(StrEnum):
    """Tells why an object that exists was written."""

    DESIRED = "desired"  # Something else is desired than before.
    DRIFT = "drift"  # Somebody else changed what was applied last.
    ADOPTION = "adoption"  # It was never applied by this operator.


@dataclass(frozen=True)
class ObjectWrite:
    """A write that has worked. `fields` are the paths that differ since, empty where the object is new or gone.

    `changed_by` are the field managers that wrote these fields before, as far as the API server tells.
    """

    verb: Verb
    kind: str
    namespace: str
    name: str
    fields: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    cause: WriteCause = WriteCause.DESIRED
    changed_by: tuple[str, ...] = ()


def write_cause(desired: Mapping[str, Any], live: Mapping[str, Any]) -> WriteCause:
    """Tells why an object has to be written that differs from `desired`, which comes from `marked`."""
    applied, before = ((manifest["metadata"].get("annotations") or {}).get(APPLIED) for manifest in (desired, live))
    if before is None:
        return WriteCause.ADOPTION
    return WriteCause.DRIFT if before == applied else WriteCause.DESIRED
