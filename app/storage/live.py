"""Holds what the cluster has of one server: the input of every decision about it. It decides nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from app.storage.facts import Claim, Secret, StorageClasses, Unknown
from app.storage.finding import Finding
from app.storage.maintenance import Provisioned
from app.storage.remote_store import RemoteStore
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.server_health import ServerHealth
from app.storage.shares import ShareState
from app.storage.status_schema import ServerStatus
from app.storage.unstructured import Manifest

RESIZE_PATIENCE = timedelta(minutes=2)


@dataclass(frozen=True)
class LiveState:
    """The objects of a server as they are, and what is known about them."""

    claims: Mapping[str, Claim] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    claims_gap: str | None = None  # Why a claim that is not among `claims` may exist all the same.
    refused: Mapping[str, str] = field(default_factory=dict)  # What the API server just said to a change, by claim.
    patience: timedelta = RESIZE_PATIENCE  # How long a file system may take to grow while it is in use.
    defaults: ObjectDefaults = NO_DEFAULTS  # What the operator's settings give to all servers now.

    uid: str | None = None  # None for a server that does not exist yet.
    stateful_set: Manifest | None = None
    is_new: bool = False  # The StatefulSet is, so that its controller may be about to create the claims.
    removed: Manifest | None = None  # The StatefulSet as this process removed it a moment ago.
    pod: Manifest | None = None
    unlabelled_pod: Manifest | None = None  # Has the pod's name without its labels, where there is no `pod`.
    is_paused: bool = False
    may_restart: bool = True
    may_lose_data: bool = False
    restarted_at: str | None = None  # By which value of the annotation a person asks for a restart; None for no one.

    # Those that the pod reads, by name, None for one that does not exist; None as a whole when nobody has looked.
    secrets: Mapping[str, Secret | Unknown | None] | None = None
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # Of the values, by Secret and key.
    # The Secret with the connection string, when its parts have to be compared with the Secret that holds them.
    postgres_source: Manifest | None = field(default=None, repr=False)
    postgres_secret: Manifest | None = None

    # Metadata of Secrets by name: of those that are generated for the server, and of the one from which the Go operator
    # took the first password before it renamed that Secret.
    generated_secrets: Mapping[str, Manifest] = field(default_factory=dict)
    former_admin_secret: Manifest | None = None

    config_map: Manifest | None = None
    services: Mapping[str, Manifest] = field(default_factory=dict)  # By name.
    rejected: Sequence[Finding] = ()  # What the API server rejects of the sections that go into the pod.

    # What the server itself has reported; None while nobody knows, and then `unanswered` is why, empty if nobody asked.
    health: ServerHealth | None = None
    unanswered: str = ""
    # What its status says of it, which whoever may write the status can have written.
    server: ServerStatus = field(default_factory=ServerStatus)
    adopt_store: str = ""  # The name in the annotation that lets the operator adopt a block store record.
    remote_store: RemoteStore = field(default_factory=RemoteStore)
    shares: tuple[ShareState, ...] = ()
    provisioned: Provisioned | None = None  # What this process last did inside the server.

    @property
    def named_pod(self) -> Manifest | None:
        """The pod of the server's name, whether it has its labels or lost them."""
        return self.pod or self.unlabelled_pod
