"""Explains why a server's pod does not run and what to do about it. It looks nothing up."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from app.storage.containers import container_failed
from app.storage.evidence import CLAIM, STATEFUL_SET, Case, Node, NodeState, WarningEvent, current_events, quote
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


# Each message names the object and quotes the cluster. It stays the same as long as the cause does.
def why_not_running(case: Case) -> Problem | None:
    """Returns the most specific cause that is known; None when the pod merely has not started yet."""
    if case.pod is None:
        return _not_created(case)
    # The containers of a pod that is being deleted end, as they should.
    if ends_at(case.pod):
        return why_not_ended(case)

    if case.node and _is_cut_off(case.pod) and (problem := _node_problem(case.node, case)):
        return problem

    # An evicted pod, for example; the figures in the message are left out.
    status = case.status
    if status.get("phase") == "Failed" and status.get("reason"):
        why = quote(status.get("message")).partition(". ")[0] or status["reason"]
        return Problem(status["reason"], f"pod {case.pod_name} was ended by its node: {why}")

    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Problem(condition.get("reason") or "Unschedulable", f"no node: {quote(condition.get('message'))}")

    if problem := container_failed(case) or _volumes_or_network_missing(case):
        return problem

    # A container has started, and no longer answers.
    statuses = status.get("containerStatuses") or []
    silent = {item.get("name") for item in statuses if item.get("started") and not item.get("ready")}
    for event in case.newest("Unhealthy"):
        if event.container in silent:
            return Problem("Unhealthy", f"container {event.container} runs and does not answer: {event.message}")
    return None


def why_not_ended(case: Case) -> Problem | None:
    """Returns why a pod that was deleted has not ended; None while it has time to."""
    end = ends_at(case.pod)
    if end is None or case.now < end:
        return None
    if case.node and (problem := _node_problem(case.node, case)):
        return problem

    metadata = (case.pod or {}).get("metadata") or {}
    message = f"pod {case.pod_name} should have ended by {metadata.get('deletionTimestamp')}"
    if finalizers := metadata.get("finalizers"):
        who = ", ".join(quote(finalizer) for finalizer in finalizers)
        return Problem("PodTerminating", f"{message}, but its finalizers hold it: {who}; whoever set them removes them")
    where = f" although its node {case.node.name} is Ready" if case.node else ""
    advice = f"kubectl describe pod {case.pod_name} and the kubelet's log say what has not ended"
    return Problem("PodTerminating", f"{message}{where}; {advice}")


def why_no_volume(claim: str, warnings: Iterable[WarningEvent]) -> str | None:
    """Quotes the provisioner about a Pending claim, or the API server about one that it refused to create."""
    for event in warnings:
        if event.kind == CLAIM and event.name == claim:
            return event.message
        if event.kind == STATEFUL_SET and event.subject == claim:
            return f"it cannot be created: {_rejection(event)}"
    return None


def waits_for_claims(problem: Problem) -> bool:
    """Tells whether the scheduler only reports that a claim is not bound: the claim itself says more."""
    return problem.reason == "Unschedulable" and bool(_UNBOUND.search(problem.message))


def keep_message(problem: Problem | None, earlier: Mapping[str, Any] | None) -> Problem | None:
    """Keeps the message of the earlier condition when the new one only lacks a detail, or counts on."""
    if problem is None or earlier is None or earlier["reason"] != problem.reason:
        return problem

    message = str(earlier["message"])
    lacks_detail = message.startswith(f"{problem.message}: ")
    counts_on = problem.reason in _QUOTED_REASONS and _DIGITS.sub("0", message) == _DIGITS.sub("0", problem.message)
    return replace(problem, message=message) if lacks_detail or counts_on else problem


def ends_at(pod: Mapping[str, Any] | None) -> datetime | None:
    """Returns when a pod that is being deleted should be gone; None while nobody deletes it."""
    deletion = ((pod or {}).get("metadata") or {}).get("deletionTimestamp")
    return datetime.fromisoformat(deletion) + TERMINATION_MARGIN if deletion else None


def node_in_question(pod: Mapping[str, Any] | None, now: datetime) -> str | None:
    """Returns the node whose state may explain why the pod does not end, or is not ready though its containers are."""
    name = ((pod or {}).get("spec") or {}).get("nodeName")
    end = ends_at(pod)
    if end is not None:
        return name if now >= end else None
    return name if _is_cut_off(pod or {}) else None


def _is_cut_off(pod: Mapping[str, Any]) -> bool:
    """Tells whether only Ready is gone: so the node controller marks the pods of a node that stopped answering."""
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    containers = status.get("containerStatuses") or []
    runs = bool(containers) and all(container.get("ready") for container in containers)
    return ready.get("status") == "False" and ready.get("reason") != "ReadinessGatesNotReady" and runs


# The StatefulSet's controller cannot create the pod, or one of its claims.


def _not_created(case: Case) -> Problem | None:
    # A claim comes first: the pod is not tried without it.
    rejections = [event for event in current_events(case.warnings) if event.kind == STATEFUL_SET]
    event = min(rejections, key=lambda event: not event.subject, default=None)
    if event is None:
        return None

    why = _rejection(event)
    if event.subject:
        remedy = ""
        if quota := _QUOTA.search(why):
            remedy = f"; raise ResourceQuota {quota[1]}, or free some of it"
        elif " usage per " in why:
            remedy = "; change the size in spec.storage, or the LimitRange of the namespace"
        return Problem("ClaimNotCreated", f"volume claim {event.subject} cannot be created: {why}{remedy}")

    for pattern, reason, remedy in _REJECTIONS:
        if match := pattern.search(why):
            advice = remedy.format(*match.groups())
            return Problem(reason, f"pod {case.pod_name} cannot be created: {why}; {advice}")
    return Problem("PodNotCreated", f"pod {case.pod_name} cannot be created: {why}")


_QUOTA = re.compile(r"\bexceeded quota: ([^\s,]+)")

# What admission says of a pod, the reason for it, and the remedy, into which the pattern's groups go.
_REJECTIONS = (
    (_QUOTA, "QuotaExceeded", "raise ResourceQuota {0}, or free some of it"),
    (
        re.compile(r"\bfailed quota: ([^\s,:]+)"),
        "ResourcesNotSpecified",
        "ResourceQuota {0} requires it: set it in spec.resources",
    ),
    (
        re.compile(r'\bviolates PodSecurity "([^":]+)'),
        "PodSecurityViolation",
        "change spec.securityContext, spec.podSecurityContext or spec.podTemplate, or have an administrator change the "
        "namespace's label "
        "pod-security.kubernetes.io/enforce ({0})",
    ),
    (
        re.compile(r"\bunable to validate against any security context constraint"),
        "PodSecurityViolation",
        "set podTemplate.removeDefaults, change spec.securityContext, or have an administrator grant another SCC",
    ),
    (
        re.compile(r"\b(?:maximum|minimum) \S+ usage per |max limit to request ratio per "),
        "LimitRangeViolation",
        "change spec.resources, or the LimitRange of the namespace",
    ),
    (
        re.compile(r'\bserviceaccount "([^"]+)" not found'),
        "ServiceAccountNotFound",
        "create ServiceAccount {0} in the namespace",
    ),
)
_REPORTER = re.compile(r'^.*? failed error: (?:\S+ "[^"]+" is forbidden: )?')


def _rejection(event: WarningEvent) -> str:
    """Returns what the API server said, without what the reporter has put before it."""
    why = _REPORTER.sub("", event.message)
    # LimitRanger lists what it rejects in another order each time.
    if why.startswith("[") and why.endswith("]"):
        return ", ".join(sorted(re.split(", (?!but )", why[1:-1]))) if " usage per " in why else why
    return why


# The pod does not end, or its node does not answer.


def _node_problem(node: Node, case: Case) -> Problem | None:
    """Returns None when the node is not to blame."""
    if node.state == NodeState.READY:
        return None
    if node.state == NodeState.DELETED:
        message = f"node {node.name} of pod {case.pod_name} is deleted; Kubernetes removes the pod within minutes"
        return Problem("NodeLost", message)

    if node.state == NodeState.NOT_LOOKED_UP:
        what = "should have ended" if ends_at(case.pod) else "is not ready, although its containers were"
        message = (
            f"pod {case.pod_name} {what}; its node {node.name} may not answer, and cannot be looked up: {node.message}"
        )
        return Problem("NodeUnknown", f"{message}. See whether it is Ready: kubectl get node {node.name}")

    # A node that has never reported anything has no time.
    since = f" since {node.since}" if node.since else ""
    if node.out_of_service:
        message = f"node {node.name} is marked as out of service; Kubernetes removes pod {case.pod_name} within minutes"
        return Problem("NodeLost", f"{message}. Remove the taint {_TAINT} once the node is back")
    if node.state == NodeState.NOT_READY:
        message = f"node {node.name} of pod {case.pod_name} has been NotReady{since}: {node.message}"
        return Problem("NodeNotReady", f"{message}; repair it, or drain it while its kubelet answers")

    return Problem(
        "NodeLost",
        f"node {node.name} has not answered{since}: nobody can tell whether pod {case.pod_name} has ended, "
        "so no other pod may use its volumes. Bring the node back. Only if its machine is surely powered off, or cut "
        "off from the storage (or two pods may write to one volume): "
        f"kubectl taint nodes {node.name} {_TAINT}; remove the taint once the node is back",
    )


_TAINT = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


_STILL_ATTACHED = (
    "; kubectl get volumeattachments shows which node still holds {}. It is released once that node reports that the "
    "former pod has ended; if that node is lost, and only if its machine is surely powered off or cut off from the "
    f"storage: kubectl taint nodes NODE {_TAINT}"
)


def _volumes_or_network_missing(case: Case) -> Problem | None:
    """Explains why no container of the pod has ever run."""
    for status in (*(case.status.get("initContainerStatuses") or []), *(case.status.get("containerStatuses") or [])):
        state = status.get("state") or {}
        if "running" in state or "terminated" in state or status.get("lastState"):
            return None

    attach = case.newest("FailedAttachVolume")
    mount = [event for event in case.newest("FailedMount", "FailedMapVolume") if event.topic != "FailedMount"]
    summary = case.newest("FailedMount") if not (attach or mount) else []

    causes = [event.message for event in (*attach, *mount, *summary)]
    for index, event in enumerate(attach):
        if "Multi-Attach error" in event.message:
            causes[index] += _STILL_ATTACHED.format(event.subject or "it")
    if causes:
        reason = "VolumeAttachFailed" if attach else "MountFailed"
        return Problem(reason, f"pod {case.pod_name} waits for its volumes: {'; '.join(causes[:3])}")

    if events := case.newest("FailedCreatePodSandBox", "NetworkNotReady"):
        message = f"pod {case.pod_name} cannot be started on its node: {events[0].message}"
        return Problem("PodSandboxFailed", f"{message}; check the node's network plugin and container runtime")
    return None
