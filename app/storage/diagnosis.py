"""Why a server's pod does not run, and what to do about it: a table of checks, the first that answers counts.

Each message names the object and quotes the cluster. It is the same from look to look while the cause is the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.storage.containers import container_failed
from app.storage.evidence import CLAIM, STATEFUL_SET, Case, Node, NodeState, WarningEvent, current, words
from app.storage.problem import Problem

# The kubelet needs a moment after the grace period to report that a pod has ended.
TERMINATION_MARGIN = timedelta(seconds=10)

# Messages that quote others: numbers in them say nothing that a person would wait for.
_QUOTED_REASONS = (
    "Unschedulable",
    "PodNotCreated",
    "MountFailed",
    "VolumeAttachFailed",
    "PodSandboxFailed",
    "ImagePullBackOff",
    "CreateContainerError",
    "Unhealthy",
)
_DIGITS = re.compile(r"\d+")
_UNBOUND = re.compile(r'unbound immediate PersistentVolumeClaims|persistentvolumeclaim "[^"]+" not found')


def why_not_running(case: Case) -> Problem | None:
    """The most specific cause that is known; None when the pod is merely on its way."""
    return next((problem for check in CHECKS if (problem := check(case))), None)


def why_not_ended(case: Case) -> Problem | None:
    """Why the pod does not come to an end that it should have come to; None while it has time, or none is asked."""
    end = ends_at(case.pod)
    if end is None or case.now < end:
        return None
    return (_node_problem(case.node, case) if case.node else None) or _never_ends(case)


def why_no_volume(claim: str, warnings: Iterable[WarningEvent]) -> str | None:
    """The provisioner's words about a Pending claim, or the API server's about one that it refused to create."""
    for event in warnings:
        if event.kind == CLAIM and event.name == claim:
            return event.message
        if event.kind == STATEFUL_SET and event.subject == claim:
            return f"it cannot be created: {_refusal(event)}"
    return None


def waits_for_claims(problem: Problem) -> bool:
    """Whether the scheduler only passes on that a claim is not bound: the claim itself says more."""
    return problem.reason == "Unschedulable" and bool(_UNBOUND.search(problem.message))


def steady(problem: Problem | None, former: Mapping[str, Any] | None) -> Problem | None:
    """The former condition's message where the new one says no more: it lacks the detail, or only counts on."""
    if problem is None or former is None or former["reason"] != problem.reason:
        return problem
    message = str(former["message"])
    lacks_detail = message.startswith(f"{problem.message}: ")
    counts_on = problem.reason in _QUOTED_REASONS and _DIGITS.sub("0", message) == _DIGITS.sub("0", problem.message)
    return Problem(problem.reason, message) if lacks_detail or counts_on else problem


def ends_at(pod: Mapping[str, Any] | None) -> datetime | None:
    """When a pod that is being deleted should be gone at last; None while nobody deletes it."""
    deletion = ((pod or {}).get("metadata") or {}).get("deletionTimestamp")
    return datetime.fromisoformat(deletion) + TERMINATION_MARGIN if deletion else None


def node_in_question(pod: Mapping[str, Any] | None, now: datetime) -> str | None:
    """The node whose state explains why the pod does not end, or why it is not ready though its containers are."""
    name = ((pod or {}).get("spec") or {}).get("nodeName")
    end = ends_at(pod)
    if end is not None:
        return name if now >= end else None
    return name if _is_cut_off(pod or {}) else None


def _is_cut_off(pod: Mapping[str, Any]) -> bool:
    """The node controller takes Ready from the pods of a node that stops answering, and leaves the rest as it was."""
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    containers = status.get("containerStatuses") or []
    runs = bool(containers) and all(container.get("ready") for container in containers)
    return ready.get("status") == "False" and ready.get("reason") != "ReadinessGatesNotReady" and runs


# The StatefulSet's controller cannot create the pod, or one of its claims.


def _not_created(case: Case) -> Problem | None:
    if case.pod is not None:
        return None
    refusals = [event for event in current(case.warnings) if event.kind == STATEFUL_SET]
    # A claim comes first: the pod is not tried without it.
    refusals.sort(key=lambda event: not event.subject)
    return _refusal_problem(refusals[0], case) if refusals else None


def _refusal_problem(event: WarningEvent, case: Case) -> Problem:
    why = _refusal(event)
    if event.subject:
        return Problem("ClaimNotCreated", f"volume claim {event.subject} cannot be created: {why}{_claim_remedy(why)}")
    for pattern, reason, remedy in _REFUSALS:
        if match := pattern.search(why):
            advice = remedy.format(*match.groups())
            return Problem(reason, f"pod {case.pod_name} cannot be created: {why}; {advice}")
    return Problem("PodNotCreated", f"pod {case.pod_name} cannot be created: {why}")


# What admission says of a pod, the reason for it, and the remedy, into which the pattern's groups go.
_REFUSALS = (
    (re.compile(r"\bexceeded quota: ([^\s,]+)"), "QuotaExceeded", "raise ResourceQuota {0}, or free some of it"),
    (
        re.compile(r"\bfailed quota: ([^\s,:]+)"),
        "ResourcesNotSpecified",
        "ResourceQuota {0} requires it: set it in spec.resources",
    ),
    (
        re.compile(r'\bviolates PodSecurity "([^":]+)'),
        "PodSecurityViolation",
        "change spec.securityContext or spec.podSecurityContext, or have an administrator change the namespace's label "
        "pod-security.kubernetes.io/enforce ({0})",
    ),
    (
        re.compile(r"\bunable to validate against any security context constraint"),
        "PodSecurityViolation",
        "change spec.securityContext or spec.podSecurityContext, or have an administrator grant another SCC",
    ),
    (
        re.compile(r"\b(?:maximum|minimum) \S+ usage per |max limit to request ratio per "),
        "LimitRangeViolation",
        "change spec.resources, or the LimitRange of the namespace",
    ),
    (
        re.compile(r'\bserviceaccount "([^"]+)" not found'),
        "ServiceAccountNotFound",
        "create ServiceAccount {0} in the namespace again",
    ),
)
_REFUSAL = re.compile(r'^.*? failed error: (?:\S+ "[^"]+" is forbidden: )?')


def _refusal(event: WarningEvent) -> str:
    """The API server's words, without what the reporter has put before them."""
    return _sorted_list(_REFUSAL.sub("", event.message))


def _sorted_list(why: str) -> str:
    """LimitRanger lists what it refuses in another order each time."""
    if not (why.startswith("[") and why.endswith("]")):
        return why
    return ", ".join(sorted(re.split(", (?!but )", why[1:-1]))) if " usage per " in why else why


def _claim_remedy(why: str) -> str:
    quota = _REFUSALS[0][0].search(why)
    if quota:
        return f"; raise ResourceQuota {quota[1]}, or free some of it"
    return "; change the size in spec.storage, or the LimitRange of the namespace" if " usage per " in why else ""


# The pod does not end, or its node does not answer.


def _node_problem(node: Node, case: Case) -> Problem | None:
    """None when the node is not to blame."""
    if node.state == NodeState.READY:
        return None
    if node.state == NodeState.DELETED:
        message = f"node {node.name} of pod {case.pod_name} is deleted; Kubernetes removes the pod within minutes"
        return Problem("NodeLost", message)
    if node.state == NodeState.NOT_LOOKED_UP:
        what = "should have ended" if ends_at(case.pod) else "is not ready, although its containers were"
        message = (
            f"pod {case.pod_name} {what}; its node {node.name} may not answer, and cannot be looked up: {node.words}"
        )
        return Problem("NodeUnknown", f"{message}. See whether it is Ready: kubectl get node {node.name}")
    if node.out_of_service:
        message = f"node {node.name} is marked as out of service; Kubernetes removes pod {case.pod_name} within minutes"
        return Problem("NodeLost", f"{message}. Remove the taint {_TAINT} once the node is back")
    if node.state == NodeState.NOT_READY:
        message = f"node {node.name} of pod {case.pod_name} has been NotReady{_since(node)}: {node.words}"
        return Problem("NodeNotReady", f"{message}; repair it, or drain it while its kubelet answers")

    return Problem(
        "NodeLost",
        f"node {node.name} has not answered{_since(node)}: nobody can tell whether pod {case.pod_name} has ended, "
        "so no other pod may use its volumes. Bring the node back. Only if you are sure that the machine is powered "
        "off or cut off from the storage (otherwise two pods may write to one volume): "
        f"kubectl taint nodes {node.name} {_TAINT}, and remove the taint once the node is back",
    )


def _since(node: Node) -> str:
    """Empty for a node that has never reported anything."""
    return f" since {node.since}" if node.since else ""


_TAINT = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def _never_ends(case: Case) -> Problem | None:
    metadata = (case.pod or {}).get("metadata") or {}
    message = f"pod {case.pod_name} should have ended by {metadata.get('deletionTimestamp')}"
    if finalizers := metadata.get("finalizers"):
        who = ", ".join(words(finalizer) for finalizer in finalizers)
        return Problem("PodTerminating", f"{message}, but its finalizers hold it: {who}; whoever set them removes them")
    where = f" although its node {case.node.name} is Ready" if case.node else ""
    advice = f"kubectl describe pod {case.pod_name} and the kubelet's log say what does not come to an end"
    return Problem("PodTerminating", f"{message}{where}; {advice}")


def _cut_off(case: Case) -> Problem | None:
    return _node_problem(case.node, case) if case.node and _is_cut_off(case.pod or {}) else None


def _failed(case: Case) -> Problem | None:
    """A pod that its node has ended, such as an evicted one; the message goes on with figures."""
    if case.status.get("phase") != "Failed" or not case.status.get("reason"):
        return None
    why = words(case.status.get("message")).partition(". ")[0] or case.status["reason"]
    return Problem(case.status["reason"], f"pod {case.pod_name} was ended by its node: {why}")


def _unschedulable(case: Case) -> Problem | None:
    for condition in case.status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Problem(condition.get("reason") or "Unschedulable", f"no node: {words(condition.get('message'))}")
    return None


# No container has been created: its volumes or its network are missing.


def _volumes_missing(case: Case) -> Problem | None:
    if not _is_being_created(case):
        return None
    attach = case.newest("FailedAttachVolume")
    mount = [event for event in case.newest("FailedMount", "FailedMapVolume") if event.topic != "FailedMount"]
    summary = case.newest("FailedMount") if not (attach or mount) else []

    causes = [*map(_attach_message, attach), *(event.message for event in (*mount, *summary))]
    if not causes:
        return None
    reason = "VolumeAttachFailed" if attach else "MountFailed"
    return Problem(reason, f"pod {case.pod_name} waits for its volumes: {'; '.join(causes[:3])}")


def _attach_message(event: WarningEvent) -> str:
    if "Multi-Attach error" not in event.message:
        return event.message
    return (
        f"{event.message}; kubectl get volumeattachments shows which node still holds {event.subject or 'it'}. "
        "It is released once that node reports that the former pod has ended; if that node is lost, and only if its "
        f"machine is surely powered off or cut off from the storage: kubectl taint nodes NODE {_TAINT}"
    )


def _sandbox_missing(case: Case) -> Problem | None:
    events = case.newest("FailedCreatePodSandBox", "NetworkNotReady") if _is_being_created(case) else []
    if not events:
        return None
    message = f"pod {case.pod_name} cannot be started on its node: {events[0].message}"
    return Problem("PodSandboxFailed", f"{message}; see to the node's network plugin and container runtime")


def _is_being_created(case: Case) -> bool:
    """No container of it has ever run."""
    statuses = (*(case.status.get("initContainerStatuses") or []), *(case.status.get("containerStatuses") or []))
    return case.pod is not None and not any(_has_run(status) for status in statuses)


def _has_run(status: Mapping[str, Any]) -> bool:
    state = status.get("state") or {}
    return "running" in state or "terminated" in state or bool(status.get("lastState"))


def _unhealthy(case: Case) -> Problem | None:
    """A container that has started, and no longer answers."""
    started = {status.get("name") for status in case.status.get("containerStatuses") or [] if status.get("started")}
    unready = {status.get("name") for status in case.status.get("containerStatuses") or [] if not status.get("ready")}
    for event in case.newest("Unhealthy"):
        if event.container in started & unready:
            return Problem("Unhealthy", f"container {event.container} runs and does not answer: {event.message}")
    return None


def _unless_ending(check: Callable[[Case], Problem | None]) -> Callable[[Case], Problem | None]:
    """The containers of a pod that is being deleted end, as they should."""
    return lambda case: None if ends_at(case.pod) else check(case)


CHECKS: tuple[Callable[[Case], Problem | None], ...] = (
    _not_created,
    why_not_ended,
    *map(_unless_ending, (_cut_off, _failed, _unschedulable, container_failed)),
    *map(_unless_ending, (_volumes_missing, _sandbox_missing, _unhealthy)),
)
