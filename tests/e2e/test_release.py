"""Tests, upgrades, uninstalls and reinstalls the chart while servers run."""

from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster
from tests.e2e.images import OPERATOR
from tests.e2e.installation import NAME, NAMESPACE, REPLICAS, REPOSITORY, helm, patiently, values
from tests.e2e.servers import POD_SECONDS, kubectl_apply, read_greeting, server, wait_until_ready
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.chart import CHART, CRD, earlier

EARLIER = "earlier"


def uninstall(operator: Namespace) -> str:
    """Uninstalls the chart, waits until no pod of it is left, and returns what helm printed."""
    output = helm(operator.control_plane, "uninstall", NAME)
    until(lambda: operator.list_all("pods") == [], seconds=POD_SECONDS)
    return output


def running_state(user: Namespace) -> Any:
    """Returns what changes when the server restarts or is about to."""
    [status] = user.get("pod", "files-0")["status"]["containerStatuses"]
    return status["containerID"], status["ready"], user.template("files")


def uids(user: Namespace, *kinds: str) -> dict[str, str]:
    metadata = [manifest["metadata"] for kind in kinds for manifest in user.list_all(kind)]
    return {entry["name"]: entry["uid"] for entry in metadata}


def is_reached_at_nodes(user: Namespace) -> bool:
    return bool(user.get("service", "files-file")["spec"]["type"] == "NodePort")


def test_helm_test_succeeds_and_leaves_nothing_behind(cluster: Cluster) -> None:
    assert "Succeeded" in helm(cluster, "test", NAME)
    until(lambda: len(Namespace(cluster, NAMESPACE).list_all("pods")) == REPLICAS)


def test_an_upgrade_updates_the_definition_only(
    cluster: Cluster, operator: Namespace, user: Namespace, tmp_path: Path
) -> None:
    uninstall(operator)
    cluster.ctr("images", "tag", "--force", OPERATOR, f"{REPOSITORY}:{EARLIER}")
    old_values = values(**{"image.tag": EARLIER})
    helm(cluster, "install", NAME, earlier(tmp_path, lacking="service"), *old_values, *patiently())
    at_nodes = server(service={"type": "NodePort"})

    assert 'unknown field "spec.service"' in kubectl_apply(user, at_nodes).stderr

    user.apply(server())
    wait_until_ready(user)
    before = running_state(user)
    helm(cluster, "upgrade", NAME, CHART, *values(), *patiently())

    assert kubectl_apply(user, at_nodes).returncode == 0

    until(lambda: is_reached_at_nodes(user), seconds=POD_SECONDS)
    user.wait_until_observed("files")

    assert running_state(user) == before


def test_servers_outlive_the_operator_and_are_adopted(cluster: Cluster, operator: Namespace, user: Namespace) -> None:
    user.apply(server(), server("gone"))
    wait_until_ready(user)
    wait_until_ready(user, "gone")
    before, kept = running_state(user), uids(user, "pvc", "secrets", "statefulsets", "services")
    certificates = uids(operator, "secrets")[f"{NAME}-tls"]

    assert f"[CustomResourceDefinition] {CRD}" in uninstall(operator)

    # Changes are admitted without the webhook, since it is no longer registered.
    user.apply(server(service={"type": "NodePort"}))
    user.kubectl("delete", "dittoserver", "gone")
    until(lambda: user.get("pod", "gone-0") is None, seconds=POD_SECONDS)

    assert read_greeting(user.get("service", "files-file")["spec"]["clusterIP"], 2049).endswith(":12049")
    assert not is_reached_at_nodes(user)

    helm(cluster, "install", NAME, CHART, *values(), *patiently())
    until(lambda: is_reached_at_nodes(user), seconds=POD_SECONDS)
    user.wait_until_observed("files")

    assert running_state(user) == before
    assert uids(operator, "secrets")[f"{NAME}-tls"] == certificates

    left = uids(user, "pvc", "secrets", "statefulsets", "services")

    assert left.items() <= kept.items()
    assert all("gone" in name for name in kept.keys() - left.keys())
    assert {"metadata-gone-0", "cache-gone-0"} <= left.keys()
