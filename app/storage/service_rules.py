"""Rules about the ports of a DittoServer and its Services."""

from collections.abc import Iterator
from itertools import combinations

from app.storage.change import Change
from app.storage.difference import APPLIED, DIGEST_CHARACTERS
from app.storage.facts import Facts
from app.storage.finding import Finding, quote_value, rejection, warning
from app.storage.metadata import MAX_ANNOTATIONS_BYTES
from app.storage.names import (
    MAX_NAME_CHARACTERS,
    is_annotation_key,
)
from app.storage.ports import FIXED_PORTS, Listener
from app.storage.reading import field_name

# The operator adds one annotation to those of the spec, and all of them together must fit.
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


def annotations_fit_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.service.annotations"
    new = change.spec.service.annotations or {}
    old = (change.old.spec.service.annotations if change.old else None) or {}

    for key in sorted(new.keys() - old.keys()):
        if not is_annotation_key(key):
            field = f"{path}[{key[:MAX_NAME_CHARACTERS]}]"
            yield rejection(field, f"{field_name(path)} has {quote_value(key)}, which is no name for an annotation")

    size = sum(len(text.encode(errors="replace")) for item in new.items() for text in item)
    if new != old and size > _MAX_SERVICE_ANNOTATIONS_BYTES:
        limit = f"at most {_MAX_SERVICE_ANNOTATIONS_BYTES} bytes, keys included"
        yield rejection(path, f"{field_name(path)} must have {limit}")


def ports_are_unprivileged(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port < 1024:
            problem = f"{listener.name} port {listener.port} is privileged"
            yield warning(listener.field, f"{problem}; may require CAP_NET_BIND_SERVICE capability")


def _pod_listeners(change: Change) -> list[Listener]:
    """Returns those that listen in the pod on the port of the spec; a Service maps the ports of nfs and smb."""
    return [listener for listener in change.listeners if listener.name in ("api", "metrics")]
