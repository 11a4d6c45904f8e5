"""Decides the next step of a volume expansion, from the cluster's state alone; it changes nothing itself.

Claim templates are immutable. So the claims are changed first, and then the StatefulSet is recreated around its pod,
which keeps running: the pod gets the server as an owner, the StatefulSet is removed without its pod and recreated, and
the pod is released. Each step follows from what is in the cluster, so that an interrupted operator continues where it
was. Nothing is saved in the cluster for that: users could change it, and the operator would act on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.storage import quantity
from app.storage.live import LiveState
from app.storage.object_defaults import with_defaults
from app.storage.objects import Owner, claim_template, claim_templates, controller, live_claim_templates
from app.storage.pod import mounted_claims
from app.storage.rendering import ObjectDefaults
from app.storage.restart_cause import Restart, RestartCause
from app.storage.rollout import rolls_out
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import RESTART_FOR_RESIZE, Phase, VolumeState, sizes_in_bytes, volume_states
from app.storage.volumes import CONTROL_PLANE

# On a DittoServer, with the value `true`: its pod may restart although a volume claim goes with it.
ALLOW_DATA_LOSS = "dittofs.io/allow-data-loss"

# The StatefulSet's controller creates claims a moment after the StatefulSet; until then they are not missed.
CLAIM_CREATION_TIME = timedelta(seconds=10)
_RECREATED_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")


@dataclass(frozen=True)
class ChangeClaims:
    """Let the claims, by name, ask for other sizes. They are not rejected for any reason that can be known before."""

    requests: Mapping[str, str]


@dataclass(frozen=True)
class HoldPod:
    """Give the pod the server as an owner for the time in which it has no StatefulSet.

    A pod that is to get more volumes has to restart, which is not worth another restart before that.
    """

    pod: Manifest
    adds_volumes: bool = False


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
    restart: Restart


Step = ChangeClaims | HoldPod | RemoveStatefulSet | RecreateStatefulSet | ReleasePod | RestartPod


def may_restart(manifest: Mapping[str, Any]) -> bool:
    """Tells whether the pod of a raw DittoServer may be restarted for its file systems to grow."""
    return (manifest["metadata"].get("annotations") or {}).get(RESTART_FOR_RESIZE) != "never"


def may_lose_data(manifest: Mapping[str, Any]) -> bool:
    """Tells whether the owner of a raw DittoServer allows restarts with which a volume claim goes."""
    return (manifest["metadata"].get("annotations") or {}).get(ALLOW_DATA_LOSS) == "true"


def restart_hold(server: DittoServer, live: LiveState) -> str | None:
    """Returns why the pod must not end now; None when it may.

    A claim that was deleted under a running pod lasts as long as the pod, and its data may be lost with it. The next
    pod would get a new, empty claim.
    """
    pod = live.named_pod
    if pod is None or is_terminating(pod) or live.may_lose_data:
        return None

    mounted = mounted_claims(pod)
    for state in volume_states(server, live):
        if state.phase in (Phase.TERMINATING, Phase.MISSING) and state.claim_name in mounted:
            fate = "is being deleted" if state.phase is Phase.TERMINATING else "does not exist any more"
            return f"volume claim {state.claim_name} {fate}, and its data may be lost when the pod ends"
    return None


def next_step(server: DittoServer, owner: Owner, live: LiveState, now: datetime) -> Step | None:
    """Returns None when there is nothing to do, or when others have to act first, such as a driver."""
    states = volume_states(server, live)
    stateful_set, removed = live.stateful_set, live.removed

    if stateful_set is None:
        if not removed or not owner.owns(removed):
            return None

        metadata = {name: removed["metadata"][name] for name in _RECREATED_METADATA if name in removed["metadata"]}
        spec = {**removed["spec"], "volumeClaimTemplates": _recreated_templates(removed, server, states, live.defaults)}
        return RecreateStatefulSet({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})

    if is_terminating(stateful_set):
        return None
    if requests := {state.claim_name: state.request for state in states if state.claim and state.request}:
        return ChangeClaims(requests)

    # A pod without a controller may be one whose StatefulSet is being recreated.
    pod = live.pod
    pod_owner = controller(pod) if pod else None
    if pod_owner and pod_owner["uid"] != stateful_set["metadata"]["uid"]:
        pod = None

    live_templates = live_claim_templates(stateful_set)
    if (templates := _recreated_templates(stateful_set, server, states, live.defaults)) != live_templates:
        if pod and not is_held(pod, owner):
            return HoldPod(pod, adds_volumes=len(templates) > len(live_templates))
        return RemoveStatefulSet(stateful_set)
    if pod and is_held(pod, owner):
        return ReleasePod(pod)
    return _restart(pod, stateful_set, states, live, now) if pod and pod_owner else None


def is_held(pod: Mapping[str, Any], owner: Owner) -> bool:
    """Tells whether the pod has the server as an owner, as after HoldPod."""
    return any(reference["uid"] == owner.uid for reference in pod["metadata"].get("ownerReferences") or [])


def restart_due(states: Sequence[VolumeState], live: LiveState) -> datetime | None:
    """Returns when the pod is to be restarted for a file system that has not grown by then; None for never."""
    since = [since for state in states if (since := _waits_for_restart_since(state, live))]
    return min(since) + live.patience if since else None


def missing_volume(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> str | None:
    """Returns the first volume that the StatefulSet mounts from a claim and the pod does not have; None for none."""
    containers = stateful_set["spec"]["template"]["spec"]["containers"]
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts") or []}
    missing = mounted - {volume["name"] for volume in pod["spec"].get("volumes") or []}
    templates = stateful_set["spec"].get("volumeClaimTemplates") or []
    return next((name for template in templates if (name := template["metadata"]["name"]) in missing), None)


def initial_templates(server: DittoServer, live: LiveState) -> list[Manifest]:
    """Returns the claim templates of a new StatefulSet: a claim that exists keeps its size until it has grown."""
    states = volume_states(server, live)
    unsettled = {
        state.volume.name: state.claim.requested
        for state in states
        if state.claim and state.claim.requested and not _is_settled(state)
    }

    templates = _desired_templates(server, states, live.defaults)
    for template in templates:
        if size := unsettled.get(template["metadata"]["name"]):
            template["spec"]["resources"]["requests"]["storage"] = size
    return templates


def field_owners(stateful_set: Mapping[str, Any]) -> list[Manifest]:
    """Returns the managedFields that tell who owns which field, those of the status left out."""
    entries = stateful_set["metadata"].get("managedFields") or []
    return [entry for entry in entries if not entry.get("subresource")]


def _recreated_templates(
    stateful_set: Mapping[str, Any], server: DittoServer, states: Sequence[VolumeState], defaults: ObjectDefaults
) -> list[Manifest]:
    """Returns the live templates with the sizes that the claims ask for by now, and those of added volumes."""
    templates = {template["metadata"]["name"]: template for template in live_claim_templates(stateful_set)}
    desired = {template["metadata"]["name"]: template for template in _desired_templates(server, states, defaults)}
    # No spec asks for the size of the control plane's volume: its template has no reason to change.
    settled = {state.volume.name for state in states if _is_settled(state)} - {CONTROL_PLANE}
    added = desired.keys() - templates.keys()

    for name, template in desired.items():
        if name in added:
            templates[name] = template
            continue
        spec, desired_spec = templates[name]["spec"], template["spec"]
        if name in settled and _size(spec) != _size(desired_spec):
            templates[name] = {**templates[name], "spec": {**spec, "resources": desired_spec["resources"]}}

    # Another order alone is no reason to recreate the StatefulSet.
    order = [*desired, *(name for name in templates if name not in desired)] if added else list(templates)
    return [templates[name] for name in order]


def _desired_templates(server: DittoServer, states: Sequence[VolumeState], defaults: ObjectDefaults) -> list[Manifest]:
    """Returns the templates that the spec asks for, and last that of a control plane's volume of the Go operator."""
    others = [state for state in states if state.volume.name == CONTROL_PLANE]
    volumes = (state.volume._replace(default_class=state.storage_class) for state in others)
    templates = [*claim_templates(server.spec), *(claim_template(volume) for volume in volumes)]
    return [with_defaults(template, defaults) for template in templates]


def _is_settled(state: VolumeState) -> bool:
    """Tells whether the template may have the size of the spec. The template of a claim that nobody observed stays."""
    if state.claim is None or state.claim.terminating or state.claim.capacity is None or state.request:
        return False

    wanted, capacity, requested = sizes_in_bytes(state.volume, state.claim)
    return max(capacity, requested) >= wanted


def _size(claim_spec: Mapping[str, Any]) -> int:
    return quantity.parse(claim_spec["resources"]["requests"]["storage"])


def _restart(
    pod: Manifest, stateful_set: Manifest, states: Sequence[VolumeState], live: LiveState, now: datetime
) -> RestartPod | None:
    if is_terminating(pod):
        return None

    # The StatefulSet's controller goes no further while the pod lacks a volume (kubernetes 141876).
    if rolls_out(stateful_set) and (name := missing_volume(pod, stateful_set)):
        why = f"volume {name} was added, and the volumes of a pod cannot change"
        return RestartPod(pod, Restart(RestartCause.VOLUMES, why))

    for state in states:
        since = _waits_for_restart_since(state, live)
        if since and since + live.patience <= now:
            why = f"the file system of volume claim {state.claim_name} cannot grow while it is in use"
            return RestartPod(pod, Restart(RestartCause.VOLUMES, why))
    return None


def _waits_for_restart_since(state: VolumeState, live: LiveState) -> datetime | None:
    """Returns since when a file system waits for the pod to end; None when a pod was created since, or may not end."""
    if state.phase != Phase.FILE_SYSTEM_RESIZE_PENDING or not state.claim or not state.claim.waits_for_pod_since:
        return None
    if live.pod is None or not live.may_restart:
        return None

    since = datetime.fromisoformat(state.claim.waits_for_pod_since)
    created = datetime.fromisoformat(live.pod["metadata"]["creationTimestamp"])
    return since if created <= since else None
