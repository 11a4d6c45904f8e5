"""Derives the Events of a DittoServer from its conditions. It sends none: that is left to `app.cluster.events`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.storage.pause import PAUSED
from app.storage.problem import SERVICE_MISSING, SERVICE_OUTDATED, SERVICE_TERMINATING
from app.storage.shares import SHARE_FAILED, SHARE_RETAINED
from app.storage.stores import NO_SHARE
from app.storage.unstructured import Manifest
from app.storage.volume_states import EXPANSION_PHASES, Phase

Conditions = Mapping[str, Mapping[str, Any]]

# Reasons of Reconciling that say why something is not written.
_HELD_BACK = (
    "WriteFailed",
    SERVICE_MISSING,
    SERVICE_OUTDATED,
    SERVICE_TERMINATING,
    "ConfigMapTerminating",
)
# Reasons of StorageReady that deserve no Event: they are normal, or Stalled reports them.
_NO_EVENT = ("Bound", "ClaimPending", *Phase)


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about a server."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


# Called with the object that the Event is about.
EventSink = Callable[[Manifest, Event], None]


def transition_events(before: Conditions, after: Conditions) -> Iterator[Event]:
    """Yields what an administrator should learn from a change of the conditions; unchanged conditions yield nothing."""
    for kind, bad in (("Stalled", "True"), ("CredentialsReady", "False"), ("CredentialsReady", "Unknown")):
        condition = after[kind]
        # A pause has an Event of its own, and no Secret has to be seen to.
        is_news = condition["reason"] not in ("NotRead", PAUSED) and is_new(condition, before.get(kind))
        if condition["status"] == bad and is_news:
            yield Event("Warning", condition["reason"], condition["message"])

    storage, earlier_storage = after["StorageReady"], before.get("StorageReady")
    if storage["reason"] not in _NO_EVENT and is_new(storage, earlier_storage):
        yield Event("Warning", storage["reason"], storage["message"])

    was_paused = before.get("Reconciling", {}).get("reason") == PAUSED
    if (after["Reconciling"]["reason"] == PAUSED) != was_paused:
        resumed = "the operator works on the server again"
        yield Event("Normal", *(("Resumed", resumed) if was_paused else (PAUSED, after["Reconciling"]["message"])))

    reconciling = after["Reconciling"]
    if reconciling["reason"] in _HELD_BACK and is_new(reconciling, before.get("Reconciling")):
        yield Event("Warning", reconciling["reason"], reconciling["message"])

    stores = after.get("StoresReady")
    if stores and stores["status"] == "False" and is_new(stores, before.get("StoresReady")):
        # A server without a share is a new one, and nothing is wrong with it.
        yield Event("Normal" if stores["reason"] == NO_SHARE else "Warning", stores["reason"], stores["message"])


def expansion_events(before: Conditions, after: Conditions, volumes: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Yields the end of an expansion with the sizes of the volumes, which are those in the status."""
    was_expanding = (before.get("StorageReady") or {}).get("reason") in EXPANSION_PHASES
    if was_expanding and after["StorageReady"]["status"] == "True":
        sizes = ", ".join(f"{volume['name']} {volume.get('capacity')}" for volume in volumes)
        yield Event("Normal", "Resized", f"every volume has the size that the spec asks for: {sizes}")


def share_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    """Yields what a person should learn from a change of status.shares."""
    earlier = {entry["name"]: entry for entry in before.get("shares") or ()}
    for entry in after.get("shares") or ():
        was = earlier.get(entry["name"]) or {}
        if entry["phase"] == "Retained" != was.get("phase"):
            yield Event("Normal", SHARE_RETAINED, entry.get("message", ""))
        if entry["phase"] == "Ready" and was.get("phase") == "Failed":
            yield Event("Normal", "Recovered", f"share {entry['name']} is as the spec asks for")
        if entry["phase"] == "Failed" and entry.get("message") != was.get("message"):
            yield Event("Warning", SHARE_FAILED, f"share {entry['name']}: {entry.get('message', '')}")


def rollout_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    """Yields what an administrator should learn from a change of the status about a rollout that is pending."""
    message = after.get("pendingRollout")
    if message and message != before.get("pendingRollout"):
        yield Event("Normal", "RolloutPending", message)


def is_new(condition: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> bool:
    """Tells whether a condition says something else than before, apart from the time and the generation."""
    return not earlier or any(condition[name] != earlier[name] for name in ("status", "reason", "message"))
