"""Explains why a volume claim is missing or not bound, and which of several claims is to blame. It looks nothing up."""

from dataclasses import replace
from datetime import datetime, timedelta

from app.storage.diagnosis import why_no_volume
from app.storage.evidence import Case
from app.storage.facts import Claim, StorageClasses
from app.storage.live import LiveState
from app.storage.pod import pod_name
from app.storage.problem import Problem, Stage
from app.storage.spec import DittoServer
from app.storage.volume_states import Phase, VolumeState
from app.storage.volumes import describe_class, is_of_another_class

# A slow provisioner, or a pod that waits for a node, may take this long before a claim is reported as overdue.
CLAIM_PATIENCE_SECONDS = 300


def claim_seconds_left(claim: Claim, now: datetime) -> float:
    """Returns how long a claim may still take to be bound; at 0 or less it is overdue."""
    created = datetime.fromisoformat(claim.created)
    return (created + timedelta(seconds=CLAIM_PATIENCE_SECONDS) - now).total_seconds()


def first_claim_problem(
    server: DittoServer, states: tuple[VolumeState, ...], live: LiveState, case: Case
) -> Problem | None:
    """Returns the problem of the claim to blame: data at risk comes first, a claim that waits for a node last."""

    def urgency(state: VolumeState) -> int:
        if state.phase == Phase.TERMINATING:
            return 0
        if waits_for_provisioner(state, live.classes):
            return 0 if state.claim and _is_leftover(state.claim, case) else 1
        return 2 if state.phase == Phase.PENDING else 1

    problems = (claim_problem(state, server, live, case) for state in sorted(states, key=urgency))
    return next((problem for problem in problems if problem), None)


def claim_problem(state: VolumeState, server: DittoServer, live: LiveState, case: Case) -> Problem | None:
    """Returns why there is no volume; its size is another matter."""
    name = f"volume claim {state.claim_name}"
    class_problem = _class_problem(state.storage_class, live.classes)

    if state.phase == Phase.UNKNOWN:
        return Problem("ClaimUnknown", state.message, Stage.VOLUMES)
    if state.phase == Phase.TERMINATING:
        return Problem("ClaimTerminating", state.message, Stage.VOLUMES)
    if state.phase == Phase.MISSING:
        if live.pod is None and class_problem:
            return replace(class_problem, message=f"{name} cannot be created: {class_problem.message}")
        why = why_no_volume(state.claim_name, case.warnings)
        return Problem("ClaimMissing", f"{name} does not exist: {why}" if why else state.message, Stage.VOLUMES)

    if state.phase == Phase.LOST:
        message = f"{name} has lost its volume; restore it, or remove the claim"
        return Problem("ClaimLost", message, Stage.VOLUMES)
    return _pending_problem(state, server, live, case) if state.phase == Phase.PENDING else None


def waits_for_provisioner(state: VolumeState, classes: StorageClasses) -> bool:
    """Tells whether nothing but a volume is missing, be it of a claim that is about to be created."""
    storage_class = classes.named(state.storage_class or "")
    return state.phase in (Phase.PENDING, Phase.LOST) and not (storage_class and storage_class.waits_for_pod)


def _pending_problem(state: VolumeState, server: DittoServer, live: LiveState, case: Case) -> Problem:
    name, claim = f"volume claim {state.claim_name}", state.claim
    class_problem = _class_problem(state.storage_class, live.classes)
    source = state.data_source
    why = _why_pending(state, live.classes)
    is_overdue = claim is not None and claim.created != "" and claim_seconds_left(claim, case.now) <= 0

    pending = Problem("ClaimOverdue" if is_overdue else "ClaimPending", why, Stage.VOLUMES)
    if claim and _is_leftover(claim, case):
        problem = class_problem or pending
        return replace(problem, message=_leftover_message(state, claim, problem.message, server, live.classes))

    if class_problem:
        return replace(class_problem, message=f"{name} stays Pending: {class_problem.message}")
    if case.held_up and claim is None:
        return replace(pending, message=f"{name} is created along with the pod, which is held up: see Ready")

    duration = " for more than five minutes" if is_overdue else ""
    if event := why_no_volume(state.claim_name, case.warnings):
        why = f"it waits for {source.kind} {source.name}: {event}" if source and claim else event
    return replace(pending, message=f"{name} is Pending{duration}: {why}")


def _leftover_message(state: VolumeState, claim: Claim, why: str, server: DittoServer, classes: StorageClasses) -> str:
    """Blames a claim that is older than the server and was never bound: only a person may delete it."""
    wanted = state.volume.storage_class
    what = f"volume claim {claim.name}, created {claim.created} before this server,"
    if is_of_another_class(claim, wanted):
        what = f"{what} is {describe_class(claim, wanted)}, and"

    message = f"{what} was never bound: {why}"
    if not waits_for_provisioner(state, classes):
        return message
    # The pod, too: the StatefulSet's controller looks at the claims again only when it creates a pod.
    both = f"the claim and pod {pod_name(server.metadata.name)}"
    return f"{message}; delete {both} to have both recreated, unless the claim is about to be bound"


def _is_leftover(claim: Claim, case: Case) -> bool:
    return claim.created != "" and claim.created < case.created


def _class_problem(name: str | None, classes: StorageClasses) -> Problem | None:
    if name is None and not classes.gap:
        message = "no StorageClass is named and none is the default"
        return Problem("NoDefaultStorageClass", message, Stage.VOLUMES)
    if name and not classes.gap and classes.named(name) is None:
        return Problem("StorageClassNotFound", f'StorageClass "{name}" does not exist in cluster', Stage.VOLUMES)
    return None


def _why_pending(state: VolumeState, classes: StorageClasses) -> str:
    storage_class = classes.named(state.storage_class or "")
    source = f"{state.data_source.kind} {state.data_source.name}" if state.data_source else ""
    if storage_class is None:
        by_hand = " that somebody creates by hand" if state.storage_class == "" else ""
        return f"it waits for {source or f'a volume{by_hand}'}"
    if storage_class.waits_for_pod:
        restore = f", and is then restored from {source}" if source else ""
        return f'StorageClass "{storage_class.name}" waits until the pod has a node{restore}'

    provisioner = f'{storage_class.provisioner} of StorageClass "{storage_class.name}"'
    return f"it waits for {source}, from which {provisioner} restores it" if source else f"it waits for {provisioner}"
