"""Whether the pod that runs is the one that is wanted, and whether it is in the way of that one."""

from collections.abc import Mapping
from typing import Any

from app.storage.objects import controller
from app.storage.unstructured import is_terminating

REVISION = "controller-revision-hash"


def is_current(stateful_set: Mapping[str, Any]) -> bool:
    """Whether the StatefulSet's controller has seen the last change, and the pod is as it asks."""
    found = stateful_set.get("status") or {}
    return is_observed(stateful_set) and found.get("currentRevision") == found.get("updateRevision")


def blocks(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> bool:
    """Whether nobody but a person would ever replace the pod by one of the current revision.

    The StatefulSet's controller first waits until it is ready (kubernetes 67250), which it may never be because of what
    the change is to mend. One that is ready is replaced by that controller.
    """
    return (
        is_observed(stateful_set)
        and rolls_out(stateful_set)
        and (controller(pod) or {}).get("uid") == stateful_set["metadata"]["uid"]
        and not is_terminating(pod)
        and not is_ready(pod)
        and _revision(pod) not in ("", stateful_set["status"].get("updateRevision"))
    )


def is_observed(stateful_set: Mapping[str, Any]) -> bool:
    """The controller may write a status late, to the next StatefulSet of the name; and its deletion is a generation."""
    observed = (stateful_set.get("status") or {}).get("observedGeneration") or 0
    return bool(observed >= stateful_set["metadata"].get("generation", 0))


def rolls_out(stateful_set: Mapping[str, Any]) -> bool:
    """Somebody may have asked for it to wait for them; the strategy is not ours."""
    strategy = stateful_set["spec"]["updateStrategy"]
    partition = (strategy.get("rollingUpdate") or {}).get("partition")
    return strategy["type"] == "RollingUpdate" and not partition


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _revision(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(REVISION, ""))
