"""Ports that accept connections and never answer, and kubeconfigs that lead there or to the control plane."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cluster.client import Cluster
from app.cluster.errors import Unavailable
from app.cluster.reader import SECRETS
from tests.controlplane.cluster import ControlPlane


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Opens a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def kubeconfig(path: Path, server: str, **user: Any) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def trusting_kubeconfig(control_plane: ControlPlane, folder: Path, **user: Any) -> Path:
    """Writes a kubeconfig with the CA of the control plane."""
    path = kubeconfig(folder / "kubeconfig", control_plane.url, **user)
    content = yaml.safe_load(path.read_text())
    content["clusters"][0]["cluster"]["certificate-authority"] = str(control_plane.ca_file)
    path.write_text(yaml.safe_dump(content))
    return path


async def failure(kubeconfig: Path | None, **options: Any) -> str:
    """Returns why nothing can be read."""
    with pytest.raises(Unavailable) as caught:
        async with Cluster.connect(kubeconfig, **options) as cluster:
            await cluster.get(SECRETS, "s3")
    return str(caught.value)
