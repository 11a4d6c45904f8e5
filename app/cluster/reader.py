"""What can be asked of a cluster, how it is answered and how that fails. It asks nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.storage.facts import Cause, DryRun
from app.storage.spec import API_VERSION, KIND, PLURAL


@dataclass(frozen=True)
class Resource:
    """`version` is what manifests have as apiVersion, such as `storage.k8s.io/v1`."""

    version: str
    plural: str
    kind: str
    namespaced: bool = True


STORAGE_CLASSES = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
SECRETS = Resource("v1", "secrets", "Secret")
CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SERVICES = Resource("v1", "services", "Service")
PODS = Resource("v1", "pods", "Pod")
EVENTS = Resource("v1", "events", "Event")
NODES = Resource("v1", "nodes", "Node", namespaced=False)
STATEFUL_SETS = Resource("apps/v1", "statefulsets", "StatefulSet")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
MUTATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
DITTO_SERVERS = Resource(API_VERSION, PLURAL, KIND)


@dataclass(frozen=True)
class Listing:
    """`gap` says why there may be more items than these, None that these are all."""

    items: tuple[dict[str, Any], ...] = ()
    gap: str | None = None


class Reader(Protocol):
    """A namespace of None means `default` in `get`, and every namespace in `list`.

    Objects that lack the `labels`, such as `app=a`, may be left out.
    """

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Raises NotFound only when it is certain that there is no such object."""

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing: ...

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun | None:
        """Asks what creating the object would do, and stores nothing; one of that name may exist.

        None when there is no API server to ask. Raises ClusterError when the answer is not about the object.
        """


class ClusterError(Exception):
    """The message is one line for a person to read; it never has any of an object's data in it."""


class NotFound(ClusterError):
    """There is no such object, by the word of the one who was asked."""


class Forbidden(ClusterError):
    """These credentials may not do that, or are no good."""


class NamespaceTerminating(Forbidden):
    """The namespace is being deleted, and nothing can be created in it any more."""


class Conflict(ClusterError):
    """The object has changed, or exists already."""


class Expired(ClusterError):
    """What was asked for is too long ago (410 Gone): list anew."""


class Invalid(ClusterError):
    """The request itself is wrong; asking again does not help.

    `causes` are the fields of the object that are wrong; none when a policy or another webhook rejects it.
    """

    def __init__(self, message: str, causes: Sequence[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class Undecodable(Invalid):
    """The API server could not read the object: a field that does not exist, or a value of the wrong type."""


class Unavailable(ClusterError):
    """Nobody gave an answer to rely on."""


class Unreachable(Unavailable):
    """Nobody answered at all, and nobody would answer to another request either."""


class NotServed(Unavailable):
    """The API server does not serve the resource at all, such as one whose CustomResourceDefinition is missing."""
