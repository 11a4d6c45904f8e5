"""Decides how a client mounts a share: from which address and port, with which options, and what speaks against it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.storage.endpoints import Endpoint, endpoints, valid_ip
from app.storage.finding import quote_value
from app.storage.live import LiveState
from app.storage.names import is_subdomain
from app.storage.next_step import by_type
from app.storage.objects import service_name
from app.storage.reading import read
from app.storage.secret_references import PASSWORD_PATH, consumed_references
from app.storage.server_health import Family
from app.storage.shares import reported_shares
from app.storage.spec import KIND, DittoServer, Share
from app.storage.status_schema import Status
from app.storage.unstructured import Manifest, is_terminating

FILE_SERVICE = "file"
DEFAULT_SMB_PORT = 445
# Ports of this machine that anybody may open, with which a forwarded connection begins.
FORWARDED_PORTS = {"nfs": 12049, "smb": 1445}
LOOPBACK = "127.0.0.1"

# DittoFS up to 0.8 drops a connection that sends more at once, although it offers to take it.
LEGACY_WRITE_BYTES = 524288
# The only dialect that DittoFS up to 0.8 has; newer ones have it as well.
LEGACY_SMB_DIALECT = "2.0"

MAX_SHARES_LISTED = 20
# A share that somebody created by hand may have another name than those of the spec. This much needs no care in a
# shell, and nothing else is passed on to one.
_UNLISTED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*(/[A-Za-z0-9][A-Za-z0-9 ._-]*)*")
MAX_UNLISTED_CHARACTERS = 100


class CannotMount(ValueError):
    """There is no such share or no way to it. The message says what is wrong and what to do."""


class Via(StrEnum):
    """The way from a client to the server."""

    CLUSTER_IP = "ClusterIP"  # From pods and nodes.
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"
    PORT_FORWARD = "PortForward"  # From the machine on which kubectl runs, for as long as it does.


@dataclass(frozen=True)
class Route:
    """An address and a port at which a client reaches the server; the address is None where nobody knows the node's."""

    via: Via
    address: str | None
    port: int

    @property
    def is_ipv6(self) -> bool:
        return self.address is not None and ":" in self.address


@dataclass(frozen=True)
class Routes:
    """The ways to one protocol, from the cluster and from other machines."""

    inside: Route
    outside: Route


@dataclass(frozen=True)
class Mount:
    """A share with the ways to it; `smb` is None when SMB is not enabled, and `why_no_smb` says what to do then.

    `notes` say what a person should know before mounting. `password_secret` has the name and the key of the Secret.
    """

    namespace: str
    server: str
    share: str
    read_only: bool
    is_writable: bool
    nfs: Routes
    smb: Routes | None
    why_no_smb: str | None
    family: Family | None
    password_secret: tuple[str, str]
    notes: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path that NFS clients mount: the name of the share, and nothing below it."""
        return f"/{self.share}"

    def nfs_options(self, route: Route) -> tuple[str, ...]:
        # A client takes "tcp" for TCP over IPv4 and then does not resolve an address of IPv6.
        transport = "proto=tcp6" if route.is_ipv6 else "tcp"
        # MOUNT is on the same port, and neither a portmapper nor a lock manager is reachable.
        options = ["vers=3", transport, f"port={route.port}", f"mountport={route.port}", "nolock"]
        if self.family is not Family.CURRENT:
            options.append(f"wsize={LEGACY_WRITE_BYTES}")
        return (*options, "ro") if self.read_only else tuple(options)

    def smb_options(self, route: Route) -> tuple[str, ...]:
        dialect = () if self.family is Family.CURRENT else (f"vers={LEGACY_SMB_DIALECT}",)
        return (f"port={route.port}", *dialect)


def plan_mount(
    manifest: Mapping[str, Any], service: Manifest | None, node_address: str | None, share: str | None
) -> Mount:
    """Decides how to mount a share, the only one where none is named. Raises CannotMount.

    `service` is the live Service for files. `node_address` is that of the node on which the pod runs, because a Service
    may lead to the pod from there alone; None when nobody knows it.
    """
    server, status = read(manifest).server, Status.read(manifest)
    namespace, name = server.metadata.namespace, server.metadata.name
    title = f"{KIND} {namespace}/{name}"
    if not (is_subdomain(namespace) and is_subdomain(name)):
        # A snapshot may have any text there, and what is printed here is run by a shell.
        raise CannotMount(f"no {KIND} can be called {quote_value(name)} in a namespace {quote_value(namespace)}")

    chosen, share_notes = _choose_share(title, server, status, manifest, share)

    live = LiveState(services={service_name(name, FILE_SERVICE): service} if service else {})
    by_protocol = {endpoint.protocol: endpoint for endpoint in endpoints(server, live)}
    nfs = by_protocol.get("nfs")
    if nfs is None or service is None or is_terminating(service):
        raise CannotMount(_why_no_service(title, service_name(name, FILE_SERVICE), service))

    smb, why_no_smb = by_protocol.get("smb"), None
    if not server.spec.smb.enabled:
        why_no_smb = f"SMB is not enabled for {title}: set spec.smb.enabled to true, which restarts nothing"
    elif smb is None:
        why_no_smb = f"Service {service_name(name, FILE_SERVICE)} has no port for SMB: wait for the operator"
    elif "/" in chosen.name:
        why_no_smb = f"SMB clients cannot name a share with a slash in it, such as {chosen.name}"

    node = _valid_address(node_address)
    password = next(item for item in consumed_references(name, server.spec) if item.path == PASSWORD_PATH)
    return Mount(
        namespace=namespace,
        server=name,
        share=chosen.name,
        read_only=chosen.read_only,
        is_writable=not chosen.read_only and chosen.default_permission not in ("none", "read"),
        nfs=_routes(title, nfs, node),
        smb=_routes(title, smb, node) if smb and not why_no_smb else None,
        why_no_smb=why_no_smb,
        family=Family(status.server.family) if status.server and status.server.family else None,
        password_secret=(password.secret or "", password.keys[0].name),
        notes=(*_server_notes(title, server, status), *share_notes),
    )


@dataclass(frozen=True)
class _ChosenShare:
    name: str
    read_only: bool = False
    default_permission: str = "read-write"


def _choose_share(
    title: str, server: DittoServer, status: Status, manifest: Mapping[str, Any], name: str | None
) -> tuple[_ChosenShare, list[str]]:
    """Returns the share and what to know about it."""
    listed: dict[str, Share] = {share.name: share for share in server.spec.shares or ()}
    reported = {state.name: state for state in reported_shares(manifest)}
    names = sorted(listed.keys() | reported.keys())
    shown = ", ".join(names[:MAX_SHARES_LISTED]) + (", …" if len(names) > MAX_SHARES_LISTED else "")

    if name is None and not names:
        raise CannotMount(f"{title} lists no share: add one to spec.shares, or name one that you created in the server")
    if name is None and len(names) > 1:
        raise CannotMount(f"{title} has several shares, name one of them: {shown}")

    wanted = names[0] if name is None else name.removeprefix("/")
    if wanted not in names:
        loaded = status.server.shares if status.server else None
        if names and (loaded is None or loaded <= len(names)):
            raise CannotMount(f"{title} has no share {quote_value(wanted)}; there are: {shown}")

        if len(wanted) > MAX_UNLISTED_CHARACTERS or not _UNLISTED_NAME.fullmatch(wanted):
            message = "is not in spec.shares, and only letters, digits, spaces, dots and dashes are safe in a command"
            raise CannotMount(f"share {quote_value(wanted)} {message}")
        return _ChosenShare(wanted), [f"share {wanted} is not in spec.shares: only the server knows whether it exists"]

    share, state, notes = listed.get(wanted), reported.get(wanted), []
    if state is None or state.phase == "Pending":
        why = state.message if state and state.message else "the operator has not created it yet"
        notes.append(f"share {wanted} cannot be mounted yet: {why}")
    elif state.phase == "Failed":
        notes.append(f"share {wanted} may not work: {state.message or 'it cannot be created or changed'}")

    if share is None:
        return _ChosenShare(wanted), notes

    if share.default_permission == "none":
        notes.append(f"share {wanted} refuses whoever has no permission of their own: its defaultPermission is none")
    return _ChosenShare(wanted, share.read_only, share.default_permission), notes


def _server_notes(title: str, server: DittoServer, status: Status) -> Iterator[str]:
    ready = by_type(status).get("Ready")
    if server.spec.replicas == 0:
        yield f"{title} is stopped, and clients wait until it is started: set spec.replicas to 1"
    elif ready is None or ready.status != "True":
        why = f" ({ready.reason})" if ready else ""
        yield f"{title} is not ready{why}, and clients wait until it is: its status says what to do"


def _why_no_service(title: str, name: str, service: Manifest | None) -> str:
    no_address = f"{title} has no address: Service {name}"
    if service is None:
        return f"{no_address} does not exist; its status says why the operator has not created it"
    if is_terminating(service):
        return f"{no_address} is being deleted; the operator creates it again once it is gone"
    return f"{no_address} does not lead to NFS of the server; somebody has changed it"


def _routes(title: str, endpoint: Endpoint, node: str | None) -> Routes:
    if endpoint.cluster_ip is None:
        raise CannotMount(
            f"{title} has no address: its Service has no cluster IP; somebody has changed it to a headless one"
        )

    inside = Route(Via.CLUSTER_IP, endpoint.cluster_ip, endpoint.port)
    if endpoint.external_address:
        return Routes(inside, Route(Via.LOAD_BALANCER, endpoint.external_address, endpoint.port))
    if endpoint.node_port:
        return Routes(inside, Route(Via.NODE_PORT, node, endpoint.node_port))
    return Routes(inside, Route(Via.PORT_FORWARD, LOOPBACK, FORWARDED_PORTS[endpoint.protocol]))


def address_of_node(node: Mapping[str, Any]) -> str | None:
    """Returns the address at which other machines reach a node, better one outside of the cluster's network."""
    entries = (node.get("status") or {}).get("addresses") or []
    by_type = {entry.get("type"): entry.get("address") for entry in entries if isinstance(entry, Mapping)}
    candidates = (_valid_address(by_type.get(kind)) for kind in ("ExternalIP", "InternalIP", "Hostname"))
    return next((address for address in candidates if address), None)


def _valid_address(value: object) -> str | None:
    return valid_ip(value) or (value if isinstance(value, str) and is_subdomain(value) else None)
