"""Renders the Services of a DittoServer, with only what the operator decides on."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.storage.objects import Owner, owned_object, service_name
from app.storage.ports import listeners
from app.storage.spec import Spec
from app.storage.unstructured import Manifest

_FIELDS_OF_TYPES = {
    "loadBalancerIP": ("LoadBalancer",),
    "loadBalancerClass": ("LoadBalancer",),
    "loadBalancerSourceRanges": ("LoadBalancer",),
    "allocateLoadBalancerNodePorts": ("LoadBalancer",),
    "healthCheckNodePort": ("LoadBalancer",),
    "externalTrafficPolicy": ("LoadBalancer", "NodePort"),
}


def services(owner: Owner, spec: Spec) -> list[Manifest]:
    ports = {
        listener.name: {"name": listener.name, "port": listener.port, "targetPort": listener.name, "protocol": "TCP"}
        for listener in listeners(spec)
    }
    exposed, annotations = {"type": spec.service.type}, spec.service.annotations or {}

    result = [
        _service(owner, "headless", {"clusterIP": "None"}, [ports["nfs"]]),
        _service(owner, "file", exposed, [ports[name] for name in ("nfs", "smb") if name in ports], annotations),
        _service(owner, "api", exposed, [ports["api"]], annotations),
    ]
    if "metrics" in ports:
        result.append(_service(owner, "metrics", {"type": "ClusterIP"}, [ports["metrics"]]))
    return result


def without_fields_of_other_types(service: Mapping[str, Any]) -> Manifest:
    """Returns the spec of a Service without the fields that the API server rejects for its type (ValidateService)."""
    # A user may have set them while the type was another one, and would keep the Service from ever changing.
    kind = service.get("type") or "ClusterIP"
    unfit = {name for name, types in _FIELDS_OF_TYPES.items() if kind not in types}
    kept = {name: value for name, value in service.items() if name not in unfit}
    if kind == "ClusterIP":
        ports = [{name: value for name, value in port.items() if name != "nodePort"} for port in kept["ports"]]
        kept["ports"] = ports
    return kept


def _service(
    owner: Owner, suffix: str, kind: Manifest, ports: Iterable[Manifest], annotations: Mapping[str, str] | None = None
) -> Manifest:
    name = service_name(owner.name, suffix)
    spec = {**kind, "selector": owner.selector, "ports": list(ports)}
    manifest = owned_object("v1", "Service", name, owner, spec=spec)
    if annotations:
        manifest["metadata"]["annotations"] = dict(annotations)
    return manifest
