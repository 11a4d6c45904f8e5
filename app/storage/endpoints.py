"""Decides where clients reach a server, by its live Services. Users can write these: nothing is taken as it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Any

from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN
from app.storage.events import Event
from app.storage.evidence import quote
from app.storage.live import LiveState
from app.storage.names import is_subdomain
from app.storage.objects import service_name
from app.storage.problem import SERVICE_MISSING, SERVICE_OUTDATED, SERVICE_TERMINATING, Problem, Verdict
from app.storage.services import LOAD_BALANCER, PORTS, selects_pod
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating

MAX_PORT = 65535
_MAX_ADDRESSES = 16
_MAX_PORTS = 64

# The Service that is for other Services rather than for clients.
_HEADLESS = "headless"


@dataclass(frozen=True)
class Endpoint:
    """An address at which clients reach one part of a server; a field is None where there is none of its kind."""

    protocol: str
    host: str  # The name in the cluster's DNS.
    port: int
    cluster_ip: str | None = None
    external_address: str | None = None
    node_port: int | None = None

    def as_status(self) -> Manifest:
        fields = {
            "protocol": self.protocol,
            "host": self.host,
            "clusterIP": self.cluster_ip,
            "externalAddress": self.external_address,
            "port": self.port,
            "nodePort": self.node_port,
        }
        return {name: value for name, value in fields.items() if value is not None}


def endpoints(server: DittoServer, live: LiveState, cluster_domain: str = DEFAULT_CLUSTER_DOMAIN) -> Iterator[Endpoint]:
    """Yields an endpoint for each port of a live Service that leads to the pod of the server."""
    name, namespace = server.metadata.name, server.metadata.namespace
    for suffix, protocols in PORTS.items():
        service = live.services.get(service_name(name, suffix))
        if suffix == _HEADLESS or service is None or not selects_pod(service, name):
            continue

        ports = _ports(service)
        for protocol in protocols:
            if protocol in ports:
                number, node_port = ports[protocol]
                yield Endpoint(
                    protocol,
                    host=f"{service_name(name, suffix)}.{namespace}.svc.{cluster_domain}",
                    port=number,
                    cluster_ip=valid_ip(service["spec"].get("clusterIP")),
                    external_address=_external_address(service),
                    node_port=node_port,
                )


def nfs_endpoint(server: DittoServer, live: LiveState, cluster_domain: str) -> str | None:
    """Returns where clients in the cluster reach NFS; None while there is no Service for it."""
    reachable = endpoints(server, live, cluster_domain)
    return next((f"{endpoint.host}:{endpoint.port}" for endpoint in reachable if endpoint.protocol == "nfs"), None)


def endpoints_ready(server: DittoServer, live: LiveState, since: str) -> Verdict:
    """Holds while each Service is there with its address; `since` is when it last held, in RFC 3339.

    It says nothing about Ready: in the cluster the pod can be reached without the address of a load balancer.
    """
    pending = []
    for suffix in PORTS:
        name = service_name(server.metadata.name, suffix)
        service = live.services.get(name)
        if suffix == "metrics" and not server.spec.metrics.enabled:
            continue

        if service is None:
            return "False", Problem(SERVICE_MISSING, f"Service {name} does not exist; Ready says why if it stays so")
        if is_terminating(service):
            message = f"Service {name} is being deleted; it is created again once it is gone"
            return "False", Problem(SERVICE_TERMINATING, message)

        if not selects_pod(service, server.metadata.name):
            message = f"Service {name} leads elsewhere than to the pod of the server; somebody has changed it"
            return "False", Problem(SERVICE_OUTDATED, message)
        if service["spec"].get("type") == LOAD_BALANCER and _external_address(service) is None:
            pending.append((name, service["spec"].get("loadBalancerClass")))

    if not pending:
        return "True", Problem("Assigned", "every Service has its address")

    names = " and ".join(f"{name} of class {quote(kind)}" if kind else name for name, kind in pending)
    advice = f"see the Events of kubectl describe service {pending[0][0]}, and whether the cluster has load balancers"
    message = f"no load balancer has given Service {names} an address since {since}: {advice}"
    return "False", Problem("LoadBalancerPending", message)


def exposes_api(status: Any) -> bool:
    """Tells by a status whether clients outside of the cluster reach the API; one of another shape says no."""
    listed = status.get("endpoints") if isinstance(status, Mapping) else None
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    api = next((entry for entry in entries if entry.get("protocol") == "api"), {})

    return bool(api.get("externalAddress") or api.get("nodePort"))


def exposure_events(server: DittoServer, before: Any, after: Any) -> Iterator[Event]:
    """Yields an Event when the API is first seen to be exposed although the spec does not say so."""
    service = server.spec.service
    if service.api and service.api.type is not None:
        return

    if exposes_api(after) and not exposes_api(before):
        message = (
            f"Service {service_name(server.metadata.name, 'api')} exposes the API as earlier versions of the operator "
            f"did; set service.api.type to {service.type} to keep that, or to ClusterIP"
        )
        yield Event("Warning", "APIExposed", message)


def _ports(service: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
    """Returns the ports of a Service and of the nodes by their names."""
    listed = service["spec"].get("ports")
    ports: dict[str, tuple[int, int | None]] = {}

    for entry in islice(listed if isinstance(listed, list) else (), _MAX_PORTS):
        number = _port(entry.get("port"))
        if number and isinstance(entry.get("name"), str):
            ports.setdefault(entry["name"], (number, _port(entry.get("nodePort"))))
    return ports


def _port(value: Any) -> int | None:
    is_port = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PORT
    return value if is_port else None


def _external_address(service: Mapping[str, Any]) -> str | None:
    """Returns the first address that a load balancer has given to the Service."""
    if service["spec"].get("type") != LOAD_BALANCER:
        return None

    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    for entry in islice(ingress if isinstance(ingress, list) else (), _MAX_ADDRESSES):
        host = entry.get("hostname") if isinstance(entry, Mapping) else None
        address = valid_ip(entry.get("ip")) if isinstance(entry, Mapping) else None
        if address or (isinstance(host, str) and is_subdomain(host)):
            return address or host
    return None


def valid_ip(value: Any) -> str | None:
    """Returns an IP address in its usual form; a headless Service has the word None instead of one."""
    # The zone of an address may be any text, and is of use on one machine only.
    if not isinstance(value, str) or "%" in value:
        return None

    try:
        return str(ip_address(value))
    except ValueError:
        return None
