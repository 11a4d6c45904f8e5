"""Decides the status of a DittoServer from what was observed: its conditions, its phase and its volumes.

Each condition has a function of its name. Nothing here writes a status or records an Event.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from app.storage import endpoints, stores
from app.storage.adoption import why_not_adopted
from app.storage.claims import claim_problem, first_claim_problem, waits_for_provisioner
from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN
from app.storage.containers import CRASH_REASONS
from app.storage.database import unmounted_database
from app.storage.diagnosis import keep_message, waits_for_claims, why_not_ended, why_not_running
from app.storage.evidence import Case, Node, WarningEvent
from app.storage.finding import Finding
from app.storage.images import database_image, observe_image
from app.storage.live import LiveState
from app.storage.objects import controller, service_name
from app.storage.pause import paused_problem
from app.storage.problem import SERVICE_MISSING, SERVICE_TERMINATING, UNREADABLE, Problem, Stage, Verdict, first
from app.storage.provisioning import SERVER_REASONS, Contents
from app.storage.remote_store import SERVER_UNREACHABLE
from app.storage.rollout import is_current, is_outdated, is_ready
from app.storage.spec import DittoServer
from app.storage.stores import observe_server
from app.storage.takeover import IGNORED_FIELDS
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import EXPANSION_PHASES, Phase, VolumeState, volume_states

RECONCILED = Problem("Reconciled", "")
# The stages whose problems keep the StatefulSet from being created, in the order in which they are reported.
_HOLDING_UP = (Stage.CREDENTIALS, Stage.APPLY, Stage.NAME, Stage.POD)


@dataclass(frozen=True)
class Observation:
    """Everything that a status is decided from.

    `problems` are those that were met while the server was being reconciled; those of a stage are in the order of
    their importance. `warnings` are Events about its objects, and `node` is the node of its pod when the state of the
    node explains something. `pending_rollout` is what the next rollout of the pod brings. `contents` is
    None when nobody decided on the stores and shares inside the server.
    """

    problems: Sequence[Problem] = ()
    live: LiveState = field(default_factory=LiveState)
    warnings: Sequence[WarningEvent] = ()
    node: Node | None = None
    pending_rollout: str | None = None
    contents: Contents | None = None
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN
    migration_failed: bool = False  # The log of the server's last run, which ended with an error, says so.


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
        return self.observation.live

    def first(self, *stages: Stage) -> Problem | None:
        return first(self.observation.problems, *stages)

    @property
    def blocked(self) -> Problem | None:
        """Why nothing at all is applied."""
        return first(self._stalling, Stage.SPEC, Stage.NAME)

    @property
    def paused(self) -> Problem | None:
        """Why the operator changes nothing, whatever it sees."""
        metadata = self.server.metadata
        return paused_problem(metadata.name, metadata.namespace) if self.live.is_paused else None

    @cached_property
    def not_ready(self) -> Problem | None:
        """Why the server does not do what its spec asks for; None when it does."""
        return keep_message(_why_not_ready(self), self.earlier.get("Ready"))

    @cached_property
    def stalled(self) -> Problem | None:
        """The first thing that a person has to see to."""
        refused = self.expansion if self.expansion and self.expansion.stalls else None
        stuck = self.not_ready if self.not_ready and self.not_ready.stalls else None
        return first(self._stalling, *Stage) or refused or why_not_adopted(self.server, self.live) or stuck

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
    generation, live = manifest["metadata"]["generation"], assessment.live

    listed: list[Mapping[str, Any]] = []
    for kind, decide in CONDITIONS.items():
        earlier = assessment.earlier.get(kind, {})
        verdict = decide(assessment)
        if verdict is None:
            # Nothing new is known, not even that nothing is.
            listed += [earlier] if earlier else []
            continue

        holds, problem = verdict
        since = earlier.get("lastTransitionTime") if earlier.get("status") == holds else None
        listed.append(
            {
                "type": kind,
                "status": holds,
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
                "reason": problem.reason,
                "message": problem.message,
            }
        )

    volumes = []
    for state in assessment.states:
        claim_error = claim_problem(state, server, live, assessment.case)
        volume = {
            "name": state.volume.name,
            "claim": state.claim_name,
            "storageClass": state.storage_class,
            "requested": state.volume.size,
            "capacity": state.capacity,
            "phase": str(state.phase),
            "message": state.explain(claim_error.message if claim_error else None) or None,
        }
        volumes.append({name: value for name, value in volume.items() if value is not None})

    result = {
        "observedGeneration": generation,
        "availableReplicas": available_replicas(live),
        "phase": _phase(assessment),
        "conditions": listed,
        "volumes": volumes,
    }
    contents = observation.contents or Contents(live.remote_store, live.shares)
    reachable = endpoints.endpoints(server, live, observation.cluster_domain)
    optional = {
        "nfsEndpoint": endpoints.nfs_endpoint(server, live, observation.cluster_domain),
        "endpoints": [endpoint.as_status() for endpoint in reachable],
        "server": observe_image(server, live, observe_server(live)).model_dump(by_alias=True, exclude_none=True),
        "pendingRollout": observation.pending_rollout,
        "remoteStore": contents.remote_store.as_status(),
        "shares": [share.as_status() for share in contents.shares],
        IGNORED_FIELDS: list(manifest.get(IGNORED_FIELDS) or ()),
    }
    return result | {name: value for name, value in optional.items() if value}


def _assess(server: DittoServer, manifest: Mapping[str, Any], observation: Observation, now: str) -> _Assessment:
    live = observation.live
    created = manifest["metadata"].get("creationTimestamp") or ""
    case = Case(
        server.metadata.name,
        live.pod,
        datetime.fromisoformat(now),
        observation.warnings,
        observation.node,
        created,
        observation.migration_failed,
        database_image(live.server),
        held_up=live.stateful_set is None and first(observation.problems, Stage.SPEC, *_HOLDING_UP) is not None,
    )

    if live.is_paused and live.stateful_set:
        # Nobody stops or starts the pod: the status is about the one that runs, or does not.
        replicas = min(live.stateful_set["spec"]["replicas"], 1)
        server = server.model_copy(update={"spec": server.spec.model_copy(update={"replicas": replicas})})

    states = volume_states(server, live)
    expanding = [state for state in states if state.phase in EXPANSION_PHASES]
    # A rejected expansion comes first: a person has to see to it.
    expansion = min(expanding, key=lambda state: state.phase != Phase.RESIZE_REFUSED, default=None)
    stalls = expansion is not None and expansion.phase == Phase.RESIZE_REFUSED

    return _Assessment(
        server=server,
        observation=observation,
        states=states,
        case=case,
        earlier=conditions(manifest),
        unbound=first_claim_problem(server, states, live, case),
        expansion=Problem(expansion.phase, expansion.message, Stage.VOLUMES, stalls) if expansion else None,
    )


def ready(assessment: _Assessment) -> Verdict:
    if problem := assessment.not_ready:
        return "False", problem
    if assessment.server.spec.replicas == 0:
        return "True", Problem("Stopped", "stopped as asked; its volumes are kept")

    endpoint = endpoints.nfs_endpoint(assessment.server, assessment.live, assessment.observation.cluster_domain)
    return "True", Problem("Available", f"NFS is served at {endpoint}")


def reconciling(assessment: _Assessment) -> Verdict:
    """Holds while the operator or the cluster still works on something, unless that is stalled."""
    if assessment.paused:
        return "True", assessment.paused
    if assessment.stalled:
        return "False", RECONCILED

    pending = (
        assessment.first(Stage.APPLY, Stage.SERVICES, Stage.VOLUMES, Stage.NAME, Stage.CLAIMS)
        or _terminating_stateful_set(assessment)
        or assessment.first(Stage.CREDENTIALS)
        or assessment.not_ready
        or assessment.expansion
    )
    if pending:
        return "True", pending

    # The pod may still run as before the last change, or without a StatefulSet.
    stateful_set = assessment.live.stateful_set
    if stateful_set is None:
        return "True", Problem("StatefulSetMissing", "the StatefulSet is recreated once the previous one is gone")

    pod = assessment.live.named_pod
    if not is_current(stateful_set) or (pod and is_outdated(pod, stateful_set)):
        return "True", Problem("RollingOut", "the pod is being replaced by one of the current revision")
    return "False", RECONCILED


def stalled(assessment: _Assessment) -> Verdict:
    """Holds while nothing goes on until a person does something, other than to resume a server that was paused."""
    if assessment.paused:
        return "False", RECONCILED
    if problem := assessment.stalled:
        return "True", problem
    return "False", RECONCILED


def storage_ready(assessment: _Assessment) -> Verdict:
    """Holds while every claim is bound; what the operator cannot change about a bound claim is only mentioned."""
    if problem := assessment.unbound or assessment.expansion:
        return "Unknown" if problem.reason == "ClaimUnknown" else "False", problem

    if unmounted := unmounted_database(assessment.server, assessment.live):
        return "True", Problem("DatabaseClaimNotMounted", unmounted)

    if rejected := assessment.first(Stage.CLAIMS):
        return "True", rejected

    larger = [state.message for state in assessment.states if state.larger]
    differing = [state.class_difference for state in assessment.states if state.class_difference]
    if not (larger or differing):
        return "True", Problem("Bound", "every claim is bound")

    reason = "StorageClassDiffers" if differing else "ClaimLarger"
    return "True", Problem(reason, "; ".join([*differing, *larger]))


def credentials_ready(assessment: _Assessment) -> Verdict:
    """Stays as it was when something else kept the operator from looking at the Secrets."""
    if problem := assessment.first(Stage.CREDENTIALS):
        return "Unknown" if problem.reason in (UNREADABLE, SERVER_UNREACHABLE) else "False", problem

    earlier, contents = assessment.earlier.get("CredentialsReady"), assessment.observation.contents
    # Until this process has asked the server again, what the server said last holds.
    is_known = not (contents and contents.awaits_server and earlier and earlier["reason"] in SERVER_REASONS)
    if is_known and not assessment.first(Stage.SPEC, Stage.NAME, Stage.APPLY):
        kept = contents.kept if contents else None
        return "True", kept or Problem("Found", "every Secret is there")

    if earlier is None:
        return "Unknown", Problem("NotRead", "no Secret has been looked at yet")
    return earlier["status"], Problem(earlier["reason"], earlier["message"])


def stores_ready(assessment: _Assessment) -> Verdict | None:
    verdict = stores.stores_ready(assessment.server, assessment.live)
    # A server whose pod was ready before its first status has all conditions, too.
    return verdict if verdict or assessment.earlier else stores.NOT_RUNNING


def endpoints_ready(assessment: _Assessment) -> Verdict:
    earlier = assessment.earlier.get("EndpointsReady") or {}
    now = assessment.case.now.isoformat().replace("+00:00", "Z")
    since = earlier["lastTransitionTime"] if earlier.get("status") == "False" else now
    return endpoints.endpoints_ready(assessment.server, assessment.live, since)


CONDITIONS: Mapping[str, Callable[[_Assessment], Verdict | None]] = {
    "Ready": ready,
    "Reconciling": reconciling,
    "Stalled": stalled,
    "StorageReady": storage_ready,
    "CredentialsReady": credentials_ready,
    "StoresReady": stores_ready,
    "EndpointsReady": endpoints_ready,
}


def _why_not_ready(assessment: _Assessment) -> Problem | None:
    """Returns the first cause that a person could remove; None when the server does what its spec asks for."""
    server, live, case = assessment.server, assessment.live, assessment.case
    if assessment.blocked:
        return assessment.blocked
    if live.is_paused and live.stateful_set is None:
        return assessment.paused

    if server.spec.replicas == 0:
        if ((live.stateful_set or {}).get("status") or {}).get("replicas"):
            return why_not_ended(case) or Problem("Stopping", "the pod has not ended yet")
        return assessment.first(Stage.APPLY)

    if available_replicas(live):
        file_service = service_name(server.metadata.name, "file")
        if live.is_paused and file_service not in live.services:
            message = f"Service {file_service} does not exist, and is not recreated while the server is paused"
            return Problem(SERVICE_MISSING, message, Stage.SERVICES)

        terminating = assessment.first(Stage.NAME)
        is_service = terminating is not None and terminating.reason == SERVICE_TERMINATING
        return assessment.first(Stage.SERVICES) or (terminating if is_service else None)

    absent = assessment.first(*_HOLDING_UP)
    if live.stateful_set is None and absent:
        return absent

    problem = why_not_adopted(server, live) or why_not_running(case)
    pod_conditions = ((live.pod or {}).get("status") or {}).get("conditions") or []
    has_no_node = any((entry["type"], entry["status"]) == ("PodScheduled", "False") for entry in pod_conditions)

    # The scheduler waits for a claim, unless the claim's class waits for the scheduler.
    claims_block = has_no_node and any(
        state.claim and waits_for_provisioner(state, live.classes) for state in assessment.states
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


def available_replicas(live: LiveState) -> int:
    """Counts the pod while it is ready and the StatefulSet's controller counts it, too, where that controller can."""
    # The controller counts a pod that was replaced until it has seen the next one.
    stateful_set, pod = live.stateful_set, live.pod
    if pod is None or not is_ready(pod):
        return 0

    # Only a pod whose StatefulSet is being recreated has an owner that is not its controller.
    counted = (stateful_set or {}).get("status") or {}
    owners = (pod.get("metadata") or {}).get("ownerReferences")
    is_held = bool(owners) and controller(pod) is None
    is_leaving = stateful_set is not None and is_terminating(stateful_set)
    if not counted.get("observedGeneration") or is_leaving or is_held:
        return 1
    return int(counted.get("availableReplicas") or 0)
