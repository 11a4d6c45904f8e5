"""People install the operator in each way that the pages say. Each time there is nothing of it before."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.images import OPERATOR
from tests.e2e.installation import NAME, NAMESPACE, START_SECONDS, TAG, install
from tests.e2e.servers import server, wait_until_ready
from tests.harness.guides import GUIDES, ROOT, named_block, type_page
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell
from tests.helm.chart import CHART, CRD

INSTALL = GUIDES / "install.md"
README = CHART / "README.md"
CLUSTER_WIDE = "validatingwebhookconfiguration,mutatingwebhookconfiguration,clusterrole,clusterrolebinding"
MIRRORED = f"registry.example.com/dittofs-operator:{TAG}"
TENANTS = ("one", "two", "three")
NAMESPACES = (NAMESPACE, "storage-system", "archive-system")


def remove(cluster: Cluster) -> None:
    """Removes the operator, however it was installed, its namespaces and the definition."""
    cluster.kubectl("delete", CLUSTER_WIDE, "--selector", f"app.kubernetes.io/name={NAME}")
    cluster.kubectl("delete", "namespace", "--ignore-not-found", *NAMESPACES)
    cluster.kubectl("delete", "crd", "--ignore-not-found", CRD)


@pytest.fixture(scope="module")
def removed(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Returns how to remove the operator; after all tests it is installed as before."""
    yield partial(remove, cluster)
    remove(cluster)
    install(cluster)


def images(cluster: Cluster) -> set[str]:
    """Returns the images of the operator, once all of its pods are ready."""
    about = ("--namespace", NAMESPACE)
    cluster.kubectl("rollout", "status", "deployment", *about, f"--timeout={START_SECONDS}s")
    return set(cluster.kubectl("get", "deployment", *about, "-o", "jsonpath={..image}").stdout.split())


def test_the_operator_serves_a_cluster_from_outside(uninstalled: Namespace, user: Namespace, shell: Shell) -> None:
    """It comes first: the others remove what is installed."""
    page, home = GUIDES / "serve-outside-a-cluster.md", shell.folder.parent / "home"
    (home / ".kube").mkdir()
    (home / ".kube/config").write_bytes((shell.folder.parent / "kubeconfig").read_bytes())
    (shell.folder / ".venv").symlink_to(ROOT / ".venv")

    def serve() -> None:
        shell.type(named_block(page, "serve").strip() + " &")
        user.apply(server())
        wait_until_ready(user)

    type_page(page, shell, instead={"serve": serve})


def test_the_operator_is_installed_in_each_way(
    cluster: Cluster, removed: Callable[[], None], user: Namespace, shell: Shell
) -> None:
    removed()
    tenants = [Namespace(cluster, name) for name in TENANTS]
    for name in TENANTS:
        cluster.kubectl("create", "namespace", name)
    cluster.tag(OPERATOR, MIRRORED)

    def install_by_kubectl() -> None:
        removed()
        shell.type(named_block(INSTALL, "manifests"))

        assert images(cluster) == {OPERATOR}

    def install_for_some_namespaces() -> None:
        assert images(cluster) == {MIRRORED}

        removed()
        shell.type(named_block(INSTALL, "namespaces"))
        for namespace in (user, tenants[0]):
            namespace.apply(server())
        wait_until_ready(tenants[0])

        assert user.get("statefulset", "files") is None

    def install_twice() -> None:
        removed()
        shell.type(named_block(INSTALL, "twice"))
        for namespace in tenants:
            namespace.apply(server())
        for namespace in tenants:
            wait_until_ready(namespace)

    type_page(
        INSTALL,
        shell,
        instead={"manifests": install_by_kubectl, "namespaces": install_for_some_namespaces, "twice": install_twice},
    )
    cluster.kubectl("delete", "namespace", *TENANTS, "--wait=false")


def test_the_chart_is_installed_as_its_readme_says(cluster: Cluster, removed: Callable[[], None], shell: Shell) -> None:
    """What it says about a wait in vain is typed in test_release.py."""

    def install_on_the_network_of_the_nodes() -> None:
        removed()
        shell.type(named_block(README, "network"))

    removed()
    type_page(README, shell, instead={"logs": lambda: None, "network": install_on_the_network_of_the_nodes})

    hosts = cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "-o", "jsonpath={..hostNetwork}").stdout
    assert set(hosts.split()) == {"true"}
