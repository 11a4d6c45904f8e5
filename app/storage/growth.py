"""Volumes that grow: what a server's claims and its StatefulSet need next, and what is to be said of it meanwhile.

Claim templates are immutable. So first the claims are changed, and then the StatefulSet is made again around its pod,
which goes on: written down, removed without what it owns, made again, and the note of it taken away. Each step is read
from what there is, so that whoever is broken off goes on where he was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.storage import quantity
from app.storage.facts import Claim, StorageClasses
from app.storage.objects import OPERATOR, claim_templates, controller, live_claim_templates
from app.storage.reading import field_name
from app.storage.rollout import rolls_out
from app.storage.spec import DittoServer
from app.storage.volumes import Volume, refusal, volumes

Manifest = dict[str, Any]

# On a DittoServer, with the value `never`: its pod is not restarted for a file system that cannot grow while in use.
RESTART_FOR_RESIZE = "dittofs.io/restart-for-resize"

RESIZE_PATIENCE = timedelta(minutes=2)
_MADE_AGAIN = ("name", "namespace", "labels", "annotations", "ownerReferences")


class Phase(StrEnum):
    """What a volume is, or what is being done to it; the first three are the phases of a claim."""

    PENDING = "Pending"
    LOST = "Lost"
    BOUND = "Bound"
    RESIZING = "Resizing"
    FILE_SYSTEM_RESIZE_PENDING = "FileSystemResizePending"
    RESIZE_REFUSED = "ResizeRefused"


@dataclass(frozen=True)
class Situation:
    """What is known of a server and its volumes. `note` is the StatefulSet as it was when it was about to be removed.

    `refused` is what the API server has said to a change of a claim just now, by its name. `patience` is how long a
    file system may take to grow while it is in use.
    """

    claims: Mapping[str, Claim] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    stateful_set: Manifest | None = None
    pod: Manifest | None = None
    note: Manifest | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    may_restart: bool = True
    patience: timedelta = RESIZE_PATIENCE


@dataclass(frozen=True)
class Outlook:
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
class WriteDown:
    """Note the StatefulSet as it is, and give its pod, if it has one, an owner for the time without it."""

    stateful_set: Manifest
    pod: Manifest | None


@dataclass(frozen=True)
class RemoveStatefulSet:
    """As it was noted, and without the pod."""

    stateful_set: Manifest


@dataclass(frozen=True)
class MakeAgain:
    """So that the pod is of its current revision; its fields go back to whom they belonged by these managedFields."""

    stateful_set: Manifest
    managed_fields: list[Manifest]


@dataclass(frozen=True)
class CrossOut:
    """The StatefulSet is back, with its fields or yet without: take away the pod's owner, and then the note."""

    stateful_set: Manifest
    pod: Manifest | None
    managed_fields: list[Manifest]


@dataclass(frozen=True)
class RestartPod:
    pod: Manifest
    why: str


Step = ChangeClaims | WriteDown | RemoveStatefulSet | MakeAgain | CrossOut | RestartPod


def may_restart(manifest: Mapping[str, Any]) -> bool:
    """Whether the pod of a raw DittoServer may be restarted for its file systems to grow."""
    return (manifest["metadata"].get("annotations") or {}).get(RESTART_FOR_RESIZE) != "never"


def outlooks(server: DittoServer, situation: Situation) -> tuple[Outlook, ...]:
    """Of every volume that the server has or is to have, in the order of the claim templates."""
    name = server.metadata.name
    return tuple(_outlook(volume, name, situation) for volume in volumes(server.spec.storage) if volume.size)


def next_step(server: DittoServer, situation: Situation, now: datetime) -> Step | None:
    """None when there is nothing to do, or to be waited for what others do: a driver, or who removes an object."""
    found = outlooks(server, situation)
    live, note = situation.stateful_set, situation.note
    if live is None:
        return _make_again(note, server, found) if note else None
    if live["metadata"].get("deletionTimestamp"):
        return None
    if requests := {look.claim.name: look.request for look in found if look.claim and look.request}:
        return ChangeClaims(requests)
    pod = situation.pod if _may_be_of(situation.pod, live) else None
    if _templates(live, server, found) != live_claim_templates(live):
        return RemoveStatefulSet(live) if note and _is_of(note, live) else WriteDown(live, pod)
    return CrossOut(live, pod, note["metadata"]["managedFields"]) if note else _restart(found, situation, now)


def noted(stateful_set: Mapping[str, Any]) -> Manifest:
    """What has to be known of it to make it again, and to whom its fields belong."""
    metadata = stateful_set["metadata"]
    entries = [entry for entry in metadata["managedFields"] if not entry.get("subresource")]
    kept = {name: metadata[name] for name in (*_MADE_AGAIN, "uid", "resourceVersion") if name in metadata}
    return {"metadata": {**kept, "managedFields": entries}, "spec": stateful_set["spec"]}


def restart_due(server: DittoServer, situation: Situation) -> datetime | None:
    """When the pod is to be restarted for a file system that has not grown by then; None when it is not."""
    waiting = [_waits_since(look, situation) for look in outlooks(server, situation)]
    since = [each for each in waiting if each]
    return min(since) + situation.patience if since else None


def _outlook(volume: Volume, server: str, situation: Situation) -> Outlook:
    claim = situation.claims.get(volume.claim_name(server))
    if claim is None or claim.capacity is None or claim.phase != Phase.BOUND:
        return _unbound(volume, claim, situation)
    wanted, has, asks = _amounts(volume, claim)
    if max(asks, has) < wanted:
        return _to_grow(volume, claim, situation)
    if asks > wanted and OPERATOR in claim.requested_by and asks > has:
        return _taken_back(volume, claim, situation)
    if has >= wanted:
        larger = asks > wanted
        message = f"volume claim {claim.name} asks for {claim.requested}, more than {_asked(volume)}; it stays so"
        return Outlook(volume, claim, Phase.BOUND, message if larger else "", larger=larger)
    return _growing(volume, claim, situation)


def _unbound(volume: Volume, claim: Claim | None, situation: Situation) -> Outlook:
    """An unbound claim asks for what it asks for until it is bound (PersistentVolumeClaimResize)."""
    templates = (situation.stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or []
    known = {template["metadata"]["name"] for template in templates}
    added = situation.stateful_set is not None and volume.name not in known
    phase = Phase.LOST if claim and claim.phase == Phase.LOST else Phase.PENDING
    return Outlook(volume, claim, phase, restarts=added and situation.pod is not None)


def _to_grow(volume: Volume, claim: Claim, situation: Situation) -> Outlook:
    if why := refusal(volume, claim, situation.classes):
        only = f"it can stay at {claim.capacity}"
        return Outlook(volume, claim, Phase.RESIZE_REFUSED, f"{_asked(volume)} {why}; {only}")
    if said := situation.refused.get(claim.name):
        return Outlook(volume, claim, Phase.RESIZE_REFUSED, _refused(volume, claim, said))
    message = f"volume claim {claim.name} is to grow from {claim.capacity} to {volume.size}"
    return Outlook(volume, claim, Phase.RESIZING, message, request=volume.size)


def _taken_back(volume: Volume, claim: Claim, situation: Situation) -> Outlook:
    """A growth of ours that is no longer wanted; what others let the claim ask for is theirs to take back."""
    wanted, has, asks = _amounts(volume, claim)
    least = volume.size if wanted > has else str(has + 1)
    phase = Phase.RESIZING if wanted > has else Phase.BOUND
    if said := situation.refused.get(claim.name):
        return Outlook(volume, claim, phase, f"volume claim {claim.name} still asks for {claim.requested}: {said}")
    return Outlook(volume, claim, phase, request=least if asks > max(wanted, has + 1) else None)


def _growing(volume: Volume, claim: Claim, situation: Situation) -> Outlook:
    if claim.given_up and claim.requested and quantity.parse(claim.given_up) == quantity.parse(claim.requested):
        said = claim.said or f"the driver of volume claim {claim.name} gave it up"
        return Outlook(volume, claim, Phase.RESIZE_REFUSED, _refused(volume, claim, said))
    if claim.waits_for_pod_since:
        message = f"volume claim {claim.name} has grown but for its file system; {_waits_for(situation)}"
        return Outlook(volume, claim, Phase.FILE_SYSTEM_RESIZE_PENDING, message)
    said = f": {claim.said}" if claim.said else ""
    message = f"volume claim {claim.name} grows from {claim.capacity} to {claim.requested}{said}"
    return Outlook(volume, claim, Phase.RESIZING, message)


def _waits_for(situation: Situation) -> str:
    if situation.pod is None:
        return "that follows when a pod uses it"
    if not situation.may_restart:
        return f"if the kubelet cannot do that, delete the pod: annotation {RESTART_FOR_RESIZE} forbids to restart it"
    return "the pod is restarted if the kubelet cannot do that while it is in use"


def _refused(volume: Volume, claim: Claim, said: str) -> str:
    below = claim.requested if claim.given_up else volume.size
    stays = f"volume claim {claim.name} stays at {claim.capacity}"
    return f"{_asked(volume)} is refused, {stays}: {said}; ask for {claim.capacity} or more, and less than {below}"


def _asked(volume: Volume) -> str:
    return f"{field_name(volume.field)} {volume.size}"


def _amounts(volume: Volume, claim: Claim) -> tuple[int, int, int]:
    """What is wanted, what there is, and what is asked for, in bytes."""
    return volume.bytes or 0, quantity.parse(claim.capacity or "0"), quantity.parse(claim.requested or "0")


def _templates(live: Mapping[str, Any], server: DittoServer, found: Sequence[Outlook]) -> list[Manifest]:
    """As they live, with the sizes that the claims have been given, and with those that are new."""
    kept = {template["metadata"]["name"]: template for template in live_claim_templates(live)}
    wanted = {template["metadata"]["name"]: template for template in claim_templates(server.spec)}
    settled = {look.volume.name for look in found if _is_settled(look)}
    added = wanted.keys() - kept.keys()
    for name, template in wanted.items():
        if name in added:
            kept[name] = template
        elif name in settled and _size(kept[name]) != _size(template):
            kept[name] = {**kept[name], "spec": {**kept[name]["spec"], "resources": template["spec"]["resources"]}}
    order = [*wanted, *(name for name in kept if name not in wanted)] if added else list(kept)
    return [kept[name] for name in order]


def _is_settled(look: Outlook) -> bool:
    """Whether the claim asks for what the template is to say, or is yet to be made of it."""
    if look.claim is None:
        return True
    if look.claim.capacity is None or look.request:
        return False
    wanted, has, asks = _amounts(look.volume, look.claim)
    return max(has, asks) >= wanted


def _size(template: Mapping[str, Any]) -> int:
    return quantity.parse(template["spec"]["resources"]["requests"]["storage"])


def _make_again(note: Mapping[str, Any], server: DittoServer, found: Sequence[Outlook]) -> MakeAgain:
    metadata = {name: note["metadata"][name] for name in _MADE_AGAIN if name in note["metadata"]}
    spec = {**note["spec"], "volumeClaimTemplates": _templates(note, server, found)}
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}
    return MakeAgain(manifest, note["metadata"]["managedFields"])


def _is_of(note: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether the note tells of the StatefulSet as it is now."""
    return all(note["metadata"][name] == live["metadata"][name] for name in ("uid", "resourceVersion"))


def _may_be_of(pod: Mapping[str, Any] | None, live: Mapping[str, Any]) -> bool:
    """Between two lives of its StatefulSet a pod is nobody's; one of that name may also be another's."""
    owner = controller(pod) if pod else None
    return owner is None or owner["uid"] == live["metadata"]["uid"]


def _restart(found: Sequence[Outlook], situation: Situation, now: datetime) -> RestartPod | None:
    pod, live = situation.pod, situation.stateful_set
    if pod is None or live is None or pod["metadata"].get("deletionTimestamp"):
        return None
    if (controller(pod) or {}).get("uid") != live["metadata"]["uid"]:
        return None
    for name in _missing(pod, live):
        return RestartPod(pod, f"volume {name} was added, and the volumes of a pod cannot change")
    for look in found:
        since = _waits_since(look, situation)
        if since and look.claim and since + situation.patience <= now:
            return RestartPod(pod, f"the file system of volume claim {look.claim.name} cannot grow while it is in use")
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


def _waits_since(look: Outlook, situation: Situation) -> datetime | None:
    """Since when a file system waits for a restart; a pod that was made later than that is the restart."""
    if look.phase != Phase.FILE_SYSTEM_RESIZE_PENDING or not look.claim or not look.claim.waits_for_pod_since:
        return None
    since = datetime.fromisoformat(look.claim.waits_for_pod_since)
    if situation.pod is None or not situation.may_restart:
        return None
    made = datetime.fromisoformat(situation.pod["metadata"]["creationTimestamp"])
    return since if made <= since else None
