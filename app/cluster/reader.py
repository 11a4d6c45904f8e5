"""Defines the resources, and the Reader that a cluster and a snapshot both are. It never asks anything itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.storage.facts import PRIORITY_CLASS, SERVICE_ACCOUNT, SNAPSHOT_GROUP, VOLUME_SNAPSHOT, DryRun
from app.storage.spec import API_VERSION, KIND, PLURAL


@dataclass(frozen=True)
class Resource:
    """A resource; `version` is what manifests have as apiVersion, such as `storage.k8s.io/v1`."""

    version: str
    plural: str
    kind: str
    namespaced: bool = True


_ADMISSION = "admissionregistration.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"
# The version that the CSI snapshotter's CustomResourceDefinitions serve, where a cluster has them.

STORAGE_CLASSES = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
SECRETS = Resource("v1", "secrets", "Secret")
CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SERVICES = Resource("v1", "services", "Service")
PODS = Resource("v1", "pods", "Pod")
EVENTS = Resource("v1", "events", "Event")
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("v1", "nodes", "Node", namespaced=False)
STATEFUL_SETS = Resource("apps/v1", "statefulsets", "StatefulSet")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
# The Lease that the leader of the operator holds.
LEASE_NAME = "dittofs-operator"
MUTATING_WEBHOOKS = Resource(
    _ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
VALIDATING_WEBHOOKS = Resource(
    _ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False
)
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
VOLUMES = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
LIMIT_RANGES = Resource("v1", "limitranges", "LimitRange")
CSI_DRIVERS = Resource("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
ACCESS_REVIEWS = Resource(_AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
OWN_ACCESS_REVIEWS = Resource(_AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io/v1", "priorityclasses", PRIORITY_CLASS, namespaced=False)
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", SERVICE_ACCOUNT)
VOLUME_SNAPSHOTS = Resource(f"{SNAPSHOT_GROUP}/v1", "volumesnapshots", VOLUME_SNAPSHOT)
DITTO_SERVERS = Resource(API_VERSION, PLURAL, KIND)


@dataclass(frozen=True)
class Listing:
    """A list; `gap` says why there may be more items than these, and is None when these are all."""

    items: tuple[dict[str, Any], ...] = ()
    gap: str | None = None


class Reader(Protocol):
    """Reads objects: a namespace of None means `default` in `get`, and every namespace in `list`.

    Objects that lack the `labels`, such as `app=a`, may be left out.
    """

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Raises NotFound only when it is certain that the object does not exist."""

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing: ...

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun | None:
        """Asks what creating the object would do without storing it; an object of that name may exist.

        Returns None when there is no API server to ask. Raises ClusterError when the answer is not about the object.
        """


class EventReader(Protocol):
    """Reads Events; those that lack the `fields`, a field selector such as `type=Warning`, may be left out."""

    async def events(self, namespace: str, fields: str) -> Listing: ...
