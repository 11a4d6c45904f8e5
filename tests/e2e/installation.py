"""The operator in the cluster: the one place that knows how it is installed."""

import base64
import subprocess
import sys
from pathlib import Path

import yaml

from app.admission.registration import webhook_configurations
from app.storage.crd import custom_resource_definition
from tests.e2e.cluster import Cluster
from tests.wait import until

NAMESPACE = "dittofs-system"
NAME = "dittofs-operator"
REPLICAS = "2"
START_SECONDS = 120.0
MANIFEST = Path(__file__).with_name("operator.yaml")


def install(cluster: Cluster) -> None:
    """Returns when every replica is ready."""
    folder = cluster.folder / "certificates"
    host = f"--host={NAME}.{NAMESPACE}.svc"
    subprocess.run([sys.executable, "-m", "certs", "--out", folder, host], check=True, capture_output=True)
    cluster.kubectl("apply", "-f", str(MANIFEST))
    pair = (f"--cert={folder / 'tls.crt'}", f"--key={folder / 'tls.key'}")
    cluster.kubectl("create", "secret", "tls", f"{NAME}-tls", f"--namespace={NAMESPACE}", *pair)
    bundle = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    service = {"name": NAME, "namespace": NAMESPACE}
    webhooks = webhook_configurations(lambda path: {"service": service | {"path": path}, "caBundle": bundle})
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([custom_resource_definition(), *webhooks]))
    until(lambda: _ready_replicas(cluster) == REPLICAS, seconds=START_SECONDS)


def _ready_replicas(cluster: Cluster) -> str:
    wanted = ("-o", "jsonpath={.status.readyReplicas}")
    return cluster.kubectl("get", "deployment", NAME, f"--namespace={NAMESPACE}", *wanted).stdout
