import logging
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

from app.cluster.client import Selection
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, STATEFUL_SETS
from app.storage.crd import custom_resource_definition
from tests.controlplane.build import minor, programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import S3, STANDIN
from tests.harness.log_lines import record_lines
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.volume_driver import VolumeDriver
from tests.helm.build import helm

# How long an example takes depends on other work on the machine and says nothing about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begins with the files that run a control plane: those take longest, and one at the end would run alone."""
    slow = {item.path for item in items if "control_plane" in item.fixturenames or "ControlPlane" in vars(item.module)}
    items.sort(key=lambda item: (comes_last(item), item.path not in slow))


def comes_last(item: pytest.Function) -> bool:
    """Tells whether a test leaves so much behind that those after it would be slow."""
    mark = item.get_closest_marker("alone")
    return bool(mark and mark.kwargs.get("last"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what the Kubernetes of this run does not do yet."""
    for mark in item.iter_markers("since"):
        if minor() < mark.args[0]:
            pytest.skip(f"Kubernetes is known to do this from 1.{mark.args[0]} on")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Selects the event loop that `serve` runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    # A build may take ten minutes, so its progress is shown. The permissions of the operator are rendered by helm.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        folder = programs(os.environ)
        helm(os.environ)

    with ControlPlane(folder, tmp_path_factory.mktemp("controlplane")) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """Creates a namespace for the test, and deletes what later tests would otherwise pay for, if there are any.

    The namespace stays. To delete it takes a hundred requests, two for each kind: half of all requests of the tests.
    """
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create("/api/v1/namespaces", {"metadata": {"name": name}})

    yield name

    if not comes_last(request.node):
        for kind in (DITTO_SERVERS, STATEFUL_SETS, PODS, CLAIMS):
            control_plane.delete_all(Selection(kind, name).path)


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> None:
    """Installs the CRD; a test that changes it has to restore it."""
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
    control_plane.wait_until_established("dittoservers.dittofs.dittofs.com")


@pytest.fixture
def log_lines() -> Iterator[list[dict[str, Any]]]:
    """Records all that the code logs in this process, with every field; caplog.text has none of the fields."""
    with record_lines(logging.DEBUG) as lines:
        yield lines


@pytest.fixture
def operated(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> Iterator[OperatorNamespace]:
    """Runs the operator in the namespace."""
    with OperatorNamespace(control_plane, namespace, tmp_path) as running:
        yield running


@pytest.fixture
def driver(control_plane: ControlPlane, namespace: str) -> Iterator[VolumeDriver]:
    """Runs a volume driver in the namespace."""
    with VolumeDriver(control_plane, namespace) as running:
        yield running


@pytest.fixture(scope="session")
def standin(pytestconfig: pytest.Config) -> Path:
    """Builds the stand-in for DittoFS and S3, and returns the folder of its programs."""
    # The first build takes a minute, so its progress is shown.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return STANDIN.built(os.environ)


@pytest.fixture
def s3(standin: Path, tmp_path: Path) -> Iterator[S3]:
    """Runs an S3 endpoint that accepts the key `first`."""
    with S3(standin, tmp_path / "s3", first="first-secret") as running:
        yield running
