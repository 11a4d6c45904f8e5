"""What a DittoServer's status can say, as models for the schema, and what it says of what was found."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.storage.adoption import why_not_adopted
from app.storage.containers import CRASH_REASONS
from app.storage.diagnosis import steady, waits_for_claims, why_no_volume, why_not_ended, why_not_running
from app.storage.evidence import Case, Node, WarningEvent
from app.storage.facts import Claim, StorageClasses, is_terminating
from app.storage.finding import Finding, Problem
from app.storage.growth import Outlook, Phase, Situation, outlooks
from app.storage.objects import controller
from app.storage.pod import pod_name
from app.storage.rollout import is_current, is_ready
from app.storage.spec import DittoServer, Model, Name, Within
from app.storage.volumes import class_difference, described_class, is_of_another_class, storage_class_of

Message = Annotated[str, Field(max_length=32768)]


class Condition(Model):
    """One aspect of the server (meta/v1 Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Ready, Reconciling, Stalled, StorageReady or CredentialsReady."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that it was seen for."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When its status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one word for programs."""
    message: Message = Field(default_factory=str)
    """Why, for people."""


class VolumeStatus(Model):
    """One volume of the server."""

    name: Name
    """metadata, content or cache."""
    claim: Name | None = None
    """The name of its claim."""
    storage_class: Name | None = None
    """The StorageClass of its claim."""
    requested: Name | None = None
    """The size that the spec asks for."""
    capacity: Name | None = None
    """The size that it has."""
    phase: Name | None = None
    """The claim's phase, or what is being done to it."""
    message: Message | None = None
    """What a person should know about it."""


def _map_by(key: str) -> dict[str, object]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Status(Model):
    """What the server is."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that this status was made for, -1 before the first look."""
    available_replicas: Annotated[int, Within(0)] | None = None
    """How many pods are available."""
    nfs_endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """Where NFS is served."""
    phase: Literal["Pending", "Running", "Failed", "Stopped"] | None = None
    """Pending, Running, Failed or Stopped."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_map_by("type"))] | None = None
    """Aspects of the server, one entry a type."""
    volumes: Annotated[list[VolumeStatus], Field(max_length=8, json_schema_extra=_map_by("name"))] | None = None
    """The server's volumes."""


Manifest = dict[str, Any]

# A claim may wait for a slow provisioner, or its pod for a node; after that long a person is told.
CLAIM_PATIENCE_SECONDS = 300
# The reasons when a Service does not exist, and when it is not as the spec asks: it may be more public than it should.
SERVICE_MISSING, SERVICE_OUTDATED = "ServiceMissing", "ServiceOutdated"
SERVICE_TERMINATING = "ServiceTerminating"
_GROWING = (Phase.RESIZING, Phase.FILE_SYSTEM_RESIZE_PENDING, Phase.RESIZE_REFUSED)
# Of the reasons of StorageReady those that are no news by themselves; Stalled tells of what is refused.
_QUIET = ("Bound", "ClaimPending", *Phase)
_ABSENT = {
    Phase.TERMINATING: "ClaimTerminating",
    Phase.MISSING: "ClaimMissing",
    Phase.UNKNOWN: "ClaimUnknown",
}


@dataclass(frozen=True)
class News:
    """What a person would look for in the Events of a server."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What was found out about a server; `failure` is what kept its objects from being made as they should be.

    `services` is the same of its Services alone, and `growth` of its volumes, which keep nothing else from being made.
    `situation` is of its volumes and its pod; `overdue` names the claims that had time enough, and `leftovers` those
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
    situation: Situation = field(default_factory=Situation)
    overdue: Collection[str] = ()
    leftovers: Collection[str] = ()
    warnings: Sequence[WarningEvent] = ()
    node: Node | None = None


def status(server: DittoServer, manifest: Mapping[str, Any], seen: Seen, now: str) -> Manifest:
    """The whole status; a condition keeps its lastTransitionTime while its status stays. `now` is RFC 3339."""
    generation = manifest["metadata"]["generation"]
    looks = outlooks(server, seen.situation)
    case = Case(server.metadata.name, seen.situation.pod, datetime.fromisoformat(now), seen.warnings, seen.node)
    found = {
        "observedGeneration": generation,
        "availableReplicas": _available(seen),
        "phase": _phase(server, seen, case),
        "conditions": [],
        "volumes": [_volume(look, server, seen) for look in looks],
    }
    if endpoint := _endpoint(seen.file_service):
        found["nfsEndpoint"] = endpoint
    former = conditions(manifest)
    for kind, (holds, problem) in _conditions(server, seen, looks, case, former).items():
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


def news(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Iterator[News]:
    """What changed from some conditions to others that a person would look for; the same twice is no news.

    Nothing of a server whose namespace is being deleted: no Event can be created there.
    """
    if after["Ready"]["reason"] == "NamespaceTerminating":
        return
    for kind, bad in (("Stalled", "True"), ("CredentialsReady", "False"), ("CredentialsReady", "Unknown")):
        if (
            after[kind]["status"] == bad
            and after[kind]["reason"] != "NotRead"
            and not _is_same(before.get(kind), after[kind])
        ):
            yield News("Warning", after[kind]["reason"], after[kind]["message"])
    storage, former = after["StorageReady"], before.get("StorageReady")
    if storage["reason"] not in _QUIET and not _is_same(former, storage):
        yield News("Warning", storage["reason"], storage["message"])
    if storage["status"] == "True" and former and former["reason"] in _GROWING:
        yield News("Normal", "Resized", "every volume has the size that the spec asks for")
    if after["Ready"]["reason"] == "Available" and before.get("Ready", {}).get("reason") != "Available":
        yield News("Normal", "Available", after["Ready"]["message"])


def _is_same(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and all(one[name] == other[name] for name in ("status", "reason", "message"))


def _conditions(
    server: DittoServer,
    seen: Seen,
    looks: Sequence[Outlook],
    case: Case,
    former: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[str, Problem]]:
    blocking = sorted(looks, key=lambda look: _order_of_blame(look, server, seen))
    claims, growth = _first(_claim_problem(look, server, seen) for look in blocking), _growth_problem(looks)
    ready = steady(_not_ready(server, seen, claims, looks, case), former.get("Ready"))
    refused = growth if growth and growth.reason == Phase.RESIZE_REFUSED else None
    stalled = _blocked(seen) or seen.held or seen.rejected or refused or why_not_adopted(server, seen.situation)
    failed = seen.failure or seen.services or seen.growth or seen.terminating
    leaving = _leaving_stateful_set(server, seen)
    waiting = failed or leaving or seen.credentials or ready or growth or _rollout(seen.situation.stateful_set)
    storage = claims or growth
    return {
        "Ready": ("False", ready) if ready else ("True", _good(server, seen)),
        "Reconciling": ("True", waiting) if waiting and not stalled else ("False", Problem("Reconciled", "")),
        "Stalled": ("True", stalled) if stalled else ("False", Problem("Reconciled", "")),
        "StorageReady": (_storage_status(storage), storage) if storage else ("True", _bound(looks, server)),
        "CredentialsReady": _credentials(seen, former.get("CredentialsReady")),
    }


def _storage_status(problem: Problem) -> str:
    return "Unknown" if problem.reason == "ClaimUnknown" else "False"


def _first(problems: Iterable[Problem | None]) -> Problem | None:
    return next((problem for problem in problems if problem), None)


def _growth_problem(looks: Sequence[Outlook]) -> Problem | None:
    """What keeps a volume from being as large as it should; first what a person has to see to."""
    growing = [look for look in looks if look.phase in _GROWING]
    growing.sort(key=lambda look: look.phase != Phase.RESIZE_REFUSED)
    return Problem(growing[0].phase, growing[0].message) if growing else None


def _bound(looks: Sequence[Outlook], server: DittoServer) -> Problem:
    """With what is larger than it should be or of another class, which the operator cannot change."""
    larger = [look.message for look in looks if look.larger]
    differing = [message for look in looks if (message := _class_difference(look, server))]
    if not (larger or differing):
        return Problem("Bound", "every claim is bound")
    return Problem("StorageClassDiffers" if differing else "ClaimLarger", "; ".join([*differing, *larger]))


def _class_difference(look: Outlook, server: DittoServer) -> str:
    return class_difference(look.claim, server.spec.storage) if look.claim else ""


def _credentials(seen: Seen, former: Mapping[str, Any] | None) -> tuple[str, Problem]:
    """As they were, where they could not be looked at."""
    if seen.credentials:
        return "Unknown" if seen.credentials_unknown else "False", seen.credentials
    if not (seen.rejections or seen.namespace or seen.taken or seen.terminating or seen.failure):
        return "True", Problem("Found", "every Secret is there")
    if former:
        return former["status"], Problem(former["reason"], former["message"])
    return "Unknown", Problem("NotRead", "no Secret has been looked at yet")


def _blocked(seen: Seen) -> Problem | None:
    """Why nothing is made of the spec at all."""
    if seen.rejections:
        return Problem("InvalidSpec", "; ".join(finding.message for finding in seen.rejections))
    return seen.namespace or seen.taken


def _good(server: DittoServer, seen: Seen) -> Problem:
    if server.spec.replicas == 0:
        return Problem("Stopped", "stopped as asked; its volumes are kept")
    return Problem("Available", f"NFS is served at {_endpoint(seen.file_service)}")


def _not_ready(
    server: DittoServer, seen: Seen, claims: Problem | None, looks: Sequence[Outlook], case: Case
) -> Problem | None:
    """Why the server does not do what its spec asks for; the first cause that a person could remove."""
    if blocked := _blocked(seen):
        return blocked
    if server.spec.replicas == 0:
        stopping = why_not_ended(case) or Problem("Stopping", "the pod has yet to end")
        return stopping if ((seen.situation.stateful_set or {}).get("status") or {}).get("replicas") else seen.failure
    if _available(seen):
        is_service = seen.terminating and seen.terminating.reason == SERVICE_TERMINATING
        return seen.services or (seen.terminating if is_service else None)
    if seen.situation.stateful_set is None and (
        absent := seen.credentials or seen.failure or seen.terminating or seen.rejected
    ):
        return absent

    problem = why_not_adopted(server, seen.situation) or why_not_running(case)
    blocks = _waits_for_a_node(seen.situation.pod) and any(_keeps_from_node(look, server, seen) for look in looks)
    if claims and (problem is None or waits_for_claims(problem) or blocks):
        return claims
    return problem or _leaving_stateful_set(server, seen) or Problem("PodStarting", "the pod is not ready yet")


def _waits_for_a_node(pod: Mapping[str, Any] | None) -> bool:
    found = ((pod or {}).get("status") or {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("PodScheduled", "False") for condition in found)


def _order_of_blame(look: Outlook, server: DittoServer, seen: Seen) -> int:
    """Sorts claims whose data is at risk first, then those that nobody provides a volume for.

    Those that only wait for the pod to get a node come last.
    """
    if look.phase == Phase.TERMINATING:
        return 0
    if _waits_for_provisioner(look, server, seen):
        return 0 if look.claim and look.claim.name in seen.leftovers else 1
    return 2 if look.phase == Phase.PENDING else 1


def _keeps_from_node(look: Outlook, server: DittoServer, seen: Seen) -> bool:
    """Whether the scheduler waits for the claim, as it does unless the claim's class waits for the scheduler."""
    return look.claim is not None and _waits_for_provisioner(look, server, seen)


def _waits_for_provisioner(look: Outlook, server: DittoServer, seen: Seen) -> bool:
    """Whether nothing but a volume is missing; also of a claim that is about to be created."""
    storage_class = seen.situation.classes.named(_class_of(server, look.claim, seen) or "")
    return look.phase in (Phase.PENDING, Phase.LOST) and not (storage_class and storage_class.waits_for_pod)


def _rollout(stateful_set: Mapping[str, Any] | None) -> Problem | None:
    """The pod still runs as it was before the last change, or by itself."""
    if stateful_set is None:
        return Problem("StatefulSetMissing", "the StatefulSet is made again once the former one is gone")
    if not is_current(stateful_set):
        return Problem("RollingOut", "the pod is being replaced by one of the current revision")
    return None


def _leaving_stateful_set(server: DittoServer, seen: Seen) -> Problem | None:
    live = seen.situation.stateful_set
    if live is None or not is_terminating(live):
        return None
    name = server.metadata.name
    return Problem("StatefulSetTerminating", f"StatefulSet {name} is being deleted; it is recreated once it is gone")


def _claim_problem(look: Outlook, server: DittoServer, seen: Seen) -> Problem | None:
    """Why there is no volume; its size is another matter."""
    claim, name = look.claim, look.volume.claim_name(server.metadata.name)
    missing = _class_problem(_class_of(server, claim, seen), seen.situation.classes)
    if look.phase == Phase.MISSING and seen.situation.pod is None and missing:
        return Problem(missing.reason, f"volume claim {name} cannot be created: {missing.message}")
    if reason := _ABSENT.get(look.phase):
        why = why_no_volume(name, seen.warnings) if look.phase == Phase.MISSING else None
        return Problem(reason, f"volume claim {name} does not exist: {why}" if why else look.message)
    if look.phase == Phase.LOST:
        return Problem("ClaimLost", f"volume claim {name} has lost its volume; restore it, or remove the claim")
    if look.phase != Phase.PENDING:
        return None
    if claim and name in seen.leftovers:
        return _leftover_problem(claim, server, seen)
    if missing:
        return Problem(missing.reason, f"volume claim {name} stays Pending: {missing.message}")
    waits = _waits_for(_class_of(server, claim, seen), seen.situation.classes)
    why = why_no_volume(name, seen.warnings) or waits
    if name in seen.overdue:
        return Problem("ClaimOverdue", f"volume claim {name} is Pending for more than five minutes: {why}")
    return Problem("ClaimPending", f"volume claim {name} is Pending: {why}")


def _leftover_problem(claim: Claim, server: DittoServer, seen: Seen) -> Problem:
    """Names the claim as the cause that was there before the server and has no volume: only a person may delete it."""
    name, classes, wanted = (
        _class_of(server, claim, seen),
        seen.situation.classes,
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

    pending = "ClaimOverdue" if claim.name in seen.overdue else "ClaimPending"
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


def _class_of(server: DittoServer, claim: Claim | None, seen: Seen) -> str | None:
    return storage_class_of(server.spec.storage, claim, seen.situation.classes)


def _volume(look: Outlook, server: DittoServer, seen: Seen) -> Manifest:
    problem = _claim_problem(look, server, seen)
    message = problem.message if problem else look.message
    found = {
        "name": look.volume.name,
        "claim": look.volume.claim_name(server.metadata.name),
        "storageClass": _class_of(server, look.claim, seen),
        "requested": look.volume.size,
        "capacity": look.claim and look.claim.capacity,
        "phase": str(look.phase),
        "message": "; ".join(filter(None, (message, _class_difference(look, server)))) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _available(seen: Seen) -> int:
    """Counts as the StatefulSet's controller does, or looks at the pod itself while that one cannot count it."""
    live, pod = seen.situation.stateful_set, seen.situation.pod
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


def _phase(server: DittoServer, seen: Seen, case: Case) -> str:
    problem = why_not_running(case)
    if _blocked(seen) or (problem and problem.reason in CRASH_REASONS and not _available(seen)):
        return "Failed"
    if server.spec.replicas == 0:
        return "Stopped"
    return "Running" if _available(seen) else "Pending"
