"""Every port of a DittoServer and what listens on it, in the pod and in its Services."""

from typing import NamedTuple

from app.storage.spec import Spec

# The server listens on these in the pod whatever its configuration says.
NFS_PORT, SMB_PORT = 12049, 1445
FIXED_PORTS = {NFS_PORT: "NFS", SMB_PORT: "SMB"}


class Listener(NamedTuple):
    """A part of the server that clients connect to; `field` is the path of its port in the DittoServer."""

    name: str
    field: str
    port: int


def listeners(spec: Spec) -> tuple[Listener, ...]:
    """Returns every part of the server that listens, in the order in which a clash of ports is reported."""
    enabled = [
        Listener("nfs", "spec.nfsPort", spec.nfs_port),
        Listener("api", "spec.controlPlane.port", spec.control_plane.port),
    ]
    if spec.smb.enabled:
        enabled.append(Listener("smb", "spec.smb.port", spec.smb.port))
    if spec.metrics.enabled:
        enabled.append(Listener("metrics", "spec.metrics.port", spec.metrics.port))
    return tuple(enabled)
