"""Provides what a measurement needs: its own control plane with the CRD, and registered webhooks."""

import base64
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from app.storage.crd import custom_resource_definition
from tests.bench.load import Load
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import Namespace, registration

CRD = "dittoservers.dittofs.dittofs.com"


class Cluster(ControlPlane):
    # With the default of 20 requests a second, claims and pods of a thousand servers would take five minutes.
    controller_manager_flags = ("--kube-api-qps=200", "--kube-api-burst=200")


@contextmanager
def cluster(*namespaces: str) -> Iterator[Cluster]:
    with TemporaryDirectory(prefix="bench-") as folder, Cluster(programs(os.environ), Path(folder)) as running:
        running.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
        running.wait_until_established(CRD)
        for namespace in namespaces:
            running.kubectl("create", "namespace", namespace)

        yield running


def load_on(control_plane: ControlPlane) -> Load:
    """Loads the API server as admin."""
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    return Load(control_plane.url, trust, {"Authorization": f"Bearer {control_plane.token}"})


def register(namespace: Namespace, url: str, authority: Path) -> None:
    bundle = base64.b64encode(authority.read_bytes()).decode()
    namespace.apply(*registration(url, namespace.namespace, caBundle=bundle))
