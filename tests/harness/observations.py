"""Observations of a DittoServer that starts, runs or grows, and what its status and its Events say of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.storage.events import Event
from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.finding import rejection
from app.storage.live import LiveState
from app.storage.objects import Owner
from app.storage.problem import Problem, Stage
from app.storage.reading import read
from app.storage.services import services
from app.storage.status import Observation, conditions, invalid_spec, status
from app.storage.status_events import status_events
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage

NOON, LATER = "2026-02-01T12:00:00Z", "2026-02-01T13:00:00Z"
CREATED, HOUR_AGO, MINUTE_AGO = "2026-01-15T00:00:00Z", "2026-02-01T11:00:00Z", "2026-02-01T11:59:00Z"
ENDPOINT = "files-file.here.svc.cluster.local:2049"

FAST = StorageClass("fast", is_default=True, provisioner="example.com/fast")
SLOW = StorageClass("slow", provisioner="example.com/slow")
CLASSES = StorageClasses((FAST,))
BOTH_CLASSES = StorageClasses((FAST, SLOW))
WAITING_CLASSES = StorageClasses((StorageClass("fast", waits_for_pod=True),))

SERVICE: Manifest = {
    "metadata": {"name": "files-file", "namespace": "here"},
    "spec": {
        "selector": Owner("files", "here").selector,
        "ports": [{"name": "smb", "port": 445}, {"name": "nfs", "port": 2049}],
    },
}
READY = {"conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [{"state": {"running": {}}}]}
READY_POD: Manifest = {
    "status": {**READY, "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]}
}

NAME_TAKEN = Problem("NameTaken", "x", Stage.NAME, stalls=True)
WRITE_FAILED = Problem("WriteFailed", "no answer", Stage.APPLY)
SECRET_NOT_FOUND = Problem("SecretNotFound", "x", Stage.CREDENTIALS)
SERVICE_OUTDATED = Problem("ServiceOutdated", "x", Stage.SERVICES)
INVALID_SPEC = invalid_spec([rejection("a", "x")])

PENDING = Claim("metadata-files-0", "fast")
GROWING = Claim("cache-files-0", "fast", "5Gi", "Bound", "10Gi")
LARGER_CACHE: Manifest = storage(cacheSize="10Gi")


def dittoserver(earlier_status: Manifest | None = None, generation: int = 3, **spec: Any) -> Manifest:
    metadata = {"name": "files", "namespace": "here", "generation": generation, "creationTimestamp": CREATED}
    return {**server(**spec), "metadata": metadata, "status": earlier_status}


def stateful_set(available: int = 0, **changes: Any) -> Manifest:
    settled = {"observedGeneration": 5, "replicas": 1, "currentRevision": "a", "updateRevision": "a"}
    status = {**settled, "availableReplicas": available, **changes}
    templates = [{"metadata": {"name": name}} for name in ("metadata", "cache")]
    return {"metadata": {"generation": 5}, "spec": {"replicas": 1, "volumeClaimTemplates": templates}, "status": status}


def bound(*names: str) -> dict[str, Claim]:
    return {f"{name}-files-0": Claim(f"{name}-files-0", "fast", "10Gi", "Bound") for name in names}


def pod(**container: Any) -> Manifest:
    return {"status": {"containerStatuses": [{"image": "dittofs:1", **container}]}}


def waiting(reason: str, **more: Any) -> Manifest:
    return {"state": {"waiting": {"reason": reason, **more}}}


def altered(observation: Observation, **changes: Any) -> Observation:
    """Returns the observation with other fields, those of its live state included."""
    of_live_state = {name: value for name, value in changes.items() if name in LiveState.__dataclass_fields__}
    others = {name: value for name, value in changes.items() if name not in of_live_state}
    return replace(observation, live=replace(observation.live, **of_live_state), **others)


def starting(**changes: Any) -> Observation:
    """Returns what is observed once every object is applied and only the pod is not ready, with the changes."""
    rendered = services(Owner("files", "here"), read(server()).server.spec)
    live_services = {**{service["metadata"]["name"]: service for service in rendered}, "files-file": SERVICE}
    claims = bound("metadata", "cache")
    live = LiveState(claims, CLASSES, stateful_set=stateful_set(), is_new=True, services=live_services)
    return altered(Observation(live=live), **changes)


def running(**changes: Any) -> Observation:
    return starting(stateful_set=stateful_set(1), pod=READY_POD, **changes)


def growing(**claim: Any) -> Observation:
    """Returns what is observed of a server that runs while its cache grows to 10Gi."""
    return running(claims={**bound("metadata"), GROWING.name: replace(GROWING, **claim)})


def of_class(storage_class: str | None) -> Observation:
    """Returns what is observed of a server that runs with a metadata claim of this class."""
    metadata = replace(bound("metadata")["metadata-files-0"], storage_class=storage_class)
    return running(claims={**bound("cache"), metadata.name: metadata}, classes=BOTH_CLASSES)


def status_of(observation: Observation, manifest: Manifest | None = None, now: str = NOON) -> Manifest:
    manifest = manifest or dittoserver()
    return status(read(manifest).server, manifest, observation, now)


def condition(kind: str, observation: Observation, manifest: Manifest | None = None) -> Mapping[str, Any]:
    return conditions({"status": status_of(observation, manifest)})[kind]


def reasons(observation: Observation, manifest: Manifest | None = None) -> dict[str, tuple[str, str]]:
    """Returns the status and the reason of each condition."""
    by_type = conditions({"status": status_of(observation, manifest)})
    return {kind: (condition["status"], condition["reason"]) for kind, condition in by_type.items()}


def events_of(before: Manifest | None, observation: Observation, manifest: Manifest | None = None) -> list[Event]:
    """Returns the Events of a change from one status to that of the observation."""
    manifest = manifest or dittoserver()
    return list(status_events(read(manifest).server, before or {}, status_of(observation, manifest)))
