"""Puts together what is known about one server, and renders it for programs. It decides nothing and asks nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.cli.output import volume_as_json
from app.cluster.reader import PODS
from app.cluster.survey import Survey
from app.storage.next_step import Concern, Inspection, sorted_concerns
from app.storage.operator_health import OperatorHealth, find_failure
from app.storage.pod import container_status, pod_name, server_container
from app.storage.reading import read
from app.storage.recent_events import RecentEvent, recent_events
from app.storage.rollout import is_ready
from app.storage.secret_mask import SecretMask
from app.storage.secret_references import SecretReference, consumed_references, generated_references
from app.storage.spec import DittoServer
from app.storage.status_schema import ServerStatus, Status
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.usage import Usage
from app.storage.volume_states import VolumeState, reported_states


@dataclass(frozen=True)
class PodReport:
    """The pod of a server; what is None has not been reported."""

    name: str
    node: str | None
    phase: str
    ready: bool
    restarts: int
    started_at: str | None
    image: str | None
    image_id: str | None

    @classmethod
    def read(cls, pod: Mapping[str, Any]) -> "PodReport":
        status, container = pod.get("status") or {}, container_status(pod)
        phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else str(status.get("phase") or "Pending")
        running, restarts = (container.get("state") or {}).get("running") or {}, container.get("restartCount")

        return cls(
            name=pod["metadata"]["name"],
            node=(pod.get("spec") or {}).get("nodeName"),
            phase=phase,
            ready=is_ready(pod),
            restarts=restarts if isinstance(restarts, int) else 0,
            started_at=running.get("startedAt"),
            image=server_container(pod).get("image"),
            image_id=container.get("imageID"),
        )


@dataclass(frozen=True)
class ServerReport:
    """Everything about one server. `pod` is None when there is none, or when nobody could look (`is_pod_known`).

    `concerns` has at least one, the worst first.
    """

    key: ObjectKey
    server: DittoServer
    status: Status
    concerns: tuple[Concern, ...]
    now: datetime
    pod: PodReport | None = None
    is_pod_known: bool = False
    volumes: tuple[tuple[VolumeState, Usage | None], ...] = ()
    events: tuple[RecentEvent, ...] = ()

    @property
    def concern(self) -> Concern:
        """The worst concern, which a person should look at first."""
        return self.concerns[0]

    @property
    def title(self) -> str:
        return "/".join(self.key)

    @property
    def rank(self) -> tuple[int, str, ObjectKey]:
        """Sorts the worst first, and of those in the same state the one that has been so for the longest time."""
        return self.concern.state.rank, self.concern.since or "~", self.key

    @property
    def observed(self) -> ServerStatus:
        return self.status.server or ServerStatus()

    @property
    def fullest(self) -> int | None:
        """The percentage in use of the fullest volume; None while nobody has measured one."""
        return max((usage.percent for _, usage in self.volumes if usage), default=None)

    @property
    def secrets(self) -> tuple[tuple[SecretReference, bool], ...]:
        """The Secrets that the pod consumes, each with whether the operator generates it."""
        name, spec = self.key[1], self.server.spec
        generated = {reference.path for reference in generated_references(name, spec)}
        return tuple((reference, reference.path in generated) for reference in consumed_references(name, spec))


def report(
    survey: Survey,
    key: ObjectKey,
    now: datetime,
    events: Iterable[Mapping[str, Any]] = (),
    health: OperatorHealth | None = None,
) -> ServerReport:
    namespace, name = key
    manifest, live = survey.servers[key], survey.live_state(key)
    server, pod = read(manifest).server, survey.pods.get((namespace, pod_name(name)))
    states = reported_states(server, manifest, live)
    volumes = tuple((state, survey.usages.get((namespace, state.claim_name))) for state in states)
    usages = [(state.volume, usage) for state, usage in volumes if usage]
    failure = find_failure(health, now) if health else None
    classes = {state.volume.name: survey.classes.named(state.storage_class or "") for state in states}
    fixed = [name for name, storage_class in classes.items() if storage_class and not storage_class.expandable]
    knows_pods = PODS not in survey.unknown
    inspection = Inspection(manifest, now, pod, knows_pods, usages, fixed, failure)

    return ServerReport(
        key=key,
        server=server,
        status=Status.read(manifest),
        concerns=sorted_concerns(inspection),
        now=now,
        pod=PodReport.read(pod) if pod else None,
        is_pod_known=knows_pods,
        volumes=volumes,
        events=recent_events(events, server, [state.claim_name for state in states]),
    )


def mask_events(report: ServerReport, mask: SecretMask) -> ServerReport:
    """Masks the messages of Events, which anybody may write, and in which drivers quote what they like."""
    events = tuple(replace(event, message=mask.log(event.message)) for event in report.events)
    return replace(report, events=events)


def as_json(report: ServerReport) -> Manifest:
    concern, status, pod = report.concern, report.status, report.pod
    dumped: Manifest = status.model_dump(by_alias=True, exclude_none=True)

    return {
        "namespace": report.key[0],
        "server": report.key[1],
        "state": str(concern.state),
        "reason": concern.reason,
        "message": concern.message,
        "since": concern.since,
        "nextStep": {"text": concern.step.text, "command": concern.step.command},
        "conditions": dumped.get("conditions", []),
        "nfsEndpoint": status.nfs_endpoint,
        "endpoints": dumped.get("endpoints", []),
        "version": report.observed.version,
        "image": report.server.spec.image,
        "pod": pod
        and {
            "name": pod.name,
            "node": pod.node,
            "phase": pod.phase,
            "ready": pod.ready,
            "restarts": pod.restarts,
            "startedAt": pod.started_at,
            "image": pod.image,
            "imageID": pod.image_id,
        },
        "pendingRollout": status.pending_rollout,
        "volumes": [volume_as_json(state, usage) for state, usage in report.volumes],
        "secrets": [
            {"purpose": reference.title, "name": reference.secret, "generated": generated}
            for reference, generated in report.secrets
        ],
        "shares": dumped.get("shares", []),
        "events": list(map(event_as_json, report.events)),
    }


def event_as_json(event: RecentEvent) -> Manifest:
    return {
        "time": event.at or None,
        "count": event.count,
        "type": event.type,
        "kind": event.kind,
        "name": event.name,
        "reason": event.reason,
        "message": event.message,
    }
