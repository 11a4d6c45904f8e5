"""Explains why a StatefulSet does not manage the pod that has its pod's name. It repairs nothing."""

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


def why_not_adopted(server: DittoServer, live: LiveState) -> Problem | None:
    """Returns None when nothing keeps the StatefulSet from managing the pod."""
    # The StatefulSet controller releases a pod that lost its labels, and can create no other pod of that name. It emits
    # no Event about that.
    pod, stateful_set = live.named_pod, live.stateful_set
    if pod is None or stateful_set is None or is_terminating(stateful_set):
        return None
    spec = stateful_set.get("spec") or {}
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    if not spec.get("replicas") or not _missing_labels(pod, selector):
        return None

    name, namespace = pod_name(server.metadata.name), server.metadata.namespace
    if is_terminating(pod):
        return Problem("PodTerminating", f"pod {name} is being deleted; another one is created once it is gone")

    # Nobody else's pod uses the claims of this server.
    owner = controller(pod)
    claims = {volume.claim_name(server.metadata.name) for volume in volumes(server.spec.storage)}
    is_ours = owner["uid"] == stateful_set["metadata"].get("uid") if owner else bool(claims & mounted_claims(pod))
    if not is_ours:
        advice = "delete that pod, or name the server otherwise"
        return Problem("PodNameTaken", f"pod {name} exists and is not this server's; {advice}")

    missing = _missing_labels(pod, (stateful_set["spec"]["template"].get("metadata") or {}).get("labels") or {})
    # Without its revision the controller would replace the pod at once.
    revision = (stateful_set.get("status") or {}).get("currentRevision")
    if revision and REVISION not in (pod["metadata"].get("labels") or {}):
        missing[REVISION] = revision

    labels = " ".join(f"{key}={value}" for key, value in missing.items())
    what = f"pod {name} lost labels by which StatefulSet {server.metadata.name} finds it, and no other can be created"
    command = f"kubectl label pod {name} --namespace {namespace} --overwrite {labels}"
    # Deleting the pod would delete its claim, too.
    other = "" if restart_hold(server, live) else "; or delete the pod to have another one created"
    return Problem("PodLabelsMissing", f"{what}; to keep the pod, run: {command}{other}")


def _missing_labels(pod: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, str]:
    live_labels = (pod.get("metadata") or {}).get("labels") or {}
    return {name: value for name, value in labels.items() if live_labels.get(name) != value}
