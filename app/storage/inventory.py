"""The volumes of a server as a person reads them: what is asked for, what there is, and what is being done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.live import LiveState
from app.storage.resize import Phase, VolumeState, volume_states
from app.storage.spec import DittoServer
from app.storage.volumes import class_difference, storage_class_of, volumes

UNKNOWN = "Unknown"

Recorded = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Entry:
    """One volume; `requested` is what the spec asks for. None is what there is not, or what nobody could find out."""

    name: str
    claim: str
    requested: str | None
    storage_class: str | None
    capacity: str | None
    phase: str
    message: str = ""


def inventory(server: DittoServer, manifest: Mapping[str, Any], live_state: LiveState | None) -> list[Entry]:
    """Of the server that the manifest was read as; without a situation as its status has it."""
    status = manifest.get("status") or {}
    recorded = {each.get("name", ""): each for each in status.get("volumes") or []}
    if live_state is None:
        return _as_recorded(server, recorded)
    is_current = status.get("observedGeneration") == manifest["metadata"].get("generation")
    said = recorded if is_current else {}
    return [
        _entry(state, said.get(state.volume.name, {}), server, live_state)
        for state in volume_states(server, live_state)
    ]


def _as_recorded(server: DittoServer, recorded: Recorded) -> list[Entry]:
    found = [(volume, recorded.get(volume.name, {})) for volume in volumes(server.spec.storage) if volume.size]
    return [
        Entry(
            name=volume.name,
            claim=volume.claim_name(server.metadata.name),
            requested=volume.size,
            storage_class=said.get("storageClass"),
            capacity=said.get("capacity"),
            phase=said.get("phase") or UNKNOWN,
            message=said.get("message") or "",
        )
        for volume, said in found
    ]


def _entry(state: VolumeState, said: Mapping[str, Any], server: DittoServer, live_state: LiveState) -> Entry:
    phase, message = _told(state, said)
    other = class_difference(state.claim, server.spec.storage) if state.claim else ""
    if other not in message:
        message = "; ".join(filter(None, (message, other)))
    return Entry(
        name=state.volume.name,
        claim=state.volume.claim_name(server.metadata.name),
        requested=state.volume.size,
        storage_class=storage_class_of(server.spec.storage, state.claim, live_state.classes),
        capacity=state.claim.capacity if state.claim else None,
        phase=phase,
        message=message,
    )


def _told(state: VolumeState, said: Mapping[str, Any]) -> tuple[str, str]:
    """What the operator has said counts where it alone can know: what it was refused, and what a claim waits for."""
    refused = state.request is not None and said.get("phase") == Phase.RESIZE_REFUSED
    waits = not state.message and said.get("phase") == state.phase
    if refused or waits:
        return said["phase"], said.get("message") or ""
    return state.phase, state.message
