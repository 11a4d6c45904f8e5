"""The chart in the course of time, with servers at work: tested, upgraded, uninstalled and installed again."""

from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster
from tests.e2e.images import OPERATOR
from tests.e2e.installation import NAME, NAMESPACE, REPLICAS, REPOSITORY, helm, patiently, values
from tests.e2e.servers import POD_SECONDS, applied, greeting, ready, server
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.chart import CHART, CRD, earlier

EARLIER = "earlier"


def uninstall(operator: Namespace) -> str:
    """Returns when nothing of it runs any more."""
    said = helm(operator.control_plane, "uninstall", NAME)
    until(lambda: operator.list_all("pods") == [], seconds=POD_SECONDS)
    return said


def at_work(user: Namespace) -> Any:
    """What is another one when the server was started again, or is about to be."""
    [status] = user.get("pod", "files-0")["status"]["containerStatuses"]
    return status["containerID"], status["ready"], user.template("files")


def uids(user: Namespace, *kinds: str) -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["uid"] for kind in kinds for each in user.list_all(kind)}


def is_reached_at_nodes(user: Namespace) -> bool:
    return bool(user.get("service", "files-file")["spec"]["type"] == "NodePort")


def test_helm_test_succeeds_and_leaves_nothing_behind(cluster: Cluster) -> None:
    assert "Succeeded" in helm(cluster, "test", NAME)
    until(lambda: len(Namespace(cluster, NAMESPACE).list_all("pods")) == REPLICAS)


def test_an_upgrade_brings_the_new_definition_and_restarts_no_server(
    cluster: Cluster, operator: Namespace, user: Namespace, tmp_path: Path
) -> None:
    uninstall(operator)
    cluster.ctr("images", "tag", "--force", OPERATOR, f"{REPOSITORY}:{EARLIER}")
    former = values(**{"image.tag": EARLIER})
    helm(cluster, "install", NAME, earlier(tmp_path, lacking="service"), *former, *patiently())
    at_nodes = server(service={"type": "NodePort"})

    assert 'unknown field "spec.service"' in applied(user, at_nodes).stderr

    user.apply(server())
    ready(user)
    before = at_work(user)
    helm(cluster, "upgrade", NAME, CHART, *values(), *patiently())

    assert applied(user, at_nodes).returncode == 0

    until(lambda: is_reached_at_nodes(user), seconds=POD_SECONDS)
    user.wait_until_observed("files")

    assert at_work(user) == before


def test_servers_run_on_without_the_operator_and_are_taken_up_by_the_next(
    cluster: Cluster, operator: Namespace, user: Namespace
) -> None:
    user.apply(server(), server("gone"))
    ready(user)
    ready(user, "gone")
    before, kept = at_work(user), uids(user, "pvc", "secrets", "statefulsets", "services")
    certificates = uids(operator, "secrets")[f"{NAME}-tls"]

    assert f"[CustomResourceDefinition] {CRD}" in uninstall(operator)

    # Nobody judges them, and nobody is missed for it.
    user.apply(server(service={"type": "NodePort"}))
    user.kubectl("delete", "dittoserver", "gone")
    until(lambda: user.get("pod", "gone-0") is None, seconds=POD_SECONDS)

    assert greeting(user.get("service", "files-file")["spec"]["clusterIP"], 2049).endswith(":12049")
    assert not is_reached_at_nodes(user)

    helm(cluster, "install", NAME, CHART, *values(), *patiently())
    until(lambda: is_reached_at_nodes(user), seconds=POD_SECONDS)
    user.wait_until_observed("files")

    assert at_work(user) == before
    assert uids(operator, "secrets")[f"{NAME}-tls"] == certificates

    left = uids(user, "pvc", "secrets", "statefulsets", "services")

    assert left.items() <= kept.items()
    assert all("gone" in name for name in kept.keys() - left.keys())
    assert {"metadata-gone-0", "cache-gone-0"} <= left.keys()
