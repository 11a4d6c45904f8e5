"""Judges a rollout: whether the pod is of the current revision, and whether it blocks the pod that would be."""

from collections.abc import Mapping
from typing import Any

from app.storage.objects import controller
from app.storage.pod import pod_config_hash
from app.storage.unstructured import is_terminating

REVISION = "controller-revision-hash"


def is_current(stateful_set: Mapping[str, Any]) -> bool:
    """Tells whether the StatefulSet's controller has seen the last change, and the pod is as it asks."""
    status = stateful_set.get("status") or {}
    return is_observed(stateful_set) and status.get("currentRevision") == status.get("updateRevision")


def is_outdated(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> bool:
    """Tells whether the pod is of an earlier revision, of which a StatefulSet that was recreated need not know."""
    revision = ((pod.get("metadata") or {}).get("labels") or {}).get(REVISION) or ""
    if revision not in ("", (stateful_set.get("status") or {}).get("updateRevision") or revision):
        return True

    # For a moment, the status may be that of the former StatefulSet of the name. The pod itself cannot be mistaken.
    wanted = pod_config_hash((stateful_set.get("spec") or {}).get("template") or {})
    return wanted is not None and wanted != pod_config_hash(pod)


def blocks(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> bool:
    """Tells whether nobody but a person would ever replace the pod by one of the current revision."""
    # The StatefulSet's controller waits until the pod is ready (kubernetes 67250), which it may never be because of
    # what the change is meant to fix. A pod that is ready is replaced by that controller.
    revision = (pod["metadata"].get("labels") or {}).get(REVISION) or ""

    return (
        is_observed(stateful_set)
        and rolls_out(stateful_set)
        and (controller(pod) or {}).get("uid") == stateful_set["metadata"]["uid"]
        and not is_terminating(pod)
        and not is_ready(pod)
        and revision not in ("", stateful_set["status"].get("updateRevision"))
    )


def is_observed(stateful_set: Mapping[str, Any]) -> bool:
    """Tells whether the StatefulSet's controller has seen its last change."""
    # It may write a status late, to the next StatefulSet of the name; and a deletion is a generation, too.
    observed = (stateful_set.get("status") or {}).get("observedGeneration") or 0
    return bool(observed >= stateful_set["metadata"].get("generation", 0))


def rolls_out(stateful_set: Mapping[str, Any]) -> bool:
    """Tells whether changes reach the pod at all: a user may have set another strategy, or a partition."""
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition")
    return strategy.get("type", "RollingUpdate") == "RollingUpdate" and not partition


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)
