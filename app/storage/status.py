"""What a DittoServer's status says of what was found."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.storage.adoption import why_not_adopted
from app.storage.containers import CRASH_REASONS
from app.storage.diagnosis import steady, waits_for_claims, why_no_volume, why_not_ended, why_not_running
from app.storage.evidence import Case, Node, WarningEvent
from app.storage.facts import Claim, StorageClasses
from app.storage.finding import Finding, Problem
from app.storage.live import LiveState
from app.storage.objects import controller
from app.storage.pod import pod_name
from app.storage.resize import EXPANSION_PHASES, Phase, VolumeState, volume_states
from app.storage.rollout import is_current, is_ready
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volumes import class_difference, described_class, is_of_another_class, storage_class_of

# A claim may wait for a slow provisioner, or its pod for a node; after that long a person is told.
CLAIM_PATIENCE_SECONDS = 300
# The reasons when a Service does not exist, and when it is not as the spec asks: it may be more public than it should.
SERVICE_MISSING, SERVICE_OUTDATED = "ServiceMissing", "ServiceOutdated"
SERVICE_TERMINATING = "ServiceTerminating"
_ABSENT = {
    Phase.TERMINATING: "ClaimTerminating",
    Phase.MISSING: "ClaimMissing",
    Phase.UNKNOWN: "ClaimUnknown",
}


@dataclass(frozen=True)
class Observation:
    """What was found out about a server; `failure` is what kept its objects from being made as they should be.

    `services` is the same of its Services alone, and `growth` of its volumes, which keep nothing else from being made.
    `live_state` is of its volumes and its pod; `overdue` names the claims that had time enough, and `leftovers` those
    that are older than the server. `held` is why its pod is not restarted for a change, and `rejected` what the API
    server says to sections that go into the pod. `file_service` is the live Service at which files are served.
    `warnings` are Events about its objects, and `node` is that of its pod where its state explains something.
    `namespace` says that its namespace is being deleted, `terminating` that an object of it is, which is created again
    once it is gone.
    """

    rejections: Sequence[Finding] = ()
    credentials: Problem | None = None
    credentials_unknown: bool = False
    failure: Problem | None = None
    services: Problem | None = None
    growth: Problem | None = None
    taken: Problem | None = None
    namespace: Problem | None = None
    terminating: Problem | None = None
    held: Problem | None = None
    rejected: Problem | None = None
    file_service: Mapping[str, Any] | None = None
    live_state: LiveState = field(default_factory=LiveState)
    overdue: Collection[str] = ()
    leftovers: Collection[str] = ()
    warnings: Sequence[WarningEvent] = ()
    node: Node | None = None


def status(server: DittoServer, manifest: Mapping[str, Any], observation: Observation, now: str) -> Manifest:
    """The whole status; a condition keeps its lastTransitionTime while its status stays. `now` is RFC 3339."""
    generation = manifest["metadata"]["generation"]
    states = volume_states(server, observation.live_state)
    case = Case(
        server.metadata.name,
        observation.live_state.pod,
        datetime.fromisoformat(now),
        observation.warnings,
        observation.node,
    )
    found = {
        "observedGeneration": generation,
        "availableReplicas": _available(observation),
        "phase": _phase(server, observation, case),
        "conditions": [],
        "volumes": [_volume(state, server, observation) for state in states],
    }
    if endpoint := _endpoint(observation.file_service):
        found["nfsEndpoint"] = endpoint
    former = conditions(manifest)
    for kind, (holds, problem) in _conditions(server, observation, states, case, former).items():
        before = former.get(kind, {})
        since = before.get("lastTransitionTime") if before.get("status") == holds else None
        found["conditions"].append(
            {
                "type": kind,
                "status": holds,
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
                "reason": problem.reason,
                "message": problem.message,
            }
        )
    return found


def conditions(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Those that an object has, by type."""
    return {each["type"]: each for each in (manifest.get("status") or {}).get("conditions") or []}


def _conditions(
    server: DittoServer,
    observation: Observation,
    states: Sequence[VolumeState],
    case: Case,
    former: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[str, Problem]]:
    blocking = sorted(states, key=lambda state: _order_of_blame(state, server, observation))
    claims, growth = _first(_claim_problem(state, server, observation) for state in blocking), _growth_problem(states)
    ready = steady(_not_ready(server, observation, claims, states, case), former.get("Ready"))
    refused = growth if growth and growth.reason == Phase.RESIZE_REFUSED else None
    stalled = (
        _blocked(observation)
        or observation.held
        or observation.rejected
        or refused
        or why_not_adopted(server, observation.live_state)
    )
    failed = observation.failure or observation.services or observation.growth or observation.terminating
    leaving = _leaving_stateful_set(server, observation)
    waiting = (
        failed or leaving or observation.credentials or ready or growth or _rollout(observation.live_state.stateful_set)
    )
    storage = claims or growth
    return {
        "Ready": ("False", ready) if ready else ("True", _good(server, observation)),
        "Reconciling": ("True", waiting) if waiting and not stalled else ("False", Problem("Reconciled", "")),
        "Stalled": ("True", stalled) if stalled else ("False", Problem("Reconciled", "")),
        "StorageReady": (_storage_status(storage), storage) if storage else ("True", _bound(states, server)),
        "CredentialsReady": _credentials(observation, former.get("CredentialsReady")),
    }


def _storage_status(problem: Problem) -> str:
    return "Unknown" if problem.reason == "ClaimUnknown" else "False"


def _first(problems: Iterable[Problem | None]) -> Problem | None:
    return next((problem for problem in problems if problem), None)


def _growth_problem(states: Sequence[VolumeState]) -> Problem | None:
    """What keeps a volume from being as large as it should; first what a person has to see to."""
    growing = [state for state in states if state.phase in EXPANSION_PHASES]
    growing.sort(key=lambda state: state.phase != Phase.RESIZE_REFUSED)
    return Problem(growing[0].phase, growing[0].message) if growing else None


def _bound(states: Sequence[VolumeState], server: DittoServer) -> Problem:
    """With what is larger than it should be or of another class, which the operator cannot change."""
    larger = [state.message for state in states if state.larger]
    differing = [message for state in states if (message := _class_difference(state, server))]
    if not (larger or differing):
        return Problem("Bound", "every claim is bound")
    return Problem("StorageClassDiffers" if differing else "ClaimLarger", "; ".join([*differing, *larger]))


def _class_difference(state: VolumeState, server: DittoServer) -> str:
    return class_difference(state.claim, server.spec.storage) if state.claim else ""


def _credentials(observation: Observation, former: Mapping[str, Any] | None) -> tuple[str, Problem]:
    """As they were, where they could not be looked at."""
    if observation.credentials:
        return "Unknown" if observation.credentials_unknown else "False", observation.credentials
    if not (
        observation.rejections
        or observation.namespace
        or observation.taken
        or observation.terminating
        or observation.failure
    ):
        return "True", Problem("Found", "every Secret is there")
    if former:
        return former["status"], Problem(former["reason"], former["message"])
    return "Unknown", Problem("NotRead", "no Secret has been looked at yet")


def _blocked(observation: Observation) -> Problem | None:
    """Why nothing is made of the spec at all."""
    if observation.rejections:
        return Problem("InvalidSpec", "; ".join(finding.message for finding in observation.rejections))
    return observation.namespace or observation.taken


def _good(server: DittoServer, observation: Observation) -> Problem:
    if server.spec.replicas == 0:
        return Problem("Stopped", "stopped as asked; its volumes are kept")
    return Problem("Available", f"NFS is served at {_endpoint(observation.file_service)}")


def _not_ready(
    server: DittoServer, observation: Observation, claims: Problem | None, states: Sequence[VolumeState], case: Case
) -> Problem | None:
    """Why the server does not do what its spec asks for; the first cause that a person could remove."""
    if blocked := _blocked(observation):
        return blocked
    if server.spec.replicas == 0:
        stopping = why_not_ended(case) or Problem("Stopping", "the pod has yet to end")
        return (
            stopping
            if ((observation.live_state.stateful_set or {}).get("status") or {}).get("replicas")
            else observation.failure
        )
    if _available(observation):
        is_service = observation.terminating and observation.terminating.reason == SERVICE_TERMINATING
        return observation.services or (observation.terminating if is_service else None)
    if observation.live_state.stateful_set is None and (
        absent := observation.credentials or observation.failure or observation.terminating or observation.rejected
    ):
        return absent

    problem = why_not_adopted(server, observation.live_state) or why_not_running(case)
    blocks = _waits_for_a_node(observation.live_state.pod) and any(
        _keeps_from_node(state, server, observation) for state in states
    )
    if claims and (problem is None or waits_for_claims(problem) or blocks):
        return claims
    return problem or _leaving_stateful_set(server, observation) or Problem("PodStarting", "the pod is not ready yet")


def _waits_for_a_node(pod: Mapping[str, Any] | None) -> bool:
    found = ((pod or {}).get("status") or {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("PodScheduled", "False") for condition in found)


def _order_of_blame(state: VolumeState, server: DittoServer, observation: Observation) -> int:
    """Sorts claims whose data is at risk first, then those that nobody provides a volume for.

    Those that only wait for the pod to get a node come last.
    """
    if state.phase == Phase.TERMINATING:
        return 0
    if _waits_for_provisioner(state, server, observation):
        return 0 if state.claim and state.claim.name in observation.leftovers else 1
    return 2 if state.phase == Phase.PENDING else 1


def _keeps_from_node(state: VolumeState, server: DittoServer, observation: Observation) -> bool:
    """Whether the scheduler waits for the claim, as it does unless the claim's class waits for the scheduler."""
    return state.claim is not None and _waits_for_provisioner(state, server, observation)


def _waits_for_provisioner(state: VolumeState, server: DittoServer, observation: Observation) -> bool:
    """Whether nothing but a volume is missing; also of a claim that is about to be created."""
    storage_class = observation.live_state.classes.named(_class_of(server, state.claim, observation) or "")
    return state.phase in (Phase.PENDING, Phase.LOST) and not (storage_class and storage_class.waits_for_pod)


def _rollout(stateful_set: Mapping[str, Any] | None) -> Problem | None:
    """The pod still runs as it was before the last change, or by itself."""
    if stateful_set is None:
        return Problem("StatefulSetMissing", "the StatefulSet is made again once the former one is gone")
    if not is_current(stateful_set):
        return Problem("RollingOut", "the pod is being replaced by one of the current revision")
    return None


def _leaving_stateful_set(server: DittoServer, observation: Observation) -> Problem | None:
    live = observation.live_state.stateful_set
    if live is None or not is_terminating(live):
        return None
    name = server.metadata.name
    return Problem("StatefulSetTerminating", f"StatefulSet {name} is being deleted; it is recreated once it is gone")


def _claim_problem(state: VolumeState, server: DittoServer, observation: Observation) -> Problem | None:
    """Why there is no volume; its size is another matter."""
    claim, name = state.claim, state.volume.claim_name(server.metadata.name)
    missing = _class_problem(_class_of(server, claim, observation), observation.live_state.classes)
    if state.phase == Phase.MISSING and observation.live_state.pod is None and missing:
        return Problem(missing.reason, f"volume claim {name} cannot be created: {missing.message}")
    if reason := _ABSENT.get(state.phase):
        why = why_no_volume(name, observation.warnings) if state.phase == Phase.MISSING else None
        return Problem(reason, f"volume claim {name} does not exist: {why}" if why else state.message)
    if state.phase == Phase.LOST:
        return Problem("ClaimLost", f"volume claim {name} has lost its volume; restore it, or remove the claim")
    if state.phase != Phase.PENDING:
        return None
    if claim and name in observation.leftovers:
        return _leftover_problem(claim, server, observation)
    if missing:
        return Problem(missing.reason, f"volume claim {name} stays Pending: {missing.message}")
    waits = _waits_for(_class_of(server, claim, observation), observation.live_state.classes)
    why = why_no_volume(name, observation.warnings) or waits
    if name in observation.overdue:
        return Problem("ClaimOverdue", f"volume claim {name} is Pending for more than five minutes: {why}")
    return Problem("ClaimPending", f"volume claim {name} is Pending: {why}")


def _leftover_problem(claim: Claim, server: DittoServer, observation: Observation) -> Problem:
    """Names the claim as the cause that was there before the server and has no volume: only a person may delete it."""
    name, classes, wanted = (
        _class_of(server, claim, observation),
        observation.live_state.classes,
        server.spec.storage.storage_class_name,
    )
    what = f"volume claim {claim.name}, created {claim.created} before this server,"
    if is_of_another_class(claim, wanted):
        what = f"{what} is {described_class(claim, wanted)}, and"

    missing = _class_problem(name, classes)
    why = missing.message if missing else _waits_for(name, classes)
    storage_class = classes.named(name or "")
    if not (storage_class and storage_class.waits_for_pod):
        # The pod, too: the controller of the StatefulSet looks at the claims again when it has a pod to make.
        both = f"the claim and pod {pod_name(server.metadata.name)}"
        why = f"{why}; delete {both} to have both made again, unless the claim is about to be bound"

    pending = "ClaimOverdue" if claim.name in observation.overdue else "ClaimPending"
    return Problem(missing.reason if missing else pending, f"{what} was never bound: {why}")


def _class_problem(name: str | None, classes: StorageClasses) -> Problem | None:
    if classes.gap or name == "":
        return None
    if name is None:
        return Problem("NoDefaultStorageClass", "no StorageClass is named and none is the default")
    if classes.named(name) is None:
        return Problem("StorageClassNotFound", f'StorageClass "{name}" does not exist in cluster')
    return None


def _waits_for(name: str | None, classes: StorageClasses) -> str:
    if name == "":
        return "it waits for a volume that somebody makes by hand"
    found = classes.named(name) if name else None
    if found is None:
        return "it waits for a volume"
    if found.waits_for_pod:
        return f'StorageClass "{name}" waits until the pod has a node'
    return f'it waits for {found.provisioner} of StorageClass "{name}"'


def _class_of(server: DittoServer, claim: Claim | None, observation: Observation) -> str | None:
    return storage_class_of(server.spec.storage, claim, observation.live_state.classes)


def _volume(state: VolumeState, server: DittoServer, observation: Observation) -> Manifest:
    problem = _claim_problem(state, server, observation)
    message = problem.message if problem else state.message
    found = {
        "name": state.volume.name,
        "claim": state.volume.claim_name(server.metadata.name),
        "storageClass": _class_of(server, state.claim, observation),
        "requested": state.volume.size,
        "capacity": state.claim and state.claim.capacity,
        "phase": str(state.phase),
        "message": "; ".join(filter(None, (message, _class_difference(state, server)))) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _available(observation: Observation) -> int:
    """Counts as the StatefulSet's controller does, or looks at the pod itself while that one cannot count it."""
    live, pod = observation.live_state.stateful_set, observation.live_state.pod
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


def _phase(server: DittoServer, observation: Observation, case: Case) -> str:
    problem = why_not_running(case)
    if _blocked(observation) or (problem and problem.reason in CRASH_REASONS and not _available(observation)):
        return "Failed"
    if server.spec.replicas == 0:
        return "Stopped"
    return "Running" if _available(observation) else "Pending"
