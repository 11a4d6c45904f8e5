"""Builds the live state of a server whose cache is being expanded, and the decisions about it."""

from datetime import UTC, datetime
from typing import Any

from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, stateful_set
from app.storage.pod import PodRevision
from app.storage.reading import read
from app.storage.resize import Step, next_step
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from app.storage.volume_states import VolumeState, volume_states
from tests.harness.server_table import server, storage

CLASSES = StorageClasses((StorageClass("fast", expandable=True), StorageClass("fixed")))
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
BEFORE, AFTER = "2026-02-01T09:00:00Z", "2026-02-01T12:01:00Z"
OWNER = Owner("files", "here", "u")
FIELD_OWNERS = [{"manager": "dittofs-operator", "operation": "Apply"}]
POD: Manifest = {
    "metadata": {"creationTimestamp": BEFORE, "ownerReferences": [{"controller": True, "uid": "s"}]},
    "spec": {"volumes": [{"name": "metadata"}, {"name": "cache"}]},
}


def server_with(**sizes: str) -> DittoServer:
    return read({**server(**storage(**sizes)), "metadata": {"name": "files", "namespace": "here"}}).server


def cache_claim(capacity: str = "5Gi", requested: str | None = None, *, ours: bool = False, **fields: Any) -> Claim:
    """Returns the claim of the cache; the operator has asked for the size of `ours`."""
    by = frozenset({OPERATOR if ours else "kube-controller-manager"})
    fields = {"storage_class": "fast", "phase": "Bound", "requested_by": by, **fields}
    return Claim("cache-files-0", capacity=capacity, requested=requested or capacity, **fields)


def live_stateful_set(**sizes: str) -> Manifest:
    """Returns the StatefulSet of a server with these sizes as the API server has it."""
    manifest = stateful_set(OWNER, server_with(**sizes).spec, PodRevision(config_hash="digest"))
    manifest["metadata"] |= {"uid": "s", "resourceVersion": "1", "managedFields": FIELD_OWNERS}
    manifest["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
    return manifest


def mounting(*claims: str, **metadata: str) -> Manifest:
    """Returns a pod that mounts these claims."""
    volumes = [{"name": name.split("-")[0], "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {"metadata": {**POD["metadata"], **metadata}, "spec": {"volumes": volumes}}


def live_with(*claims: Claim, **fields: Any) -> LiveState:
    """Returns the state of a server whose StatefulSet was created for 10Gi of metadata and 5Gi of cache."""
    metadata = Claim("metadata-files-0", "fast", "10Gi", "Bound", "10Gi")
    fields = {"classes": CLASSES, "stateful_set": live_stateful_set(), "pod": POD, **fields}
    return LiveState({claim.name: claim for claim in (metadata, *claims)}, **fields)


def cache_state(live: LiveState, size: str) -> VolumeState:
    return volume_states(server_with(cacheSize=size), live)[-1]


def step(live: LiveState, now: datetime = NOON, /, **sizes: str) -> Step | None:
    """Returns the next step for a server whose spec asks for these sizes."""
    return next_step(server_with(**sizes), OWNER, live, now)
