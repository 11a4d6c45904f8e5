"""Tells how each volume of a server is and what its claim needs, for the status, `df`, `plan` and expansions alike."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from app.storage import quantity
from app.storage.database import database_volume
from app.storage.facts import Claim, ObjectReference
from app.storage.live import LiveState
from app.storage.objects import OPERATOR
from app.storage.reading import field_name
from app.storage.rollout import is_observed
from app.storage.spec import DittoServer
from app.storage.volumes import Volume, class_difference, storage_class_of, volumes, why_not_resizable

# On a DittoServer, with the value `never`: its pod is not restarted for a file system that cannot grow while in use.
RESTART_FOR_RESIZE = "dittofs.io/restart-for-resize"


class Phase(StrEnum):
    """The phase of a volume: that of its claim (the first three), or what is being done to it."""

    PENDING = "Pending"
    LOST = "Lost"
    BOUND = "Bound"
    TERMINATING = "Terminating"
    MISSING = "Missing"
    UNKNOWN = "Unknown"
    RESIZING = "Resizing"
    FILE_SYSTEM_RESIZE_PENDING = "FileSystemResizePending"
    RESIZE_REFUSED = "ResizeRefused"


EXPANSION_PHASES = (Phase.RESIZING, Phase.FILE_SYSTEM_RESIZE_PENDING, Phase.RESIZE_REFUSED)


@dataclass(frozen=True)
class VolumeState:
    """A volume of a server; `claim` is None when there is none or nobody could look.

    `storage_class` is the class that the claim has or will have, and `class_difference` says that the spec names
    another one. `request` is the size that the claim is to ask for from now on, None when the claim stays as it is.
    A `larger` claim asks for more than the spec does, and nothing is done about it.
    """

    volume: Volume
    claim_name: str
    claim: Claim | None = None
    storage_class: str | None = None
    capacity: str | None = None
    phase: Phase = Phase.UNKNOWN
    message: str = ""
    class_difference: str = ""
    request: str | None = None
    larger: bool = False

    @property
    def data_source(self) -> ObjectReference | None:
        """The object that the claim is restored from, or will be: a claim that exists has one of its own or none."""
        return self.claim.data_source if self.claim else self.volume.data_source

    def explain(self, cause: str | None = None) -> str:
        """Returns what a person should know about the volume: the cause, by default its message, and its class."""
        message = cause or self.message
        if self.class_difference in message:
            return message
        return "; ".join(filter(None, (message, self.class_difference)))


def volume_states(server: DittoServer, live: LiveState) -> tuple[VolumeState, ...]:
    """Returns the state of every volume of the server, in the order of the claim templates."""
    wanted = [volume for volume in volumes(server.spec.storage) if volume.size]
    database = database_volume(server, live)
    return tuple(_volume_state(volume, server, live) for volume in (*wanted, *filter(None, [database])))


def reported_states(
    server: DittoServer, manifest: Mapping[str, Any], live: LiveState | None
) -> tuple[VolumeState, ...]:
    """Returns the states together with what only the operator knows, such as why the API server rejected an expansion.

    The status of the raw DittoServer has that. Without a LiveState it is all that is known.
    """
    status = manifest.get("status") or {}
    entries = {entry.get("name", ""): entry for entry in status.get("volumes") or []}
    if live is None:
        return tuple(
            _from_status(volume, server.metadata.name, entries.get(volume.name, {}))
            for volume in volumes(server.spec.storage)
            if volume.size
        )

    states = volume_states(server, live)
    if status.get("observedGeneration") != manifest["metadata"].get("generation"):
        return states

    reported = []
    for state in states:
        entry = entries.get(state.volume.name, {})
        is_rejected = state.request is not None and entry.get("phase") == Phase.RESIZE_REFUSED
        waits = not state.message and entry.get("phase") == state.phase
        if is_rejected or waits:
            reported.append(replace(state, phase=Phase(entry["phase"]), message=entry.get("message") or ""))
        else:
            reported.append(state)
    return tuple(reported)


def _from_status(volume: Volume, server: str, entry: Mapping[str, Any]) -> VolumeState:
    phase = entry.get("phase") or ""
    return VolumeState(
        volume=volume,
        claim_name=volume.claim_name(server),
        storage_class=entry.get("storageClass"),
        capacity=entry.get("capacity"),
        phase=Phase(phase) if phase in [*Phase] else Phase.UNKNOWN,
        message=entry.get("message") or "",
    )


def _volume_state(volume: Volume, server: DittoServer, live: LiveState) -> VolumeState:
    claim_name = volume.claim_name(server.metadata.name)
    claim = live.claims.get(claim_name)
    state = VolumeState(
        volume=volume,
        claim_name=claim_name,
        claim=claim,
        storage_class=storage_class_of(volume, claim, live.classes),
        capacity=claim.capacity if claim else None,
        class_difference=class_difference(volume, claim) if claim else "",
    )

    if claim is None:
        return _without_claim(state, live)
    if claim.terminating:
        return replace(state, phase=Phase.TERMINATING, message=_how_to_keep_data(claim))
    if claim.capacity is None or claim.phase != Phase.BOUND:
        return replace(state, phase=Phase.LOST if claim.phase == Phase.LOST else Phase.PENDING)

    wanted, capacity, requested = sizes_in_bytes(volume, claim)
    if max(requested, capacity) < wanted:
        return _to_expand(state, claim, live)
    if requested > max(wanted, capacity) and OPERATOR in claim.requested_by:
        return _to_reduce(state, claim, live)
    if capacity < wanted:
        return _expanding(state, claim, live)

    if requested <= wanted:
        return replace(state, phase=Phase.BOUND)
    size = f"{claim.requested}, more than {_spec_size(volume)}"
    message = f"volume claim {claim.name} asks for {size}; the claim keeps that size"
    return replace(state, phase=Phase.BOUND, message=message, larger=True)


def sizes_in_bytes(volume: Volume, claim: Claim) -> tuple[int, int, int]:
    """Returns what the spec asks for, what the claim has, and what the claim asks for."""
    return volume.bytes or 0, quantity.parse(claim.capacity or "0"), quantity.parse(claim.requested or "0")


def _without_claim(state: VolumeState, live: LiveState) -> VolumeState:
    """Decides whether a claim that nobody has observed is unknown, about to be created, or missing."""
    name, stateful_set = state.claim_name, live.stateful_set
    if live.claims_gap:
        message = f"volume claim {name} is unknown: {live.claims_gap}"
        return replace(state, phase=Phase.UNKNOWN, message=message)

    pending = replace(state, phase=Phase.PENDING)
    if stateful_set is None or live.is_new or not stateful_set["spec"]["replicas"] or not is_observed(stateful_set):
        return pending
    templates = stateful_set["spec"].get("volumeClaimTemplates") or []
    if state.volume.name not in {template["metadata"]["name"] for template in templates}:
        return pending

    if live.named_pod is None:
        message = f"volume claim {name} does not exist; the StatefulSet's controller has not created it"
    else:
        message = f"volume claim {name} does not exist any more; the next pod would get a new, empty one"
    return replace(state, phase=Phase.MISSING, message=message)


def _how_to_keep_data(claim: Claim) -> str:
    deleted = f"volume claim {claim.name} is being deleted, and its data may be lost when the pod ends"
    if claim.volume is None:
        return deleted

    patch = '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
    keep = f"to keep the data, run: kubectl patch persistentvolume {claim.volume} --patch '{patch}'"
    return f"{deleted}; {keep}; then restore the claim as docs/how-to/recover-a-volume-claim.md says"


def _to_expand(state: VolumeState, claim: Claim, live: LiveState) -> VolumeState:
    volume = state.volume
    if why := why_not_resizable(volume, claim, live.classes):
        message = f"{_spec_size(volume)} {why}; it can stay at {claim.capacity}"
        return replace(state, phase=Phase.RESIZE_REFUSED, message=message)
    if rejection := live.refused.get(claim.name):
        return replace(state, phase=Phase.RESIZE_REFUSED, message=_rejected(volume, claim, rejection))

    message = f"volume claim {claim.name} is to grow from {claim.capacity} to {volume.size}"
    return replace(state, phase=Phase.RESIZING, message=message, request=volume.size)


def _to_reduce(state: VolumeState, claim: Claim, live: LiveState) -> VolumeState:
    """Takes an expansion back that the spec no longer asks for, when the operator had asked for it, not somebody else.

    The API server lets a claim ask for less only as long as it asks for more than it has (RecoverVolumeExpansion).
    """
    wanted, capacity, requested = sizes_in_bytes(state.volume, claim)
    is_expanding = wanted > capacity
    state = replace(state, phase=Phase.RESIZING if is_expanding else Phase.BOUND)

    if rejection := live.refused.get(claim.name):
        return replace(state, message=f"volume claim {claim.name} still asks for {claim.requested}: {rejection}")
    if requested <= max(wanted, capacity + 1):
        return state
    return replace(state, request=state.volume.size if is_expanding else str(capacity + 1))


def _expanding(state: VolumeState, claim: Claim, live: LiveState) -> VolumeState:
    name, infeasible = claim.name, claim.infeasible_size
    if infeasible and claim.requested and quantity.parse(infeasible) == quantity.parse(claim.requested):
        why = claim.resize_error or f"the driver of volume claim {name} gave up on that size"
        return replace(state, phase=Phase.RESIZE_REFUSED, message=_rejected(state.volume, claim, why))

    if claim.waits_for_pod_since:
        if live.pod is None:
            then = "it grows as soon as a pod uses the volume"
        elif not live.may_restart:
            then = (
                f"if the kubelet cannot do that, delete the pod: annotation {RESTART_FOR_RESIZE} forbids restarting it"
            )
        else:
            then = "the pod is restarted if the kubelet cannot do that while it is in use"
        message = f"the volume of claim {name} has been expanded, its file system has not; {then}"
        return replace(state, phase=Phase.FILE_SYSTEM_RESIZE_PENDING, message=message)

    error = f": {claim.resize_error}" if claim.resize_error else ""
    message = f"volume claim {name} grows from {claim.capacity} to {claim.requested}{error}"
    return replace(state, phase=Phase.RESIZING, message=message)


def _rejected(volume: Volume, claim: Claim, why: str) -> str:
    limit = claim.requested if claim.infeasible_size else volume.size
    stays = f"volume claim {claim.name} stays at {claim.capacity}"
    return f"{_spec_size(volume)} is refused, {stays}: {why}; ask for {claim.capacity} or more, and less than {limit}"


def _spec_size(volume: Volume) -> str:
    return f"{field_name(volume.field)} {volume.size}"
