"""Why a StatefulSet does not manage the pod that has its pod's name, and what to do about it."""

from collections.abc import Mapping
from typing import Any

from app.storage.live import LiveState
from app.storage.objects import controller
from app.storage.pod import mounted_claims, pod_name
from app.storage.problem import Problem
from app.storage.resize import restart_hold
from app.storage.rollout import REVISION
from app.storage.spec import DittoServer
from app.storage.unstructured import is_terminating
from app.storage.volumes import volumes


def why_not_adopted(server: DittoServer, live_state: LiveState) -> Problem | None:
    """The StatefulSet controller releases a pod that lost its labels, and can create no other pod of that name.

    It emits no Event about that. None when nothing keeps it from managing the pod.
    """
    pod, live = live_state.named_pod, live_state.stateful_set
    if pod is None or live is None or is_terminating(live):
        return None
    spec = live.get("spec") or {}
    if not spec.get("replicas") or not _lacking(pod, (spec.get("selector") or {}).get("matchLabels") or {}):
        return None

    name, namespace = pod_name(server.metadata.name), server.metadata.namespace
    if is_terminating(pod):
        return Problem("PodTerminating", f"pod {name} is being deleted; another one is created once it is gone")
    if not _is_ours(pod, server, live):
        advice = "delete that pod, or name the server otherwise"
        return Problem("PodNameTaken", f"pod {name} exists and is not this server's; {advice}")

    labels = " ".join(f"{key}={value}" for key, value in _lost_labels(pod, live).items())
    what = f"pod {name} lost labels by which StatefulSet {server.metadata.name} finds it, and no other can be created"
    command = f"kubectl label pod {name} --namespace {namespace} --overwrite {labels}"
    # To delete the pod would delete its claim, too.
    other = "" if restart_hold(server, live_state) else "; or delete the pod to have another one created"
    return Problem("PodLabelsMissing", f"{what}; to keep the pod, run: {command}{other}")


def _lacking(pod: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, str]:
    has = (pod.get("metadata") or {}).get("labels") or {}
    return {name: value for name, value in labels.items() if has.get(name) != value}


def _lost_labels(pod: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, str]:
    """Those of the pod template, and the revision: without it the controller would replace the pod at once."""
    template = (live["spec"]["template"].get("metadata") or {}).get("labels") or {}
    lost = _lacking(pod, template)
    revision = (live.get("status") or {}).get("currentRevision")
    if revision and REVISION not in (pod["metadata"].get("labels") or {}):
        lost[REVISION] = revision
    return lost


def _is_ours(pod: Mapping[str, Any], server: DittoServer, live: Mapping[str, Any]) -> bool:
    """Whether the pod was created for this server: nobody else's pod uses its volume claims."""
    owner = controller(pod)
    if owner:
        return bool(owner["uid"] == live["metadata"].get("uid"))
    claims = {volume.claim_name(server.metadata.name) for volume in volumes(server.spec.storage)}
    return not claims.isdisjoint(mounted_claims(pod))
