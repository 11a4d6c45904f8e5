"""Volumes that grow: what a server's claims and its StatefulSet need next, and what is to be said of it meanwhile.

Claim templates are immutable. So first the claims are changed, and then the StatefulSet is recreated around its pod,
which keeps running: the pod gets the server as an owner, the StatefulSet is removed without its pod and recreated, and
the pod is released. Each step follows from what is in the cluster, so that an interrupted operator continues where it
was. Nothing is saved in the cluster for that: users could change it, and the operator would act on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.storage import quantity
from app.storage.facts import Claim
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, claim_templates, controller, live_claim_templates
from app.storage.pod import mounted_claims
from app.storage.reading import field_name
from app.storage.rollout import is_observed, rolls_out
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volumes import Volume, refusal, volumes

# On a DittoServer, with the value `never`: its pod is not restarted for a file system that cannot grow while in use.
RESTART_FOR_RESIZE = "dittofs.io/restart-for-resize"

# On a DittoServer, with the value `true`: its pod may restart although a volume claim goes with it.
ALLOW_DATA_LOSS = "dittofs.io/allow-data-loss"

# The StatefulSet's controller creates claims a moment after the StatefulSet; until then they are not missed.
CLAIM_CREATION_TIME = timedelta(seconds=10)
_RECREATED_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")


class Phase(StrEnum):
    """What a volume is, or what is being done to it; the first three are the phases of a claim."""

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
    """What becomes of a volume. `request` is what its claim is to ask for from now on, None when it is left as it is.

    `larger` says that it stays larger than the spec asks, `restarts` that the pod restarts for it in any case.
    """

    volume: Volume
    claim: Claim | None
    phase: Phase
    message: str = ""
    request: str | None = None
    larger: bool = False
    restarts: bool = False


@dataclass(frozen=True)
class ChangeClaims:
    """Let the claims, by name, ask for other sizes; all that can be known of a refusal is found out before."""

    requests: Mapping[str, str]


@dataclass(frozen=True)
class HoldPod:
    """Give the pod the server as an owner for the time in which it has no StatefulSet."""

    pod: Manifest


@dataclass(frozen=True)
class RemoveStatefulSet:
    """Remove the StatefulSet and leave its pod."""

    stateful_set: Manifest


@dataclass(frozen=True)
class RecreateStatefulSet:
    """Create what was removed, so that the pod is of its current revision."""

    stateful_set: Manifest


@dataclass(frozen=True)
class ReleasePod:
    """The StatefulSet is back: take the server from the pod's owners."""

    pod: Manifest


@dataclass(frozen=True)
class RestartPod:
    pod: Manifest
    why: str


Step = ChangeClaims | HoldPod | RemoveStatefulSet | RecreateStatefulSet | ReleasePod | RestartPod


def may_restart(manifest: Mapping[str, Any]) -> bool:
    """Whether the pod of a raw DittoServer may be restarted for its file systems to grow."""
    return (manifest["metadata"].get("annotations") or {}).get(RESTART_FOR_RESIZE) != "never"


def may_lose_data(manifest: Mapping[str, Any]) -> bool:
    """Whether the owner of a raw DittoServer allows restarts with which a volume claim goes."""
    return (manifest["metadata"].get("annotations") or {}).get(ALLOW_DATA_LOSS) == "true"


def restart_hold(server: DittoServer, live_state: LiveState) -> str | None:
    """Why the pod must not end now; None when it may.

    A claim that was deleted under a running pod lasts as long as the pod, and its data may be lost with it. The next
    pod would get a new, empty claim.
    """
    pod = live_state.named_pod
    if pod is None or is_terminating(pod) or live_state.may_lose_data:
        return None

    mounted = mounted_claims(pod)
    for state in volume_states(server, live_state):
        claim = state.volume.claim_name(server.metadata.name)
        if state.phase in (Phase.TERMINATING, Phase.MISSING) and claim in mounted:
            fate = "is being deleted" if state.phase is Phase.TERMINATING else "does not exist any more"
            return f"volume claim {claim} {fate}, and its data may be lost when the pod ends"
    return None


def volume_states(server: DittoServer, live_state: LiveState) -> tuple[VolumeState, ...]:
    """Of every volume that the server has or is to have, in the order of the claim templates."""
    name = server.metadata.name
    return tuple(_outlook(volume, name, live_state) for volume in volumes(server.spec.storage) if volume.size)


def next_step(server: DittoServer, owner: Owner, live_state: LiveState, now: datetime) -> Step | None:
    """None when there is nothing to do, or to be waited for what others do: a driver, or who removes an object."""
    states = volume_states(server, live_state)
    live, removed = live_state.stateful_set, live_state.removed

    if live is None:
        return _recreate(removed, server, states) if removed and owner.owns(removed) else None
    if is_terminating(live):
        return None
    if requests := {state.claim.name: state.request for state in states if state.claim and state.request}:
        return ChangeClaims(requests)

    pod = live_state.pod if _may_be_of(live_state.pod, live) else None
    if _templates(live, server, states) != live_claim_templates(live):
        return HoldPod(pod) if pod and not is_held(pod, owner) else RemoveStatefulSet(live)
    if pod and is_held(pod, owner):
        return ReleasePod(pod)
    return _restart(states, live_state, now)


def is_held(pod: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the pod has the server as an owner, as HoldPod makes it."""
    return any(reference["uid"] == owner.uid for reference in pod["metadata"].get("ownerReferences") or [])


def restart_due(server: DittoServer, live_state: LiveState) -> datetime | None:
    """When the pod is to be restarted for a file system that has not grown by then; None when it is not."""
    waiting = [_waits_since(state, live_state) for state in volume_states(server, live_state)]
    since = [each for each in waiting if each]
    return min(since) + live_state.patience if since else None


def _outlook(volume: Volume, server: str, live_state: LiveState) -> VolumeState:
    claim = live_state.claims.get(volume.claim_name(server))
    if claim is None:
        return _absent(volume, server, live_state)
    if claim.terminating:
        return VolumeState(volume, claim, Phase.TERMINATING, _save_the_data(claim))
    if claim.capacity is None or claim.phase != Phase.BOUND:
        return _unbound(volume, claim, live_state)
    wanted, has, asks = _amounts(volume, claim)
    if max(asks, has) < wanted:
        return _to_grow(volume, claim, live_state)
    if asks > wanted and OPERATOR in claim.requested_by and asks > has:
        return _taken_back(volume, claim, live_state)
    if has >= wanted:
        larger = asks > wanted
        message = f"volume claim {claim.name} asks for {claim.requested}, more than {_asked(volume)}; it stays so"
        return VolumeState(volume, claim, Phase.BOUND, message if larger else "", larger=larger)
    return _growing(volume, claim, live_state)


def _absent(volume: Volume, server: str, live_state: LiveState) -> VolumeState:
    """A claim that nobody has observed: unknown, about to be created, or missing."""
    name = volume.claim_name(server)
    if live_state.claims_gap:
        return VolumeState(volume, None, Phase.UNKNOWN, f"volume claim {name} is unknown: {live_state.claims_gap}")
    if _is_about_to_be_created(volume, live_state):
        return _unbound(volume, None, live_state)

    if live_state.named_pod is None:
        message = f"volume claim {name} does not exist; the StatefulSet's controller has not created it"
    else:
        message = f"volume claim {name} does not exist any more; the next pod would get a new, empty one"
    return VolumeState(volume, None, Phase.MISSING, message)


def _is_about_to_be_created(volume: Volume, live_state: LiveState) -> bool:
    live = live_state.stateful_set
    if live is None or live_state.is_new or not live["spec"]["replicas"]:
        return True
    return not is_observed(live) or volume.name not in _template_names(live)


def _unbound(volume: Volume, claim: Claim | None, live_state: LiveState) -> VolumeState:
    """An unbound claim asks for what it asks for until it is bound (PersistentVolumeClaimResize)."""
    live = live_state.stateful_set
    added = live is not None and volume.name not in _template_names(live)
    phase = Phase.LOST if claim and claim.phase == Phase.LOST else Phase.PENDING
    return VolumeState(volume, claim, phase, restarts=added and live_state.pod is not None)


def _template_names(stateful_set: Mapping[str, Any]) -> set[str]:
    return {template["metadata"]["name"] for template in stateful_set["spec"].get("volumeClaimTemplates") or []}


def _save_the_data(claim: Claim) -> str:
    deleted = f"volume claim {claim.name} is being deleted, and its data may be lost when the pod ends"
    if claim.volume is None:
        return deleted
    patch = '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
    keep = f"to keep the data, run: kubectl patch persistentvolume {claim.volume} --patch '{patch}'"
    return f"{deleted}; {keep}; then restore the claim as the README says"


def _to_grow(volume: Volume, claim: Claim, live_state: LiveState) -> VolumeState:
    if why := refusal(volume, claim, live_state.classes):
        only = f"it can stay at {claim.capacity}"
        return VolumeState(volume, claim, Phase.RESIZE_REFUSED, f"{_asked(volume)} {why}; {only}")
    if said := live_state.refused.get(claim.name):
        return VolumeState(volume, claim, Phase.RESIZE_REFUSED, _refused(volume, claim, said))
    message = f"volume claim {claim.name} is to grow from {claim.capacity} to {volume.size}"
    return VolumeState(volume, claim, Phase.RESIZING, message, request=volume.size)


def _taken_back(volume: Volume, claim: Claim, live_state: LiveState) -> VolumeState:
    """A growth of ours that is no longer wanted; what others let the claim ask for is theirs to take back."""
    wanted, has, asks = _amounts(volume, claim)
    least = volume.size if wanted > has else str(has + 1)
    phase = Phase.RESIZING if wanted > has else Phase.BOUND
    if said := live_state.refused.get(claim.name):
        return VolumeState(volume, claim, phase, f"volume claim {claim.name} still asks for {claim.requested}: {said}")
    return VolumeState(volume, claim, phase, request=least if asks > max(wanted, has + 1) else None)


def _growing(volume: Volume, claim: Claim, live_state: LiveState) -> VolumeState:
    if (
        claim.infeasible_size
        and claim.requested
        and quantity.parse(claim.infeasible_size) == quantity.parse(claim.requested)
    ):
        said = claim.resize_error or f"the driver of volume claim {claim.name} gave it up"
        return VolumeState(volume, claim, Phase.RESIZE_REFUSED, _refused(volume, claim, said))
    if claim.waits_for_pod_since:
        message = f"volume claim {claim.name} has grown but for its file system; {_waits_for(live_state)}"
        return VolumeState(volume, claim, Phase.FILE_SYSTEM_RESIZE_PENDING, message)
    said = f": {claim.resize_error}" if claim.resize_error else ""
    message = f"volume claim {claim.name} grows from {claim.capacity} to {claim.requested}{said}"
    return VolumeState(volume, claim, Phase.RESIZING, message)


def _waits_for(live_state: LiveState) -> str:
    if live_state.pod is None:
        return "that follows when a pod uses it"
    if not live_state.may_restart:
        return f"if the kubelet cannot do that, delete the pod: annotation {RESTART_FOR_RESIZE} forbids to restart it"
    return "the pod is restarted if the kubelet cannot do that while it is in use"


def _refused(volume: Volume, claim: Claim, said: str) -> str:
    below = claim.requested if claim.infeasible_size else volume.size
    stays = f"volume claim {claim.name} stays at {claim.capacity}"
    return f"{_asked(volume)} is refused, {stays}: {said}; ask for {claim.capacity} or more, and less than {below}"


def _asked(volume: Volume) -> str:
    return f"{field_name(volume.field)} {volume.size}"


def _amounts(volume: Volume, claim: Claim) -> tuple[int, int, int]:
    """What is wanted, what there is, and what is asked for, in bytes."""
    return volume.bytes or 0, quantity.parse(claim.capacity or "0"), quantity.parse(claim.requested or "0")


def initial_templates(server: DittoServer, live_state: LiveState) -> list[Manifest]:
    """The claim templates of a StatefulSet that is created: a claim that exists keeps its size until it has grown."""
    unsettled = {
        state.volume.name: state.claim.requested
        for state in volume_states(server, live_state)
        if state.claim and state.claim.requested and not _is_settled(state)
    }

    templates = claim_templates(server.spec)
    for template in templates:
        if size := unsettled.get(template["metadata"]["name"]):
            template["spec"]["resources"]["requests"]["storage"] = size
    return templates


def _templates(live: Mapping[str, Any], server: DittoServer, states: Sequence[VolumeState]) -> list[Manifest]:
    """The live templates with the sizes that the claims have been given, and with those of volumes that were added."""
    kept = {template["metadata"]["name"]: template for template in live_claim_templates(live)}
    wanted = {template["metadata"]["name"]: template for template in claim_templates(server.spec)}
    settled = {state.volume.name for state in states if _is_settled(state)}
    added = wanted.keys() - kept.keys()

    for name, template in wanted.items():
        if name in added:
            kept[name] = template
        elif name in settled and _size(kept[name]) != _size(template):
            kept[name] = {**kept[name], "spec": {**kept[name]["spec"], "resources": template["spec"]["resources"]}}
    order = [*wanted, *(name for name in kept if name not in wanted)] if added else list(kept)
    return [kept[name] for name in order]


def _is_settled(state: VolumeState) -> bool:
    """Whether the claim asks for what the template is to say. The template of a claim that nobody observed stays."""
    if state.claim is None or state.claim.terminating or state.claim.capacity is None or state.request:
        return False

    wanted, has, asks = _amounts(state.volume, state.claim)
    return max(has, asks) >= wanted


def _size(template: Mapping[str, Any]) -> int:
    return quantity.parse(template["spec"]["resources"]["requests"]["storage"])


def _recreate(removed: Mapping[str, Any], server: DittoServer, states: Sequence[VolumeState]) -> RecreateStatefulSet:
    metadata = {name: removed["metadata"][name] for name in _RECREATED_METADATA if name in removed["metadata"]}
    spec = {**removed["spec"], "volumeClaimTemplates": _templates(removed, server, states)}
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}
    return RecreateStatefulSet(manifest)


def field_owners(stateful_set: Mapping[str, Any]) -> list[Manifest]:
    """The managedFields that say whose the fields are, but for those of the status."""
    entries = stateful_set["metadata"].get("managedFields") or []
    return [entry for entry in entries if not entry.get("subresource")]


def _may_be_of(pod: Mapping[str, Any] | None, live: Mapping[str, Any]) -> bool:
    """Between two lives of its StatefulSet a pod is nobody's; one of that name may also be another's."""
    owner = controller(pod) if pod else None
    return owner is None or owner["uid"] == live["metadata"]["uid"]


def _restart(found: Sequence[VolumeState], live_state: LiveState, now: datetime) -> RestartPod | None:
    pod, live = live_state.pod, live_state.stateful_set
    if pod is None or live is None or is_terminating(pod):
        return None
    if (controller(pod) or {}).get("uid") != live["metadata"]["uid"]:
        return None
    for name in _missing(pod, live):
        return RestartPod(pod, f"volume {name} was added, and the volumes of a pod cannot change")
    for state in found:
        since = _waits_since(state, live_state)
        if since and state.claim and since + live_state.patience <= now:
            return RestartPod(pod, f"the file system of volume claim {state.claim.name} cannot grow while it is in use")
    return None


def _missing(pod: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[str]:
    """What the StatefulSet has and mounts, and the pod has not: its controller goes no further (kubernetes 141876)."""
    if not rolls_out(live):
        return
    containers = live["spec"]["template"]["spec"]["containers"]
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts") or []}
    has = {volume["name"] for volume in pod["spec"]["volumes"]}
    for template in live["spec"]["volumeClaimTemplates"]:
        name = template["metadata"]["name"]
        if name in mounted - has:
            yield name


def _waits_since(state: VolumeState, live_state: LiveState) -> datetime | None:
    """Since when a file system waits for a restart; a pod that was made later than that is the restart."""
    if state.phase != Phase.FILE_SYSTEM_RESIZE_PENDING or not state.claim or not state.claim.waits_for_pod_since:
        return None
    since = datetime.fromisoformat(state.claim.waits_for_pod_since)
    if live_state.pod is None or not live_state.may_restart:
        return None
    made = datetime.fromisoformat(live_state.pod["metadata"]["creationTimestamp"])
    return since if made <= since else None
