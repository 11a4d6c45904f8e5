"""What the cluster has of one server: the input of every decision about it. It decides nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from app.storage.facts import Claim, Secret, StorageClasses, Unknown
from app.storage.finding import Finding
from app.storage.unstructured import Manifest

RESIZE_PATIENCE = timedelta(minutes=2)


@dataclass(frozen=True)
class LiveState:
    """What is known of a server; `uid` is None for one that does not exist yet.

    Volumes and pod: `removed` is the StatefulSet as this process removed it a moment ago. `refused` is what the API
    server has just said to a change of a claim, by the claim's name. `patience` is how long a file system may take to
    grow while it is in use. `unlabelled_pod` has the pod's name without its labels, where there is no `pod`.
    `claims_gap` says why a claim that is not among `claims` may exist all the same. While the StatefulSet `is_new` its
    controller may be about to create the claims.

    Credentials: `secrets` are those that the pod reads, by name, None for one that does not exist; the whole mapping
    is None when nobody has looked. `digests` are of their values, by Secret and key. `postgres_source` is the Secret
    with the connection string, when its parts have to be compared with `postgres_secret`, which holds them.

    Objects: `services` are by name. `rejected` is what the API server rejects of the sections that go into the pod.
    """

    claims: Mapping[str, Claim] = field(default_factory=dict)
    classes: StorageClasses = field(default_factory=StorageClasses)
    stateful_set: Manifest | None = None
    pod: Manifest | None = None
    removed: Manifest | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    may_restart: bool = True
    may_lose_data: bool = False
    patience: timedelta = RESIZE_PATIENCE
    unlabelled_pod: Manifest | None = None
    claims_gap: str | None = None
    is_new: bool = False
    uid: str | None = None
    secrets: Mapping[str, Secret | Unknown | None] | None = None
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    postgres_source: Manifest | None = field(default=None, repr=False)
    postgres_secret: Manifest | None = None
    config_map: Manifest | None = None
    services: Mapping[str, Manifest] = field(default_factory=dict)
    rejected: Sequence[Finding] = ()

    @property
    def named_pod(self) -> Manifest | None:
        """The pod of the server's name, whether it has its labels or lost them."""
        return self.pod or self.unlabelled_pod
