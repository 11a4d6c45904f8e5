"""What the cluster has of one server: the input of every decision about it. It decides nothing itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from app.storage.facts import Claim, StorageClasses
from app.storage.unstructured import Manifest

RESIZE_PATIENCE = timedelta(minutes=2)


@dataclass(frozen=True)
class LiveState:
    """What is known of a server and its volumes. `removed` is the StatefulSet as this process removed it a moment ago.

    `refused` is what the API server has said to a change of a claim just now, by its name. `patience` is how long a
    file system may take to grow while it is in use.

    `unlabelled_pod` is the one that has the pod's name without its labels, where there is no `pod`.

    `claims_gap` says why a claim that is not among `claims` may exist all the same. While the StatefulSet `is_new` its
    controller may be about to create the claims.
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

    @property
    def named_pod(self) -> Manifest | None:
        """The pod of the server's name, whether it has its labels or lost them."""
        return self.pod or self.unlabelled_pod
