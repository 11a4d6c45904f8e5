"""Installs the operator as a user does: with helm, from the chart, without any preparation."""

import json
import ssl
from pathlib import Path

from tests.controlplane.cluster import ControlPlane
from tests.e2e.images import OPERATOR
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.chart import CHART, output, run_in

NAMESPACE = "dittofs-system"
NAME = "dittofs-operator"
REPLICAS = 2
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
START_SECONDS = 180
STOP_SECONDS = 90.0
REPOSITORY, TAG = OPERATOR.split(":")


def install(cluster: ControlPlane) -> None:
    """Installs the operator and waits until every replica is ready."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(namespace))
    helm(cluster, "install", NAME, CHART, *values(), *patiently())


def reinstall(cluster: ControlPlane) -> None:
    """Installs the operator again, or brings it back to what it was, whatever has become of it."""
    helm(cluster, "upgrade", "--install", NAME, CHART, *values(), *patiently())


def uninstall(operator: Namespace) -> str:
    """Uninstalls the chart, waits until no pod of it is left, and returns what helm printed."""
    printed = helm(operator.control_plane, "uninstall", NAME)
    until(lambda: operator.list_all("pods") == [], seconds=STOP_SECONDS)
    return printed


def helm(cluster: ControlPlane, *args: str | Path) -> str:
    """Returns what helm prints; raises when it fails. The pod that waited for admission is gone afterwards."""
    printed = output(run_in(cluster, *args, "--namespace", NAMESPACE))
    until(lambda: waiting_pods(cluster) == "")
    return printed


def waiting_pods(cluster: ControlPlane) -> str:
    """Returns the names of the hook's pods. Helm deletes their Job, and Kubernetes the pods some time later."""
    selector = ("-l", "app.kubernetes.io/component=wait")
    return cluster.kubectl("get", "pods", "--namespace", NAMESPACE, *selector, "-o", "name").stdout


def values(**others: str) -> list[str]:
    """Returns options that set the default image: an upgrade without them would keep what was set before."""
    settings = {"image.repository": REPOSITORY, "image.tag": TAG} | others
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def patiently() -> tuple[str, ...]:
    return ("--wait", f"--timeout={START_SECONDS}s")


def ready_replicas(cluster: ControlPlane) -> int:
    status = cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}")["status"]
    return int(status.get("readyReplicas", 0))


def served(operator: Namespace) -> list[str]:
    """Returns the certificates that the replicas serve."""
    pods = [pod for pod in operator.list_all("pods") if "deletionTimestamp" not in pod["metadata"]]
    return [ssl.get_server_certificate((pod["status"]["podIP"], 9443)) for pod in pods]


def bundle(cluster: ControlPlane, kind: str) -> str:
    return cluster.kubectl("get", kind, NAME, "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}").stdout
