"""Rules about the ports of a DittoServer and its Services."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Network, ip_address, ip_network
from itertools import combinations

from app.storage.change import Change
from app.storage.difference import APPLIED, DIGEST_CHARACTERS
from app.storage.facts import Facts
from app.storage.finding import Finding, quote_value, rejection, warning
from app.storage.metadata import MAX_ANNOTATIONS_BYTES
from app.storage.names import (
    MAX_NAME_CHARACTERS,
    is_annotation_key,
    is_label_value,
    is_qualified_name,
)
from app.storage.objects import RESERVED_LABELS
from app.storage.ports import FIXED_PORTS, Listener
from app.storage.reading import field_name
from app.storage.service_spec import Service
from app.storage.services import CLUSTER_IP, DUAL_STACK, EXPOSED_TYPES, LOAD_BALANCER

# The operator adds one annotation to those of the spec, and all of them together must fit.
_SERVICE = "spec.service"
_NO_SERVICE = Service()
_RANGE = re.compile("[0-9A-Fa-f.:]{2,45}/(0|[1-9][0-9]{0,2})")
_MAX_SERVICE_ANNOTATIONS_BYTES = MAX_ANNOTATIONS_BYTES - len(APPLIED) - DIGEST_CHARACTERS


def ports_are_distinct(change: Change, _facts: Facts) -> Iterator[Finding]:
    for one, other in combinations(change.listeners, 2):
        if one.port == other.port:
            yield rejection(other.field, f"port {one.port} is used by both {one.name} and {other.name}")


def ports_are_free_in_the_pod(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port in FIXED_PORTS:
            reason = f"the server listens there for {FIXED_PORTS[listener.port]} inside the pod"
            yield rejection(listener.field, f"{field_name(listener.field)} must not be {listener.port}: {reason}")


def service_fields_fit_types(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects what the API server accepts for other types of Services only (ValidateService)."""
    service = _readable_service(change)
    if service is None:
        return

    api_type = service.api.type if service.api else None
    types = {service.type, api_type}
    balanced = "needs service.type or service.api.type LoadBalancer"
    if LOAD_BALANCER not in types:
        if service.load_balancer_class is not None:
            yield _rejection("loadBalancerClass", balanced)
        if service.load_balancer_source_ranges:
            yield _rejection("loadBalancerSourceRanges", balanced)
    if service.external_traffic_policy and types.isdisjoint(EXPOSED_TYPES):
        yield _rejection("externalTrafficPolicy", "needs service.type or service.api.type NodePort or LoadBalancer")

    ports = service.node_ports
    for name, port in (("nfs", ports.nfs), ("smb", ports.smb)):
        if port is not None and service.type not in EXPOSED_TYPES:
            yield _rejection(f"nodePorts.{name}", "needs service.type NodePort or LoadBalancer")
    if ports.api is not None and api_type not in EXPOSED_TYPES:
        yield _rejection("nodePorts.api", "needs service.api.type NodePort or LoadBalancer")


def node_ports_are_distinct(change: Change, _facts: Facts) -> Iterator[Finding]:
    ports = change.spec.service.node_ports
    named = [(name, port) for name, port in (("nfs", ports.nfs), ("smb", ports.smb), ("api", ports.api)) if port]
    for (one, port), (other, other_port) in combinations(named, 2):
        if port == other_port:
            problem = f"node port {port} is used by both {one} and {other}; give each its own"
            yield rejection(f"{_SERVICE}.nodePorts.{other}", problem)


def address_families_fit(change: Change, _facts: Facts) -> Iterator[Finding]:
    service = _readable_service(change)
    if service is None or service.ip_families is None:
        return

    families, policy = service.ip_families, service.ip_family_policy
    if len(families) == 2 and families[0] == families[1]:
        yield _rejection("ipFamilies", f"names {families[0]} twice; name each family once")
    elif len(families) == 2 and policy not in DUAL_STACK:
        yield _rejection(
            "ipFamilies", f"has both families; set service.ipFamilyPolicy to {DUAL_STACK[0]} or {DUAL_STACK[1]}"
        )
    elif len(families) == 1 and policy in DUAL_STACK:
        yield _rejection("ipFamilies", f"needs both families with service.ipFamilyPolicy {policy}, or leave it out")


def service_labels_are_free(change: Change, _facts: Facts) -> Iterator[Finding]:
    labels = change.spec.service.labels or {}
    for key in RESERVED_LABELS if labels else ():
        if key in labels:
            yield _rejection("labels", f'must not have "{key}": the operator sets that label itself')


def services_keep_their_address(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects changes of a Service that the API server never accepts (ValidateServiceUpdate), or does not carry out."""
    new, old = _readable_service(change), change.old.spec.service if change.old else None
    if new is None or old is None:
        return

    api_types = [service.api.type if service.api else None for service in (new, old)]
    stays_balanced = {new.type, old.type} == {LOAD_BALANCER} or set(api_types) == {LOAD_BALANCER}
    if stays_balanced and new.load_balancer_class != old.load_balancer_class:
        advice = "cannot change while the type is LoadBalancer; set the type to ClusterIP first, then back"
        yield _rejection("loadBalancerClass", advice)

    if new.ip_families and old.ip_families and new.ip_families[0] != old.ip_families[0]:
        advice = f"must begin with {old.ip_families[0]}: Kubernetes never changes the first family of a Service"
        yield _rejection("ipFamilies", advice)
    if old.ip_family_policy in DUAL_STACK and new.ip_family_policy is None:
        advice = "cannot be removed, as Kubernetes would keep both addresses; set SingleStack to give one up"
        yield _rejection("ipFamilyPolicy", advice)


def service_values_are_valid(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects what is new and what no Service can have; the cost of a CEL rule for it would be beyond the limit."""
    new, old = change.spec.service, change.old.spec.service if change.old else _NO_SERVICE
    if new == old:
        return

    name = new.load_balancer_class
    if name and name != old.load_balancer_class and not is_qualified_name(name):
        yield _rejection("loadBalancerClass", f"has {quote_value(name)}, which is no name such as example.com/internal")

    for position, address_range in enumerate(new.load_balancer_source_ranges or ()):
        if address_range in (old.load_balancer_source_ranges or ()):
            continue
        if why := _why_no_range(address_range):
            yield _rejection(f"loadBalancerSourceRanges[{position}]", f"has {quote_value(address_range)}, {why}")

    for key, value in sorted((new.labels or {}).items()):
        if (old.labels or {}).get(key) == value:
            continue
        if not is_qualified_name(key):
            yield _rejection("labels", f"has {quote_value(key)}, which is no name for a label")
        elif not is_label_value(value):
            limit = "must have up to 63 letters, digits, dashes, dots and underscores"
            yield _rejection(f"labels[{key}]", limit)


def annotations_fit_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    new, old = change.spec.service, change.old.spec.service if change.old else _NO_SERVICE
    yield from _annotation_findings(f"{_SERVICE}.annotations", new.annotations or {}, old.annotations or {})

    if new.api and new.api.annotations:
        before = (old.api.annotations if old.api else None) or {}
        yield from _annotation_findings(f"{_SERVICE}.api.annotations", new.api.annotations, before)


def _annotation_findings(path: str, new: Mapping[str, str], old: Mapping[str, str]) -> Iterator[Finding]:
    for key in sorted(new.keys() - old.keys()):
        if not is_annotation_key(key):
            field = f"{path}[{key[:MAX_NAME_CHARACTERS]}]"
            yield rejection(field, f"{field_name(path)} has {quote_value(key)}, which is no name for an annotation")

    size = sum(len(text.encode(errors="replace")) for item in new.items() for text in item)
    if new != old and size > _MAX_SERVICE_ANNOTATIONS_BYTES:
        limit = f"at most {_MAX_SERVICE_ANNOTATIONS_BYTES} bytes, keys included"
        yield rejection(path, f"{field_name(path)} must have {limit}")


def exposure_of_api_is_explicit(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Warns while the API is exposed only since an earlier version of the operator exposed it like files."""
    service = change.spec.service
    is_implicit = service.api is None or service.api.type is None
    if change.exposes_api and is_implicit and service.type in EXPOSED_TYPES:
        advice = f"set service.api.type to {service.type} to keep that, or to {CLUSTER_IP}"
        yield warning(f"{_SERVICE}.api.type", f"the API stays exposed by a Service of type {service.type}; {advice}")


def ports_are_unprivileged(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port < 1024:
            problem = f"{listener.name} port {listener.port} is privileged"
            yield warning(listener.field, f"{problem}; may require CAP_NET_BIND_SERVICE capability")


def _pod_listeners(change: Change) -> list[Listener]:
    """Returns those that listen in the pod on the port of the spec; a Service maps the ports of nfs and smb."""
    return [listener for listener in change.listeners if listener.name in ("api", "metrics")]


def _readable_service(change: Change) -> Service | None:
    """Returns the section; None where a part of it could not be read, which is an error of its own."""
    is_unreadable = any(
        error.path.startswith(_SERVICE) or _SERVICE.startswith(error.path) for error in change.new.errors
    )
    return None if is_unreadable else change.spec.service


def _rejection(field: str, problem: str) -> Finding:
    path = f"{_SERVICE}.{field}"
    return rejection(path, f"{field_name(path)} {problem}")


def _why_no_range(text: str) -> str | None:
    """Returns why the API server does not accept a range of addresses; None when it does."""
    match = _RANGE.fullmatch(text)
    try:
        network = ip_network(text, strict=False) if match else None
    except ValueError:
        network = None
    if network is None or (isinstance(network, IPv6Network) and network.network_address.ipv4_mapped):
        return "which is no range of addresses such as 10.0.0.0/8 or 2001:db8::/32"

    address = text.partition("/")[0]
    if ip_address(address) != network.network_address:
        return f"an address inside of a range; use {network} for the range"
    return None
