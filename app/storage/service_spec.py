"""The models of `spec.service`: how clients reach a server. Its CustomResourceDefinition is made from them, too."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from app.storage.fields import MAX_LIST_ENTRIES, Annotations, Labels, Model, Port, limit_list, section

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer"]
SourceRanges = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(max_length=MAX_LIST_ENTRIES),
    BeforeValidator(limit_list),
]
IPFamilies = Annotated[list[Literal["IPv4", "IPv6"]], Field(min_length=1, max_length=2)]


class NodePorts(Model):
    """Ports of the nodes; those that are left out are chosen by Kubernetes and stay as they are."""

    nfs: Port | None = None
    """The port of the nodes for NFS."""
    smb: Port | None = None
    """The port of the nodes for SMB; has no effect unless smb.enabled."""
    api: Port | None = None
    """The port of the nodes for the API; needs api.type NodePort or LoadBalancer."""


class ApiService(Model):
    """The Service for the API, which administrates the server."""

    type: ServiceType | None = None
    """ClusterIP, NodePort or LoadBalancer; ClusterIP when left out, unless the API is exposed already."""
    annotations: Annotations | None = None
    """Annotations of the Service for the API."""


class Service(Model):
    """The Services, by which clients reach the server."""

    type: ServiceType = "ClusterIP"
    """Type of the Service for files: ClusterIP, NodePort or LoadBalancer."""
    annotations: Annotations | None = None
    """Annotations of the Service for files; also of the one for the API if that has no section and the same type."""
    labels: Labels | None = None
    """Labels of every Service, besides those of the operator."""
    load_balancer_class: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """Which implementation provides the load balancers; the cluster's own when left out. It cannot change."""
    load_balancer_source_ranges: SourceRanges | None = None
    """The addresses from which clients may use the load balancers, such as 10.0.0.0/8; all when left out."""
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    """Local keeps the addresses of clients and skips nodes without the pod; Cluster is the default."""
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    """Whether every Service has an address of one family or of both. Once set to both, it cannot be left out again."""
    ip_families: IPFamilies | None = Field(None, alias="ipFamilies")
    """IPv4 or IPv6, or both in the order of preference; the cluster decides when left out. The first cannot change."""
    node_ports: NodePorts = section(NodePorts)
    """Ports of the nodes for the types NodePort and LoadBalancer."""
    api: ApiService | None = None
    """The Service for the API."""
