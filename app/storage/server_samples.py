"""The samples of one DittoServer for Prometheus, from its status, its pod and its Secret. It renders no text.

Tenants may write the status. Whatever is in there, a server has the same number of series, and labels of few values.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from app.storage import quantity
from app.storage.pod import container_status
from app.storage.restart_cause import RestartCause
from app.storage.status import CONDITIONS
from app.storage.status_schema import Condition, Status, VolumeStatus
from app.storage.stores import STORE_FAILS
from app.storage.unstructured import Manifest
from app.storage.volume_states import Phase
from app.storage.volumes import VOLUME_NAMES, claim_name

# Every family has these labels, before its own.
SERVER_LABELS = ("namespace", "server")

STATUSES = ("True", "False", "Unknown")
# The kubelet has reasons of its own, which are words like ours.
_REASON = re.compile("[A-Za-z][A-Za-z0-9]{0,63}")
OTHER_REASON = "Other"
_PHASES = frozenset(Phase)
# A longer number takes long to read, and no volume is that large.
_MAX_SIZE_CHARACTERS = 64

# The values of a family's own labels, and the value of the sample.
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class MetricFamily:
    """A metric that each server has series of: at most `series`, or at most that many for each of its volumes."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    series: int = 1
    type: str = "gauge"

    @property
    def per_volume(self) -> bool:
        return "volume" in self.labels


_PREFIX = "dittofs_operator_server"
_PER_VOLUME = ("volume", "persistentvolumeclaim")

INFO = MetricFamily(
    f"{_PREFIX}_info",
    ("version", "phase", "reason"),
    "1, with the version of DittoFS, the phase of the DittoServer, and the reason of Stalled if that is True, else of "
    "Ready.",
)
CONDITION = MetricFamily(
    f"{_PREFIX}_condition",
    ("type", "status"),
    "1 for the status that the condition has, 0 for the others; a condition that is absent is Unknown.",
    len(CONDITIONS) * len(STATUSES),
)
WAITING = MetricFamily(
    f"{_PREFIX}_waiting_seconds",
    (),
    "For how long the server has not been what its spec asks for (Ready is not True, or Reconciling or Stalled is); 0 "
    "when it is.",
)
REQUESTED = MetricFamily(
    f"{_PREFIX}_volume_requested_bytes",
    _PER_VOLUME,
    "The size of the volume that the spec asks for.",
)
CAPACITY = MetricFamily(
    f"{_PREFIX}_volume_capacity_bytes",
    _PER_VOLUME,
    "The size that the volume has; absent until its claim is bound.",
)
VOLUME_PHASE = MetricFamily(
    f"{_PREFIX}_volume_phase",
    ("volume", "phase"),
    f"1 for the phase that the volume is in: {', '.join(Phase)}.",
)
RESTARTS = MetricFamily(
    f"{_PREFIX}_restarts_total",
    ("cause",),
    f"Restarts of the pod by the operator, by cause: {', '.join(RestartCause)}.",
    len(RestartCause),
    "counter",
)
CONTAINER_RESTARTS = MetricFamily(
    f"{_PREFIX}_container_restarts",
    (),
    "How often the kubelet has restarted the container of the present pod; 0 without a pod.",
)
CREDENTIALS_CHANGED = MetricFamily(
    f"{_PREFIX}_credentials_changed_timestamp_seconds",
    (),
    "When the Secret with the S3 credentials was last changed, in seconds since 1970; absent without such a Secret.",
)
STORE_FAILING = MetricFamily(
    f"{_PREFIX}_store_failing",
    (),
    "1 while the server reports that it cannot use one of its stores, such as S3 that rejects its credentials; 0 "
    "otherwise, and while it cannot be asked.",
)
FAMILIES = (
    INFO,
    CONDITION,
    WAITING,
    REQUESTED,
    CAPACITY,
    VOLUME_PHASE,
    RESTARTS,
    CONTAINER_RESTARTS,
    CREDENTIALS_CHANGED,
    STORE_FAILING,
)


def server_samples(
    manifest: Manifest,
    pod: Manifest | None,
    credentials_changed: str | None,
    restarts: Mapping[RestartCause, int],
    now: datetime,
) -> dict[MetricFamily, list[Sample]]:
    """Returns the samples of a raw DittoServer. `credentials_changed` is RFC 3339, None where there is no Secret."""
    status = Status.read(manifest)
    conditions: dict[str, Condition] = {}
    for condition in status.conditions or ():
        conditions.setdefault(condition.type, condition)

    volumes: dict[str, VolumeStatus] = {}
    for volume in status.volumes or ():
        if volume.name in VOLUME_NAMES:
            volumes.setdefault(volume.name, volume)

    requested: list[Sample] = []
    capacity: list[Sample] = []
    for name, volume in volumes.items():
        labels = (name, claim_name(name, manifest["metadata"]["name"]))
        requested += [(labels, size) for size in _bytes(volume.requested)]
        capacity += [(labels, size) for size in _bytes(volume.capacity)]

    version = (status.server.version if status.server else None) or ""
    changed, stores = _time(credentials_changed), conditions.get("StoresReady")
    return {
        INFO: [((version, status.phase or "", _reason(conditions)), 1.0)],
        CONDITION: [
            ((kind, value), float(value == (conditions[kind].status if kind in conditions else "Unknown")))
            for kind in CONDITIONS
            for value in STATUSES
        ],
        WAITING: [((), _waiting_seconds(manifest, conditions, now))],
        REQUESTED: requested,
        CAPACITY: capacity,
        VOLUME_PHASE: [
            ((name, volume.phase if volume.phase in _PHASES else Phase.UNKNOWN), 1.0)
            for name, volume in volumes.items()
        ],
        RESTARTS: [((cause,), float(restarts.get(cause, 0))) for cause in RestartCause],
        CONTAINER_RESTARTS: [((), float(container_status(pod or {}).get("restartCount") or 0))],
        CREDENTIALS_CHANGED: [((), changed.timestamp())] if changed else [],
        STORE_FAILING: [((), float(stores is not None and (stores.status, stores.reason) == ("False", STORE_FAILS)))],
    }


def s3_secret_name(manifest: Manifest) -> str | None:
    """Returns the name of the Secret with the S3 credentials; None without one, or where the spec is not readable."""
    name: object = manifest.get("spec")
    for field in ("s3", "credentialsSecretRef", "secretName"):
        name = name.get(field) if isinstance(name, Mapping) else None
    return name if isinstance(name, str) else None


def _reason(conditions: Mapping[str, Condition]) -> str:
    stalled, ready = conditions.get("Stalled"), conditions.get("Ready")
    condition = stalled if stalled and stalled.status == "True" else ready
    if condition is None:
        return ""
    return condition.reason if _REASON.fullmatch(condition.reason) else OTHER_REASON


def _waiting_seconds(manifest: Manifest, conditions: Mapping[str, Condition], now: datetime) -> float:
    waits = [conditions[kind] for kind in ("Reconciling", "Stalled") if kind in conditions]
    waits = [condition for condition in waits if condition.status != "False"]

    ready = conditions.get("Ready")
    if ready and ready.status != "True":
        waits.append(ready)

    starts = [condition.last_transition_time for condition in waits]
    if ready is None:
        # Nothing was observed yet.
        starts.append(manifest["metadata"].get("creationTimestamp"))
    return max([0.0, *((now - start).total_seconds() for start in map(_time, starts) if start)])


def _bytes(size: str | None) -> Iterator[float]:
    """Yields the bytes of a quantity, nothing for anything else."""
    if size is None or len(size) > _MAX_SIZE_CHARACTERS:
        return

    try:
        number = quantity.parse(size)
    except ValueError:
        return
    if number >= 0:
        yield float(number)


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else None
