"""Tests, upgrades, uninstalls and reinstalls the chart while servers run."""

from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster
from tests.e2e.images import OPERATOR
from tests.e2e.installation import (
    NAME,
    NAMESPACE,
    REPLICAS,
    REPOSITORY,
    helm,
    patiently,
    ready_replicas,
    reinstall,
    uninstall,
    values,
)
from tests.e2e.servers import POD_SECONDS, kubectl_apply, read_greeting, server, wait_until_ready
from tests.harness.guides import named_block
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell
from tests.harness.wait import until
from tests.helm.chart import CHART, CRD, earlier, run_in

EARLIER = "earlier"
IN_VAIN = "The operator did not answer an admission review within 90 seconds"


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


def test_the_command_after_helm_is_answered(cluster: Cluster, operator: Namespace, user: Namespace) -> None:
    """Helm returns when admission answers, also without --wait. A webhook that cannot be called would refuse this."""
    uninstall(operator)
    helm(cluster, "install", NAME, CHART, *values())

    assert "not found" in kubectl_apply(user, server(s3={"credentialsSecretRef": {"secretName": "gone"}})).stderr


def test_a_missing_image_ends_the_installation(cluster: Cluster, operator: Namespace) -> None:
    uninstall(operator)
    options = values(**{"image.tag": "gone", "waitForAdmission.timeoutSeconds": "10"})
    install = run_in(cluster, "install", NAME, CHART, *options, "--namespace", NAMESPACE)
    reinstall(cluster)

    assert install.returncode != 0
    assert f"{NAME}-wait" in install.stderr
    assert ready_replicas(cluster) == REPLICAS


def test_a_wait_in_vain_tells_why(cluster: Cluster, operator: Namespace, shell: Shell) -> None:
    """The image is there, but the operator does not start. Each try takes as long as the webhooks have time."""
    uninstall(operator)
    options = values(**{"extraArgs[0]": "--no-such-option", "waitForAdmission.timeoutSeconds": "120"})
    install = run_in(cluster, "install", NAME, CHART, *options, "--namespace", NAMESPACE)
    log = shell.type(named_block(CHART / "README.md", "logs"))
    reinstall(cluster)

    assert install.returncode != 0
    assert IN_VAIN in install.stdout + install.stderr
    assert IN_VAIN in log


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
