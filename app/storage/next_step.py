"""Decides what about a server a person should look at first, and the next step to take. It looks nothing up."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.storage import quantity
from app.storage.objects import OPERATOR, Owner
from app.storage.operator_health import OperatorFailure
from app.storage.pause import PAUSED
from app.storage.pod import pod_name
from app.storage.reading import field_name
from app.storage.reasons import BY_NAME, DESCRIBE_POD, EDIT, NORMAL, PROGRESS
from app.storage.rollout import is_ready
from app.storage.shares import SHARE_FAILED
from app.storage.status_schema import Condition, Status
from app.storage.stores import NO_SHARE
from app.storage.unstructured import is_terminating
from app.storage.usage import Usage
from app.storage.volumes import Volume

# The next leader may take twenty seconds, and a reconcile a few.
OPERATOR_PATIENCE = timedelta(minutes=1)
# As long as the alert about a server that is not ready.
START_PATIENCE = timedelta(minutes=10)
# The percentages are rounded up: less than a hundredth is left in a full volume.
NEARLY_FULL_PERCENT, FULL_PERCENT = 90, 100

OPERATOR_BEHIND, DELETING = "OperatorBehind", "Deleting"
VOLUME_NEARLY_FULL, VOLUME_FULL = "VolumeNearlyFull", "VolumeFull"
STOPPED = "Stopped"

NOTHING = "Nothing has to be done."

NORMAL_REASONS = {reason.name for reason in NORMAL if not reason.remedy}
# What passes by itself, or has its own reason when it does not.
WAITING_REASONS = {reason.name for reason in PROGRESS} | {"ClaimPending", "Resizing", "FileSystemResizePending"}
_LACK_OF_SPACE_REASONS = {"CrashLoopBackOff", "DatabaseMigrationFailed", "Unhealthy"}
_OVERALL = ("Ready", "Reconciling", "Stalled")

# Links of the table of reasons are relative to docs/reference.
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
_GET_OPERATOR = f"kubectl get pods -A -l app.kubernetes.io/name={OPERATOR}"


class State(StrEnum):
    """The state of a server in one word; the worst comes first."""

    DOWN = "Down"  # It serves nobody.
    UNOBSERVED = "Unobserved"  # The operator does not keep it as its spec asks.
    BLOCKED = "Blocked"  # It serves, and the operator cannot continue without a person.
    DEGRADED = "Degraded"  # It serves, and something about it fails.
    PAUSED = "Paused"  # It serves, and a person told the operator to leave it alone.
    WORKING = "Working"  # It starts, or something is being changed.
    NOTICE = "Notice"  # It serves, and there is something to know or to do.
    READY = "Ready"
    STOPPED = "Stopped"

    @property
    def rank(self) -> int:
        return [*State].index(self)


@dataclass(frozen=True)
class NextStep:
    """Tells a person what to do; `command` shows or does what it is about, None where there is none."""

    text: str
    command: str | None = None


@dataclass(frozen=True)
class Concern:
    """Something about a server that a person should know; `since` is in RFC 3339, None when nobody knows since when."""

    state: State
    reason: str
    message: str
    since: str | None
    step: NextStep


@dataclass(frozen=True)
class Inspection:
    """Holds all that is known about a server. `pod` is None if there is none, or nobody could look (`is_pod_known`)."""

    manifest: Mapping[str, Any]
    now: datetime
    pod: Mapping[str, Any] | None = None
    is_pod_known: bool = False
    usages: Sequence[tuple[Volume, Usage]] = field(default=())
    fixed_volumes: Collection[str] = ()  # The names of those whose class surely cannot expand them.
    failure: OperatorFailure | None = None  # Of the operator, as far as anybody could look.

    @property
    def metadata(self) -> Mapping[str, Any]:
        metadata: Mapping[str, Any] = self.manifest["metadata"]
        return metadata


def sorted_concerns(inspection: Inspection) -> tuple[Concern, ...]:
    """Returns all concerns, at least one: the worst first, and of several in the same state what holds up the others.

    What a condition of a part of the server repeats of another one is left out.
    """
    unique: dict[tuple[str, str], Concern] = {}
    for concern in sorted(_concerns(inspection), key=lambda concern: concern.state.rank):
        unique.setdefault((concern.reason, concern.message), concern)
    return tuple(unique.values())


def remedy(reason: str, namespace: str, name: str) -> NextStep:
    """Returns what to do about a condition or an Event with this reason, which may be one of the kubelet's."""
    row = BY_NAME.get(reason)
    if row is None:
        return NextStep("Remove the cause that the message quotes.", fill_in(DESCRIBE_POD, namespace, name))
    return NextStep(plain(row.remedy) or NOTHING, fill_in(row.command, namespace, name) or None)


def meaning(reason: str) -> str:
    """Returns what a reason means; empty for one of the kubelet's."""
    return plain(BY_NAME[reason].meaning) if reason in BY_NAME else ""


def fill_in(command: str, namespace: str, name: str) -> str:
    """Puts the names of a server into a command of the table of reasons."""
    selector = ",".join(f"{label}={value}" for label, value in Owner(name, namespace).selector.items())
    names = {"namespace": namespace, "name": name, "pod": pod_name(name), "selector": selector}
    return command.format_map({key: shlex.quote(value) for key, value in names.items()})


def plain(markdown: str) -> str:
    """Returns a text of the table of reasons for a terminal; links become the files of the documentation."""
    return _LINK.sub(r"\1 (docs/\2)", markdown).replace("docs/../", "").replace("`", "")


def by_type(status: Status) -> dict[str, Condition]:
    return {condition.type: condition for condition in status.conditions or ()}


def _concerns(inspection: Inspection) -> Iterator[Concern]:
    """Yields the concerns, at least one; what may make the others wrong or hold them up comes first."""
    of_server = list(_server_concerns(inspection))
    if inspection.failure:
        yield _operator_concern(inspection.failure, min(of_server, key=lambda concern: concern.state.rank), inspection)
    yield from of_server


def _operator_concern(failure: OperatorFailure, worst: Concern, inspection: Inspection) -> Concern:
    """Puts a failure of the operator before what is wrong with the server, if that has to wait for the operator."""
    waits = failure.stops_reconciling or worst.step.command == _edit(inspection)
    if worst.state == State.DOWN and waits:
        state = State.DOWN
    else:
        state = State.UNOBSERVED if failure.stops_reconciling else State.BLOCKED
    return Concern(state, failure.reason, failure.message, failure.since, NextStep(failure.remedy, failure.command))


def _server_concerns(inspection: Inspection) -> Iterator[Concern]:
    status = Status.read(inspection.manifest)
    conditions = by_type(status)

    yield from _deletion(inspection)
    yield from _operator_behind(inspection, status)
    yield from _overall_concerns(inspection, conditions)
    for kind, condition in conditions.items():
        if kind not in _OVERALL:
            yield from _part_concern(inspection, condition)
    yield from _content_concerns(inspection, status)

    ready = conditions.get("Ready")
    if ready is None:
        yield _behind(inspection, "the operator has reported nothing about this server", _last_change(inspection))
    elif ready.status == "True":
        is_stopped = ready.reason == STOPPED
        step = NextStep("To start it, set spec.replicas to 1.", _edit(inspection)) if is_stopped else NextStep(NOTHING)
        state = State.STOPPED if is_stopped else State.READY
        yield Concern(state, ready.reason, ready.message, ready.last_transition_time, step)


def _deletion(inspection: Inspection) -> Iterator[Concern]:
    if not is_terminating(inspection.manifest):
        return

    since = str(inspection.metadata["deletionTimestamp"])
    finalizers = inspection.metadata.get("finalizers") or []
    if finalizers and _has_lasted(since, OPERATOR_PATIENCE, inspection.now):
        message = f"it was deleted, and finalizers keep it: {', '.join(map(str, finalizers))}"
        yield Concern(
            State.BLOCKED, DELETING, message, since, NextStep("Whoever set the finalizers has to remove them.")
        )
    else:
        step = NextStep("Wait until it is gone. Its volume claims are kept.")
        yield Concern(State.WORKING, DELETING, "it is being deleted", since, step)


def _operator_behind(inspection: Inspection, status: Status) -> Iterator[Concern]:
    """Yields a concern when the status does not tell how the server is now."""
    generation = inspection.metadata.get("generation")
    if generation is not None and status.observed_generation != generation:
        yield _behind(
            inspection, "the operator has not looked at the last change of the spec", _last_change(inspection)
        )
        return

    ready, pod = by_type(status).get("Ready"), inspection.pod
    claims_to_serve = ready is not None and ready.status == "True" and ready.reason != STOPPED
    if not claims_to_serve or not inspection.is_pod_known or (pod and is_ready(pod)):
        return

    conditions = ((pod or {}).get("status") or {}).get("conditions") or []
    since = next((entry.get("lastTransitionTime") for entry in conditions if entry.get("type") == "Ready"), None)
    how = "is not ready" if pod else "does not exist"
    name = pod_name(str(inspection.metadata["name"]))
    yield _behind(inspection, f"the status says that NFS is served, but pod {name} {how}", since)


def _behind(inspection: Inspection, what: str, since: str | None) -> Concern:
    if since is not None and not _has_lasted(since, OPERATOR_PATIENCE, inspection.now):
        return Concern(State.WORKING, OPERATOR_BEHIND, what, since, NextStep("Wait a minute for the operator."))

    ready = by_type(Status.read(inspection.manifest)).get("Ready")
    runs = not inspection.is_pod_known or (inspection.pod is not None and is_ready(inspection.pod))
    serves = ready is not None and ready.status == "True" and (runs or ready.reason == STOPPED)
    step = NextStep("See whether the operator runs, and what its log says.", _GET_OPERATOR)
    return Concern(State.UNOBSERVED if serves else State.DOWN, OPERATOR_BEHIND, what, since, step)


def _overall_concerns(inspection: Inspection, conditions: Mapping[str, Condition]) -> Iterator[Concern]:
    ready, stalled, reconciling = (conditions.get(kind) for kind in ("Ready", "Stalled", "Reconciling"))
    is_down = ready is not None and ready.status != "True"

    if reconciling and reconciling.reason == PAUSED:
        # Whatever else is wrong, no correction has an effect before the server is resumed.
        yield _concern(inspection, reconciling, State.DOWN if is_down else State.PAUSED)
    if ready and is_down and ready.reason in _LACK_OF_SPACE_REASONS:
        # A server that cannot write ends, or does not answer, and its log need not say why.
        of_full = (concern for concern in _usage_concerns(inspection) if concern.reason == VOLUME_FULL)
        yield from (replace(concern, state=State.DOWN) for concern in of_full)
    if stalled and stalled.status == "True":
        yield _concern(inspection, stalled, State.DOWN if is_down else State.BLOCKED)
    if ready and is_down:
        is_overdue = _has_lasted(ready.last_transition_time, START_PATIENCE, inspection.now)
        is_starting = ready.reason in WAITING_REASONS and not is_overdue
        yield _concern(inspection, ready, State.WORKING if is_starting else State.DOWN)
    if reconciling and reconciling.status == "True":
        yield _concern(inspection, reconciling, State.WORKING)


def _part_concern(inspection: Inspection, condition: Condition) -> Iterator[Concern]:
    """Yields a concern about a condition of one part of the server, such as its storage."""
    if condition.reason in NORMAL_REASONS:
        return
    if condition.status == "True" or condition.reason == NO_SHARE:
        yield _concern(inspection, condition, State.NOTICE)
    else:
        yield _concern(inspection, condition, State.WORKING if condition.reason in WAITING_REASONS else State.DEGRADED)


def _content_concerns(inspection: Inspection, status: Status) -> Iterator[Concern]:
    """Yields concerns about what is in the server, and what no condition is about."""
    yield from _usage_concerns(inspection)

    for share in status.shares or ():
        if share.phase == "Failed":
            message = f"share {share.name}: {share.message or 'it cannot be created or changed'}"
            yield Concern(State.DEGRADED, SHARE_FAILED, message, None, _remedy(inspection, SHARE_FAILED))

    if status.pending_rollout:
        step = _remedy(inspection, "RolloutPending")
        yield Concern(State.NOTICE, "RolloutPending", status.pending_rollout, None, step)
    if status.ignored_fields:
        message = f"these fields of the spec have no effect: {', '.join(status.ignored_fields)}"
        yield Concern(State.NOTICE, "FieldsIgnored", message, None, _remedy(inspection, "FieldsIgnored"))


def _usage_concerns(inspection: Inspection) -> Iterator[Concern]:
    for volume, usage in sorted(inspection.usages, key=lambda entry: -entry[1].percent):
        if usage.percent < NEARLY_FULL_PERCENT:
            continue

        used, size = quantity.format_bytes(usage.used), quantity.format_bytes(usage.size)
        if volume.name in inspection.fixed_volumes:
            remedy_text = (
                "Delete what nobody needs, or copy the data to a new server: its StorageClass cannot expand it."
            )
            step = NextStep(remedy_text)
        else:
            step = NextStep(f"Raise {field_name(volume.field)}, or delete what nobody needs.", _edit(inspection))

        if usage.percent < FULL_PERCENT:
            message = f"volume {volume.name} is {usage.percent}% full: {used} of {size} are in use"
            yield Concern(State.DEGRADED, VOLUME_NEARLY_FULL, message, None, step)
        else:
            message = f"volume {volume.name} is full, so that the server cannot write: {used} of {size} are in use"
            yield Concern(State.DEGRADED, VOLUME_FULL, message, None, step)


def _concern(inspection: Inspection, condition: Condition, state: State) -> Concern:
    step = _remedy(inspection, condition.reason)
    return Concern(state, condition.reason, condition.message, condition.last_transition_time, step)


def _remedy(inspection: Inspection, reason: str) -> NextStep:
    return remedy(reason, *_names(inspection))


def _edit(inspection: Inspection) -> str:
    return fill_in(EDIT, *_names(inspection))


def _names(inspection: Inspection) -> tuple[str, str]:
    return str(inspection.metadata.get("namespace") or "default"), str(inspection.metadata["name"])


def _last_change(inspection: Inspection) -> str | None:
    """Returns when the spec, or the metadata, was last written; None when the object does not say."""
    entries = inspection.metadata.get("managedFields") or []
    times = [str(entry["time"]) for entry in entries if entry.get("time") and not entry.get("subresource")]
    return max(times, default=inspection.metadata.get("creationTimestamp"))


def _has_lasted(since: str, duration: timedelta, now: datetime) -> bool:
    """Tells whether it is so long ago; a time that cannot be read is."""
    try:
        return now - datetime.fromisoformat(since) >= duration
    except (ValueError, TypeError):
        return True
