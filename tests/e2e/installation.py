"""The operator in the cluster, installed as a user would: by helm, from the chart, with nothing to prepare."""

import json
import ssl
from pathlib import Path

from tests.controlplane.cluster import ControlPlane
from tests.e2e.images import OPERATOR
from tests.harness.operator_namespace import Namespace
from tests.helm.chart import CHART, output, run_in

NAMESPACE = "dittofs-system"
NAME = "dittofs-operator"
REPLICAS = 2
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
START_SECONDS = 180
REPOSITORY, TAG = OPERATOR.split(":")


def install(cluster: ControlPlane) -> None:
    """Returns when every replica is ready."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(namespace))
    helm(cluster, "install", NAME, CHART, *values(), *patiently())


def helm(cluster: ControlPlane, *args: str | Path) -> str:
    """What it prints; raises when it fails."""
    return output(run_in(cluster, *args, "--namespace", NAMESPACE))


def values(**others: str) -> list[str]:
    """Names the chart's own image, since an upgrade that sets nothing would keep what was set before."""
    given = {"image.repository": REPOSITORY, "image.tag": TAG} | others
    return [part for name, value in given.items() for part in ("--set", f"{name}={value}")]


def patiently() -> tuple[str, ...]:
    return ("--wait", f"--timeout={START_SECONDS}s")


def ready_replicas(cluster: ControlPlane) -> int:
    status = cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}")["status"]
    return int(status.get("readyReplicas", 0))


def served(operator: Namespace) -> list[str]:
    pods = [each for each in operator.list_all("pods") if "deletionTimestamp" not in each["metadata"]]
    return [ssl.get_server_certificate((each["status"]["podIP"], 9443)) for each in pods]


def bundle(cluster: ControlPlane, kind: str) -> str:
    return cluster.kubectl("get", kind, NAME, "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}").stdout
