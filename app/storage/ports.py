"""Every port of a DittoServer and what listens on it, in the pod and in its Services."""

from dataclasses import dataclass

from app.storage.spec import DEFAULT_CONTROL_PLANE, DEFAULT_METRICS, DEFAULT_SMB, Spec

# The server listens there whatever its configuration says.
NFS_PORT, SMB_PORT = 12049, 1445
FIXED_PORTS = {NFS_PORT: "NFS", SMB_PORT: "SMB"}


@dataclass(frozen=True)
class Listener:
    """Something that a client connects to; `field` is where its port is written."""

    name: str
    field: str
    port: int


def listeners(spec: Spec) -> tuple[Listener, ...]:
    """Everything that listens, in the order in which a clash is reported."""
    api, smb = spec.control_plane or DEFAULT_CONTROL_PLANE, spec.smb or DEFAULT_SMB
    metrics = spec.metrics or DEFAULT_METRICS
    found = [Listener("nfs", "spec.nfsPort", spec.nfs_port), Listener("api", "spec.controlPlane.port", api.port)]
    if smb.enabled:
        found.append(Listener("smb", "spec.smb.port", smb.port))
    if metrics.enabled:
        found.append(Listener("metrics", "spec.metrics.port", metrics.port))
    return tuple(found)
