import json
import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e import machine
from tests.e2e.build import programs
from tests.e2e.cluster import Cluster
from tests.e2e.explanation import explain_failures
from tests.e2e.images import SAMPLED, Builder, demand_tools
from tests.e2e.installation import NAMESPACE, install, reinstall, uninstall
from tests.e2e.releases import Releases
from tests.e2e.stranger import open_shell
from tests.e2e.tenants import RESTRICTED
from tests.e2e.volumes import Volumes
from tests.harness.go_module import cache
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell


@pytest.hookimpl(wrapper=True, trylast=True)  # So that its output belongs to the test.
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    cluster = item.funcargs.get("cluster")
    if cluster is None:
        return (yield)

    assert isinstance(cluster, Cluster)
    with explain_failures(cluster):
        return (yield)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Runs a cluster with the operator installed and with volumes for claims."""
    with machine.claim():
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            demand_tools()
            built = programs(os.environ)
            archives = Builder(cache(os.environ) / "images").archives(built.standin, tmp_path_factory.mktemp("images"))

        with Cluster(built, tmp_path_factory.mktemp("cluster")) as running, Volumes(running):
            for archive in archives:
                running.load(archive)
            for name, image in SAMPLED.items():
                running.tag(image, name)
            with explain_failures(running):
                install(running)
            yield running

        assert not machine.containers()


@pytest.fixture(scope="session", autouse=True)
def releases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases | None]:
    """Builds two releases beside the tests, once the images of the cluster are built, if a test asks for one."""
    if not any("release" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function)):
        yield None
        return

    request.getfixturevalue("cluster")
    with Releases(tmp_path_factory.mktemp("releases")) as building:
        yield building


@pytest.fixture
def user(cluster: Cluster) -> Iterator[Namespace]:
    """Creates a namespace for a user, which enforces the restricted Pod Security profile."""
    name = f"user-{secrets.token_hex(4)}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(namespace))
    yield Namespace(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def shell(user: Namespace, tmp_path: Path) -> Iterator[Shell]:
    """Opens the shell of somebody who types what a page says, in the namespace of `user`."""
    with open_shell(user, tmp_path) as running:
        yield running


@pytest.fixture
def uninstalled(operator: Namespace) -> Namespace:
    """Has the operator's namespace without the operator; afterwards it is installed as before."""
    uninstall(operator)
    return operator


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[Namespace]:
    """Reinstalls the operator after the test, whatever the test does to it."""
    yield Namespace(cluster, NAMESPACE)
    reinstall(cluster)
