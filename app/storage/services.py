"""Renders the Services of a DittoServer, with only what the operator decides on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.objects import Owner, controller, owned_object, service_name
from app.storage.ports import listeners
from app.storage.service_spec import Service
from app.storage.spec import Spec
from app.storage.unstructured import Manifest

CLUSTER_IP, LOAD_BALANCER = "ClusterIP", "LoadBalancer"
EXPOSED_TYPES = ("NodePort", LOAD_BALANCER)
DUAL_STACK = ("PreferDualStack", "RequireDualStack")

# The ports of each Service, by its suffix; one without a port that listens is not there.
PORTS = {"headless": ("nfs",), "file": ("nfs", "smb"), "api": ("api",), "metrics": ("metrics",)}

# What the API server accepts for some types only (ValidateService).
_FIELDS_OF_TYPES = {
    "loadBalancerIP": (LOAD_BALANCER,),
    "loadBalancerClass": (LOAD_BALANCER,),
    "loadBalancerSourceRanges": (LOAD_BALANCER,),
    "allocateLoadBalancerNodePorts": (LOAD_BALANCER,),
    "healthCheckNodePort": (LOAD_BALANCER,),
    "externalTrafficPolicy": EXPOSED_TYPES,
}


@dataclass(frozen=True)
class _Exposure:
    """Says how clients reach a Service: the fields of its spec about that, and its annotations."""

    fields: Manifest
    annotations: Mapping[str, str] | None = None

    @property
    def has_node_ports(self) -> bool:
        return self.fields.get("type") in EXPOSED_TYPES


def services(owner: Owner, spec: Spec, live: Mapping[str, Manifest] | None = None) -> list[Manifest]:
    """Renders the Services; `live` are those that there are, by name, None for a server that has none yet."""
    service, ports = spec.service, {listener.name: listener.port for listener in listeners(spec)}
    exposures = {
        "headless": _Exposure({"clusterIP": "None"}),
        "file": _Exposure(_fields_of_type(service, service.type), service.annotations),
        "api": _api_exposure(owner, service, (live or {}).get(service_name(owner.name, "api"))),
        "metrics": _Exposure({"type": CLUSTER_IP}),
    }

    result = []
    for suffix, exposure in exposures.items():
        names = [name for name in PORTS[suffix] if name in ports]
        if names:
            result.append(_service(owner, service, suffix, exposure, {name: ports[name] for name in names}))
    return result


def service_names(server: str) -> list[str]:
    """Returns the names of all Services that a server may have."""
    return [service_name(server, suffix) for suffix in PORTS]


def selects_pod(service: Mapping[str, Any], server: str) -> bool:
    """Tells whether a live Service leads to the pod of the server; whoever may write Services can have changed that."""
    spec = service.get("spec") or {}
    return (
        spec.get("type") != "ExternalName"
        and Owner(server, "").selector.items() <= (spec.get("selector") or {}).items()
    )


def without_fields_of_other_types(service: Mapping[str, Any]) -> Manifest:
    """Returns the spec of a Service without the fields that the API server rejects for its type (ValidateService)."""
    # A user may have set them while the type was another one, and would keep the Service from ever changing.
    kind = service.get("type") or CLUSTER_IP
    unfit = {name for name, types in _FIELDS_OF_TYPES.items() if kind not in types}
    kept = {name: value for name, value in service.items() if name not in unfit}
    if kind == CLUSTER_IP:
        ports = [{name: value for name, value in port.items() if name != "nodePort"} for port in kept["ports"]]
        kept["ports"] = ports
    return kept


def _api_exposure(owner: Owner, service: Service, live: Manifest | None) -> _Exposure:
    """Returns how clients reach the API.

    Earlier versions exposed it as the Service for files. It keeps that while it is exposed and the spec says
    nothing about it; a new one is not exposed.
    """
    api_type: str | None = service.api.type if service.api else None
    if api_type is None:
        # That of a previous server of this name is about to be removed. Without a uid, as in a preview, none can tell.
        is_ours = live is not None and (controller(live) is None or owner.uid is None or owner.owns(live))
        is_exposed = live is not None and is_ours and live["spec"].get("type") in EXPOSED_TYPES
        api_type = service.type if is_exposed else CLUSTER_IP

    annotations = service.annotations if api_type == service.type else None
    return _Exposure(_fields_of_type(service, api_type), service.api.annotations if service.api else annotations)


def _fields_of_type(service: Service, kind: str) -> Manifest:
    """Returns the type with the fields of the spec that a Service of this type can have."""
    fields: Manifest = {
        "loadBalancerClass": service.load_balancer_class,
        "loadBalancerSourceRanges": service.load_balancer_source_ranges,
        "externalTrafficPolicy": service.external_traffic_policy,
    }
    return {"type": kind, **{name: value for name, value in fields.items() if value and kind in _FIELDS_OF_TYPES[name]}}


def _service(
    owner: Owner, service: Service, suffix: str, exposure: _Exposure, port_numbers: Mapping[str, int]
) -> Manifest:
    node_ports = {"nfs": service.node_ports.nfs, "smb": service.node_ports.smb, "api": service.node_ports.api}
    ports: list[Manifest] = []
    for name, number in port_numbers.items():
        node_port = node_ports.get(name) if exposure.has_node_ports else None
        fixed = {"nodePort": node_port} if node_port else {}
        ports.append({"name": name, "port": number, "targetPort": name, "protocol": "TCP", **fixed})

    families = {"ipFamilyPolicy": service.ip_family_policy, "ipFamilies": service.ip_families}
    set_families = {name: value for name, value in families.items() if value}
    spec = {**exposure.fields, **set_families, "selector": owner.selector, "ports": ports}

    manifest = owned_object("v1", "Service", service_name(owner.name, suffix), owner, spec=spec)
    manifest["metadata"]["labels"] = {**(service.labels or {}), **manifest["metadata"]["labels"]}
    if exposure.annotations:
        manifest["metadata"]["annotations"] = dict(exposure.annotations)
    return manifest
