"""Reads what the cluster reports about a server's objects and its node: Warning Events, and whether the node is Ready.

Events are untrusted: whoever may create Events can forge them. They are quoted, and no decision depends on them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.storage.finding import one_line
from app.storage.pod import pod_name
from app.storage.volumes import server_of_claim

STATEFUL_SET = "StatefulSet"
POD = "Pod"
CLAIM = "PersistentVolumeClaim"

# An Event that was not repeated for so long, while others of its kind were, is over. A reporter may hold back an Event
# for five minutes, and there are several volumes to report.
OUTDATED_AFTER = timedelta(minutes=30)
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

# Longer than any cause, and short enough for a condition that kubectl prints.
MAX_QUOTE_CHARACTERS = 500
# How much is read of a text; client-go cuts the message of an Event at 1024.
MAX_TEXT_CHARACTERS = 2048
MAX_UID_CHARACTERS = 64

# The reasons that explain why a pod does not run. Events with another reason are not kept.
_REASONS = {
    STATEFUL_SET: ("FailedCreate",),
    POD: (
        "Failed",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMapVolume",
        "FailedMount",
        "FailedToRetrieveImagePullSecret",
        "NetworkNotReady",
        "Unhealthy",
    ),
    CLAIM: ("FailedBinding", "ProvisioningFailed", "VolumeMismatch"),
}
_TIMES = ("lastTimestamp", "eventTime", "firstTimestamp")
_VOLUME = re.compile(r'\bfor volume "([^"]{1,253})"')
_CLAIM = re.compile(r"[Cc]reate Claim (\S{1,253}) ")
_CONTAINER = re.compile(r"spec\.(?:initC|c)ontainers\{([^}]{1,63})\}")

# What differs from one attempt to the next, although the cause is the same.
_VOLATILE = re.compile(
    r"""
      ^\(combined\ from\ similar\ events\):\s+
    | rpc\ error:\ code\ =\ \w+\ desc\ =\s+
    | (?<=\s)(?:\d{1,3}\.){3}\d{1,3}:\d+->                   # the port that a client happened to have
    | ,\ used:\ [^:]*?(?=,\ limited:)                # what others use of a quota
    """,
    re.VERBOSE,
)
_NAMELESS = re.compile(
    r"""
      (?<=://)[^\s/@]+(?=@)                                      # credentials before the host of a URL
    | (?<=\?)[^\s"'?]*=[^\s"']*                                 # a URL's query, such as a signature
    | (?i:(?<=password=)|(?<=secret=)|(?<=token=)|(?<=key=)|(?<=pass=))[^\s,;"']+
    | (?<!pvc-)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b   # the UID of an object, but for a volume's name
    | \b[0-9a-f]{32,}\b                                         # a container's ID
    | \b\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?
    | \b(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?m?s\b                    # a duration
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """A Warning Event about an object of a server, without the parts that change from one attempt to the next."""

    kind: str
    name: str
    uid: str
    reason: str
    message: str
    at: str  # In RFC 3339, in UTC.
    topic: str  # Only the newest Event of a topic counts.
    container: str = ""  # Empty when it is about none.

    @property
    def subject(self) -> str:
        """The volume that the topic is about, or the claim that was not created; empty for the object itself."""
        return self.topic.partition("/")[2]

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)

    @property
    def server(self) -> str:
        """The server whose object it would be about, whether there is such a server or not."""
        return server_of(self.kind, self.name) or ""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "WarningEvent | None":
        """Returns None when it cannot be about a server's object, or explains nothing."""
        about = manifest.get("involvedObject") or {}
        kind, name, uid = (str(about.get(key) or "") for key in ("kind", "name", "uid"))
        reason = str(manifest.get("reason") or "")
        if reason not in _REASONS.get(kind, ()) or not 0 < len(uid) <= MAX_UID_CHARACTERS or not server_of(kind, name):
            return None

        message = quote(manifest.get("message"))
        repeats_another_report = (
            (reason == "FailedCreate" and "failed to create PVC" in message)
            or (reason == "Failed" and not message.startswith("Failed to pull image"))
            or (reason == "Unhealthy" and not message.startswith("Readiness probe"))
        )
        if repeats_another_report:
            return None

        is_summary = reason == "FailedMount" and message.startswith("Unable to attach or mount volumes")
        subject = _CLAIM.match(message) if reason == "FailedCreate" else _VOLUME.search(message)
        topic = f"{reason}/{subject[1]}" if subject and not is_summary else reason

        at = event_time(manifest)
        try:
            datetime.fromisoformat(at)
        except ValueError:
            return None

        container = _CONTAINER.fullmatch(str(about.get("fieldPath") or ""))
        return cls(kind, name, uid, reason, message, at, topic, container[1] if container else "")


def event_time(manifest: Mapping[str, Any]) -> str:
    """Returns when what the Event reports last happened; empty when it does not say."""
    # Which times there are depends on the API that the reporter uses.
    series = (manifest.get("series") or {}).get("lastObservedTime")
    times = (series, *(manifest.get(name) for name in _TIMES), manifest["metadata"].get("creationTimestamp"))
    return max((str(time) for time in times if time), default="")


def server_of(kind: str, name: str) -> str | None:
    """Returns the server that an object of this name would belong to; None when no server has such objects."""
    if kind == STATEFUL_SET:
        return name or None
    if kind == POD:
        return name.removesuffix("-0") if name.endswith("-0") else None
    return server_of_claim(name) if kind == CLAIM else None


def quote(text: object) -> str:
    """Returns somebody else's text for a message: one line without control characters, of limited length, stable."""
    line = one_line(str(text or "")[:MAX_TEXT_CHARACTERS])
    line = _NAMELESS.sub("…", _VOLATILE.sub("", " ".join(line.split())))
    return line if len(line) <= MAX_QUOTE_CHARACTERS else f"{line[:MAX_QUOTE_CHARACTERS]}…"


def current_events(events: Iterable[WarningEvent]) -> list[WarningEvent]:
    """Returns the Events that are not over, in a fixed order; of one reason the newest decides which ones are."""
    events = sorted(events, key=lambda event: (event.kind, event.name, event.topic, event.container))

    newest: dict[tuple[str, str], datetime] = {}
    for event in events:
        reason = event.kind, event.reason
        newest[reason] = max(event.time, newest.get(reason, event.time))

    return [event for event in events if newest[event.kind, event.reason] - event.time <= OUTDATED_AFTER]


class NodeState(StrEnum):
    """The Ready condition of a node. The kubelet of a NotReady node answers, that of an unreachable one does not."""

    READY = "Ready"
    NOT_READY = "NotReady"
    UNREACHABLE = "Unreachable"
    DELETED = "Deleted"
    NOT_LOOKED_UP = "NotLookedUp"


@dataclass(frozen=True)
class Node:
    """The node of a pod; `message` is that of its kubelet, or says why the node was not looked up."""

    name: str
    state: NodeState
    since: str = ""
    message: str = ""
    out_of_service: bool = False

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Node":
        conditions = (manifest.get("status") or {}).get("conditions") or []
        ready: Mapping[str, Any] = next((condition for condition in conditions if condition["type"] == "Ready"), {})
        states = {"True": NodeState.READY, "False": NodeState.NOT_READY}
        taints = (manifest.get("spec") or {}).get("taints") or []

        return cls(
            name=manifest["metadata"]["name"],
            state=states.get(ready.get("status", ""), NodeState.UNREACHABLE),
            since=ready.get("lastTransitionTime") or "",
            message=quote(ready.get("message")),
            out_of_service=any(taint["key"] == OUT_OF_SERVICE for taint in taints),
        )


@dataclass(frozen=True)
class Case:
    """The evidence on a server whose pod does not run."""

    server: str
    pod: Mapping[str, Any] | None
    now: datetime
    warnings: Sequence[WarningEvent] = ()  # About its objects as they are now.
    node: Node | None = None  # None when nobody needed to ask for it; see `node_in_question` of `diagnosis`.
    created: str = ""  # The creationTimestamp of the server.
    migration_failed: bool = False  # The log of the server's last run says so.
    database_image: str | None = None  # The image that can open the database, None when nobody knows.
    held_up: bool = False  # Something else keeps the StatefulSet, which creates the claims, from being created.

    @property
    def pod_name(self) -> str:
        return pod_name(self.server)

    @property
    def status(self) -> Mapping[str, Any]:
        return (self.pod or {}).get("status") or {}

    def newest(self, *reasons: str) -> list[WarningEvent]:
        """Returns the Events about the pod that are not over."""
        return [event for event in current_events(self.warnings) if event.kind == POD and event.reason in reasons]
