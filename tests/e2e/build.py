"""Builds the programs of a cluster with one node from Go modules.

These are what the control plane lacks, containerd, and the stand-in for DittoFS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.controlplane import build as controlplane
from tests.harness.dittofs_standin import STANDIN
from tests.harness.go_module import GoModule

FOLDER = Path(__file__).parent
NODE = replace(
    controlplane.go_module(FOLDER / "node"),
    names=("kubelet", "kube-proxy", "kube-scheduler"),
    duration="about 5 minutes on 2 cores",
)
CONTAINERS = GoModule(
    FOLDER / "containers",
    package="tool",
    names=("containerd", "containerd-shim-runc-v2", "ctr", "bridge", "host-local", "loopback"),
    stamps={},
    duration="about 3 minutes on 2 cores",
)
MOUNT = GoModule(FOLDER / "mount", package=".", names=("mount",), stamps={}, duration="a minute")


@dataclass(frozen=True)
class Programs:
    """The folders of the programs."""

    controlplane: Path
    node: Path
    containers: Path
    standin: Path
    mount: Path


def programs(environ: Mapping[str, str]) -> Programs:
    """Builds each program at most once for each content of its module."""
    return Programs(
        controlplane.go_module().built(environ),
        NODE.built(environ),
        CONTAINERS.built(environ),
        STANDIN.built(environ),
        MOUNT.built(environ),
    )
