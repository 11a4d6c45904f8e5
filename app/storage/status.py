"""Decides the status of a DittoServer from what was observed: its conditions, its phase and its volumes.

Each condition has a function of its name. Nothing here writes a status or records an Event.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.storage.adoption import why_not_adopted
from app.storage.containers import CRASH_REASONS
from app.storage.diagnosis import steady, waits_for_claims, why_no_volume, why_not_ended, why_not_running
from app.storage.evidence import Case, Node, WarningEvent
from app.storage.facts import Claim, StorageClasses
from app.storage.finding import Finding
from app.storage.live import LiveState
from app.storage.objects import controller
from app.storage.pod import pod_name
from app.storage.problem import Problem, Stage, first
from app.storage.rollout import is_current, is_ready
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import EXPANSION_PHASES, Phase, VolumeState, volume_states
from app.storage.volumes import describe_class, is_of_another_class

# A slow provisioner, or a pod that waits for a node, may take this long before a claim is reported as overdue.
CLAIM_PATIENCE_SECONDS = 300

# Reasons for a Service that does not exist, and for one that is not as the spec asks: it may be open to more clients.
SERVICE_MISSING, SERVICE_OUTDATED = "ServiceMissing", "ServiceOutdated"
SERVICE_TERMINATING = "ServiceTerminating"

# The reason when nobody can tell whether the credentials are there.
UNREADABLE = "SecretUnreadable"

Verdict = tuple[str, Problem]


@dataclass(frozen=True)
class Observation:
    """What is known of a server when its status is written.

    `problems` are those that were met while the server was being reconciled; those of a stage are in the order of
    their importance. `overdue` names the claims that have been Pending for too long, `leftovers` those that are older
    than the server. `warnings` are Events about its objects, and `node` is the node of its pod when the state of the
    node explains something. `file_service` is the live Service at which files are served.
    """

    problems: Sequence[Problem] = ()
    live_state: LiveState = field(default_factory=LiveState)
    overdue: Collection[str] = ()
    leftovers: Collection[str] = ()
    warnings: Sequence[WarningEvent] = ()
    node: Node | None = None
    file_service: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Assessment:
    """Everything that the conditions are decided from. `earlier` are the conditions that the server has by now.

    `unbound` is why a volume is missing, `expansion` why one is not as large as it should be.
    """

    server: DittoServer
    observation: Observation
    states: Sequence[VolumeState]
    case: Case
    earlier: Mapping[str, Mapping[str, Any]]
    unbound: Problem | None
    expansion: Problem | None

    @property
    def live(self) -> LiveState:
        return self.observation.live_state

    def first(self, *stages: Stage) -> Problem | None:
        return first(self.observation.problems, *stages)

    @property
    def blocked(self) -> Problem | None:
        """Why nothing at all is applied."""
        return first(self._stalling, Stage.SPEC, Stage.NAME)

    @property
    def stalled(self) -> Problem | None:
        """The first thing that a person has to see to."""
        refused = self.expansion if self.expansion and self.expansion.stalls else None
        return first(self._stalling, *Stage) or refused or why_not_adopted(self.server, self.live)

    @property
    def _stalling(self) -> Iterator[Problem]:
        return (problem for problem in self.observation.problems if problem.stalls)


def invalid_spec(rejections: Iterable[Finding]) -> Problem:
    message = "; ".join(finding.message for finding in rejections)
    return Problem("InvalidSpec", message, Stage.SPEC, stalls=True)


def conditions(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the conditions in the status of a raw DittoServer, by type."""
    listed = (manifest.get("status") or {}).get("conditions") or []
    return {condition["type"]: condition for condition in listed}


def status(server: DittoServer, manifest: Mapping[str, Any], observation: Observation, now: str) -> Manifest:
    """Returns the whole status; a condition keeps its lastTransitionTime while its status stays. `now` is RFC 3339."""
    assessment = _assess(server, manifest, observation, now)
    generation = manifest["metadata"]["generation"]

    def condition(kind: str, verdict: Verdict) -> Manifest:
        holds, problem = verdict
        earlier = assessment.earlier.get(kind, {})
        since = earlier.get("lastTransitionTime") if earlier.get("status") == holds else None
        return {
            "type": kind,
            "status": holds,
            "observedGeneration": generation,
            "lastTransitionTime": since or now,
            "reason": problem.reason,
            "message": problem.message,
        }

    result = {
        "observedGeneration": generation,
        "availableReplicas": available_replicas(observation.live_state),
        "phase": _phase(assessment),
        "conditions": [condition(kind, decide(assessment)) for kind, decide in CONDITIONS.items()],
        "volumes": [_volume_status(state, server, observation) for state in assessment.states],
    }
    if endpoint := _endpoint(observation.file_service):
        result["nfsEndpoint"] = endpoint
    return result


def _assess(server: DittoServer, manifest: Mapping[str, Any], observation: Observation, now: str) -> _Assessment:
    live = observation.live_state
    states = volume_states(server, live)

    by_urgency = sorted(states, key=lambda state: _urgency(state, observation))
    unbound = (_claim_problem(state, server, observation) for state in by_urgency)

    # A rejected expansion comes first: a person has to see to it.
    expanding = [state for state in states if state.phase in EXPANSION_PHASES]
    expanding.sort(key=lambda state: state.phase != Phase.RESIZE_REFUSED)
    expansions = (
        Problem(state.phase, state.message, Stage.VOLUMES, stalls=state.phase == Phase.RESIZE_REFUSED)
        for state in expanding
    )

    return _Assessment(
        server=server,
        observation=observation,
        states=states,
        case=Case(server.metadata.name, live.pod, datetime.fromisoformat(now), observation.warnings, observation.node),
        earlier=conditions(manifest),
        unbound=next((problem for problem in unbound if problem), None),
        expansion=next(expansions, None),
    )


def ready(assessment: _Assessment) -> Verdict:
    if problem := _not_ready(assessment):
        return "False", problem
    if assessment.server.spec.replicas == 0:
        return "True", Problem("Stopped", "stopped as asked; its volumes are kept")
    return "True", Problem("Available", f"NFS is served at {_endpoint(assessment.observation.file_service)}")


def reconciling(assessment: _Assessment) -> Verdict:
    """Holds while the operator or the cluster still works on something, unless that is stalled."""
    pending = (
        assessment.first(Stage.APPLY, Stage.SERVICES, Stage.VOLUMES, Stage.NAME)
        or _terminating_stateful_set(assessment)
        or assessment.first(Stage.CREDENTIALS)
        or _not_ready(assessment)
        or assessment.expansion
        or _rollout(assessment.live.stateful_set)
    )
    if pending and not assessment.stalled:
        return "True", pending
    return "False", RECONCILED


def stalled(assessment: _Assessment) -> Verdict:
    """Holds while nothing goes on until a person does something."""
    if problem := assessment.stalled:
        return "True", problem
    return "False", RECONCILED


def storage_ready(assessment: _Assessment) -> Verdict:
    """Holds while every claim is bound; what the operator cannot change about a bound claim is only mentioned."""
    if problem := assessment.unbound or assessment.expansion:
        return "Unknown" if problem.reason == "ClaimUnknown" else "False", problem

    larger = [state.message for state in assessment.states if state.larger]
    differing = [state.class_difference for state in assessment.states if state.class_difference]
    if not (larger or differing):
        return "True", Problem("Bound", "every claim is bound")
    reason = "StorageClassDiffers" if differing else "ClaimLarger"
    return "True", Problem(reason, "; ".join([*differing, *larger]))


def credentials_ready(assessment: _Assessment) -> Verdict:
    """Stays as it was when something else kept the operator from looking at the Secrets."""
    if problem := assessment.first(Stage.CREDENTIALS):
        return "Unknown" if problem.reason == UNREADABLE else "False", problem
    if not assessment.first(Stage.SPEC, Stage.NAME, Stage.APPLY):
        return "True", Problem("Found", "every Secret is there")

    earlier = assessment.earlier.get("CredentialsReady")
    if earlier is None:
        return "Unknown", Problem("NotRead", "no Secret has been looked at yet")
    return earlier["status"], Problem(earlier["reason"], earlier["message"])


RECONCILED = Problem("Reconciled", "")
CONDITIONS: Mapping[str, Callable[[_Assessment], Verdict]] = {
    "Ready": ready,
    "Reconciling": reconciling,
    "Stalled": stalled,
    "StorageReady": storage_ready,
    "CredentialsReady": credentials_ready,
}


def _not_ready(assessment: _Assessment) -> Problem | None:
    return steady(_why_not_ready(assessment), assessment.earlier.get("Ready"))


def _why_not_ready(assessment: _Assessment) -> Problem | None:
    """Returns the first cause that a person could remove; None when the server does what its spec asks for."""
    server, live, case = assessment.server, assessment.live, assessment.case
    if assessment.blocked:
        return assessment.blocked

    if server.spec.replicas == 0:
        if ((live.stateful_set or {}).get("status") or {}).get("replicas"):
            return why_not_ended(case) or Problem("Stopping", "the pod has not ended yet")
        return assessment.first(Stage.APPLY)

    if available_replicas(live):
        terminating = assessment.first(Stage.NAME)
        is_service = terminating is not None and terminating.reason == SERVICE_TERMINATING
        return assessment.first(Stage.SERVICES) or (terminating if is_service else None)

    absent = assessment.first(Stage.CREDENTIALS, Stage.APPLY, Stage.NAME, Stage.POD)
    if live.stateful_set is None and absent:
        return absent

    problem = why_not_adopted(server, live) or why_not_running(case)
    pod_conditions = ((live.pod or {}).get("status") or {}).get("conditions") or []
    has_no_node = any((each["type"], each["status"]) == ("PodScheduled", "False") for each in pod_conditions)
    # The scheduler waits for a claim, unless the claim's class waits for the scheduler.
    claims_block = has_no_node and any(
        state.claim and _waits_for_provisioner(state, live.classes) for state in assessment.states
    )
    if assessment.unbound and (problem is None or waits_for_claims(problem) or claims_block):
        return assessment.unbound
    return problem or _terminating_stateful_set(assessment) or Problem("PodStarting", "the pod is not ready yet")


def _phase(assessment: _Assessment) -> str:
    is_available = bool(available_replicas(assessment.live))
    problem = why_not_running(assessment.case)
    crashes = problem is not None and problem.reason in CRASH_REASONS and not is_available
    if assessment.blocked or crashes:
        return "Failed"
    if assessment.server.spec.replicas == 0:
        return "Stopped"
    return "Running" if is_available else "Pending"


def _terminating_stateful_set(assessment: _Assessment) -> Problem | None:
    live = assessment.live.stateful_set
    if live is None or not is_terminating(live):
        return None
    name = assessment.server.metadata.name
    return Problem("StatefulSetTerminating", f"StatefulSet {name} is being deleted; it is recreated once it is gone")


def _rollout(stateful_set: Mapping[str, Any] | None) -> Problem | None:
    """Returns a problem while the pod still runs as it was before the last change, or without a StatefulSet."""
    if stateful_set is None:
        return Problem("StatefulSetMissing", "the StatefulSet is recreated once the previous one is gone")
    if not is_current(stateful_set):
        return Problem("RollingOut", "the pod is being replaced by one of the current revision")
    return None


def _urgency(state: VolumeState, observation: Observation) -> int:
    """Sorts claims whose data is at risk first, and those that only wait for the pod to get a node last."""
    if state.phase == Phase.TERMINATING:
        return 0
    if _waits_for_provisioner(state, observation.live_state.classes):
        return 0 if state.claim and state.claim_name in observation.leftovers else 1
    return 2 if state.phase == Phase.PENDING else 1


def _waits_for_provisioner(state: VolumeState, classes: StorageClasses) -> bool:
    """Tells whether nothing but a volume is missing, be it of a claim that is about to be created."""
    storage_class = classes.named(state.storage_class or "")
    return state.phase in (Phase.PENDING, Phase.LOST) and not (storage_class and storage_class.waits_for_pod)


def _claim_problem(state: VolumeState, server: DittoServer, observation: Observation) -> Problem | None:
    """Returns why there is no volume; its size is another matter."""
    name, live = state.claim_name, observation.live_state
    class_problem = _class_problem(state.storage_class, live.classes)

    if state.phase in _ABSENT_REASONS:
        why = None
        if state.phase == Phase.MISSING:
            if live.pod is None and class_problem:
                return Problem(class_problem.reason, f"volume claim {name} cannot be created: {class_problem.message}")
            why = why_no_volume(name, observation.warnings)
        message = f"volume claim {name} does not exist: {why}" if why else state.message
        return Problem(_ABSENT_REASONS[state.phase], message)

    if state.phase == Phase.LOST:
        return Problem("ClaimLost", f"volume claim {name} has lost its volume; restore it, or remove the claim")
    if state.phase != Phase.PENDING:
        return None

    if state.claim and name in observation.leftovers:
        return _leftover_problem(state.claim, state, server, observation)
    if class_problem:
        return Problem(class_problem.reason, f"volume claim {name} stays Pending: {class_problem.message}")
    why = why_no_volume(name, observation.warnings) or _why_pending(state.storage_class, live.classes)
    if name in observation.overdue:
        return Problem("ClaimOverdue", f"volume claim {name} is Pending for more than five minutes: {why}")
    return Problem("ClaimPending", f"volume claim {name} is Pending: {why}")


_ABSENT_REASONS = {
    Phase.TERMINATING: "ClaimTerminating",
    Phase.MISSING: "ClaimMissing",
    Phase.UNKNOWN: "ClaimUnknown",
}


def _leftover_problem(claim: Claim, state: VolumeState, server: DittoServer, observation: Observation) -> Problem:
    """Blames a claim that is older than the server and was never bound: only a person may delete it."""
    classes, wanted = observation.live_state.classes, server.spec.storage.storage_class_name
    what = f"volume claim {claim.name}, created {claim.created} before this server,"
    if is_of_another_class(claim, wanted):
        what = f"{what} is {describe_class(claim, wanted)}, and"

    class_problem = _class_problem(state.storage_class, classes)
    why = class_problem.message if class_problem else _why_pending(state.storage_class, classes)
    if _waits_for_provisioner(state, classes):
        # The pod, too: the StatefulSet's controller looks at the claims again only when it creates a pod.
        both = f"the claim and pod {pod_name(server.metadata.name)}"
        why = f"{why}; delete {both} to have both made again, unless the claim is about to be bound"

    reason = "ClaimOverdue" if claim.name in observation.overdue else "ClaimPending"
    return Problem(class_problem.reason if class_problem else reason, f"{what} was never bound: {why}")


def _class_problem(name: str | None, classes: StorageClasses) -> Problem | None:
    if classes.gap or name == "":
        return None
    if name is None:
        return Problem("NoDefaultStorageClass", "no StorageClass is named and none is the default")
    if classes.named(name) is None:
        return Problem("StorageClassNotFound", f'StorageClass "{name}" does not exist in cluster')
    return None


def _why_pending(name: str | None, classes: StorageClasses) -> str:
    if name == "":
        return "it waits for a volume that somebody makes by hand"
    storage_class = classes.named(name) if name else None
    if storage_class is None:
        return "it waits for a volume"
    if storage_class.waits_for_pod:
        return f'StorageClass "{name}" waits until the pod has a node'
    return f'it waits for {storage_class.provisioner} of StorageClass "{name}"'


def _volume_status(state: VolumeState, server: DittoServer, observation: Observation) -> Manifest:
    problem = _claim_problem(state, server, observation)
    fields = {
        "name": state.volume.name,
        "claim": state.claim_name,
        "storageClass": state.storage_class,
        "requested": state.volume.size,
        "capacity": state.capacity,
        "phase": str(state.phase),
        "message": state.explain(problem.message if problem else None) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def available_replicas(live_state: LiveState) -> int:
    """Counts as the StatefulSet's controller does, or looks at the pod itself while the controller cannot count it."""
    live, pod = live_state.stateful_set, live_state.pod
    counted = (live or {}).get("status") or {}
    if pod and (not counted.get("observedGeneration") or (live and is_terminating(live)) or _is_between_owners(pod)):
        return int(is_ready(pod))
    return int(counted.get("availableReplicas") or 0)


def _is_between_owners(pod: Mapping[str, Any]) -> bool:
    """Whether its StatefulSet is being recreated: only then has it an owner that is no controller."""
    owners = (pod.get("metadata") or {}).get("ownerReferences")
    return bool(owners) and controller(pod) is None


def _endpoint(service: Mapping[str, Any] | None) -> str | None:
    """Where clients reach NFS, as the live Service has it; None while there is no Service."""
    if service is None:
        return None
    metadata, ports = service["metadata"], service["spec"].get("ports") or []
    port = next((port["port"] for port in ports if port.get("name") == "nfs"), None)
    return port and f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local:{port}"
