"""Runs `doctor` as its users do, against a control plane of its own: it looks at the whole cluster."""

import base64
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from app.storage.operator_pods import POD_SELECTOR
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from certs.authority import Authority
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.free_ports import free_port
from tests.harness.kubelet import outward_address
from tests.harness.operator_process import Operator
from tests.harness.server_table import server
from tests.harness.wait import until
from tests.helm.build import helm
from tests.helm.chart import CRD, manifests

SYSTEM, ACCOUNT = "dittofs-system", "dittofs-operator"
WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
FAST = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "fast.example.com",
    "allowVolumeExpansion": True,
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Runs a control plane in which nothing is installed, until a test uses `installed`."""
    helm(os.environ)
    with ControlPlane(programs(os.environ), tmp_path_factory.mktemp("controlplane")) as running:
        yield running


@pytest.fixture(scope="module")
def installed(empty: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Installs the chart. The operator runs outside of the cluster, and reports its pods as ready in there."""
    health_port = free_port()
    rendered = manifests("dittofs-operator", SYSTEM, f"health.port={health_port}")
    apply(empty, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, FAST)
    apply(empty, *[manifest for manifest in rendered if "Webhook" not in manifest["kind"]])
    empty.wait_until_established(CRD)

    kubeconfig = empty.kubeconfig_for(ACCOUNT, SYSTEM)
    with Operator(tmp_path_factory.mktemp("operator"), "--kubeconfig", kubeconfig) as operator:
        operator.register(empty)
        until(lambda: empty.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{ACCOUNT}") is not None)
        report_pods_ready(empty)
        with metrics_of_pods(operator, health_port):
            yield operator


@contextmanager
def metrics_of_pods(operator: Operator, port: int) -> Iterator[None]:
    """Serves the operator's metrics where the API server looks for those of its pods."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = operator.health("/metrics").content
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Logs nothing: nobody would read it."""

    with ThreadingHTTPServer((outward_address(), port), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def report_pods_ready(control_plane: ControlPlane) -> None:
    """Reports as kubelets would; no node is needed for that."""
    selector = ("--namespace", SYSTEM, "--selector", POD_SELECTOR)

    def pods() -> list[str]:
        return control_plane.kubectl("get", "pods", *selector, "-o", "name").stdout.split()

    until(lambda: len(pods()) == 2)
    for pod in pods():
        ready = {"type": "Ready", "status": "True"}
        address = outward_address()
        status = {"phase": "Running", "conditions": [ready], "podIP": address, "podIPs": [{"ip": address}]}
        change = json.dumps({"status": status})
        control_plane.kubectl("patch", "-n", SYSTEM, pod, "--subresource=status", "--type=merge", "-p", change)

    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{ACCOUNT}"
    until(lambda: control_plane.get(path)["status"].get("availableReplicas") == 2)


def apply(control_plane: ControlPlane, *objects: Manifest) -> None:
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=yaml.safe_dump_all(objects))


class Diagnosis:
    """What doctor says, in JSON, and its exit code."""

    def __init__(self, kubeconfig: Path, *arguments: str) -> None:
        result = run("doctor", "--kubeconfig", str(kubeconfig), "--output", "json", *arguments)
        self.exit_code = result.returncode
        assert self.exit_code in (0, 1), result.stderr
        self.checks = json.loads(result.stdout)
        # A person should judge it, too: pytest -s shows it.
        print("\n".join(f"{check['result']:8} {check['check']}: {check['message']}" for check in self.checks))

    def results(self, name: str) -> list[str]:
        return [check["result"] for check in self.checks if check["check"] == name]

    def only(self, name: str, result: str) -> Any:
        """Returns the one check of this name with this result."""
        [check] = [check for check in self.checks if (check["check"], check["result"]) == (name, result)]
        return check


def test_nothing_is_installed_yet(empty: ControlPlane) -> None:
    diagnosis = Diagnosis(empty.kubeconfig)
    check = diagnosis.only("installation", "problem")

    assert diagnosis.exit_code == 1
    assert check["message"] == "nothing of the operator is installed"
    assert check["nextStep"]["command"] == "kubectl dittofs doctor --preflight"


def test_an_empty_cluster_is_ready(empty: ControlPlane) -> None:
    diagnosis = Diagnosis(empty.kubeconfig, "--preflight")

    assert diagnosis.exit_code == 0
    assert "is not installed yet, and the cluster is ready" in diagnosis.only("installation", "ok")["message"]
    assert diagnosis.results("permissions to install") == ["ok"]
    assert "there is no default StorageClass" in diagnosis.only("storage class", "warning")["message"]


def test_who_may_not_install_is_told(empty: ControlPlane) -> None:
    diagnosis = Diagnosis(account(empty, "installer"), "--preflight")

    assert diagnosis.exit_code == 1
    assert "create customresourcedefinitions" in diagnosis.only("permissions to install", "problem")["message"]
    assert "not for you to install it" in diagnosis.only("installation", "problem")["message"]


def account(control_plane: ControlPlane, name: str) -> Path:
    """Returns the kubeconfig of a ServiceAccount that may do nothing."""
    control_plane.kubectl("create", "serviceaccount", name)
    return control_plane.kubeconfig_for(name, "default")


def test_a_sound_installation_has_no_problem(installed: Operator, empty: ControlPlane) -> None:
    diagnosis = Diagnosis(empty.kubeconfig)

    assert diagnosis.exit_code == 0
    assert {check["check"] for check in diagnosis.checks if check["result"] != "ok"} == {"volume driver"}
    assert diagnosis.results("webhook configuration") == ["ok", "ok"]
    assert diagnosis.results("webhook CA") == ["ok", "ok"]
    assert diagnosis.results("webhook call") == ["ok", "ok"]
    assert "the certificates of 2 pods are valid until" in diagnosis.only("webhook certificate", "ok")["message"]
    assert diagnosis.results("operator permissions") == ["ok"]
    assert diagnosis.only("leader", "ok")["message"].endswith(" leads")
    assert "has 2 of 2 pods available" in diagnosis.only("operator", "ok")["message"]
    assert diagnosis.only(f"{KIND}s", "ok")["message"] == f"there are no {KIND}s in all namespaces"


def test_a_dry_run_leaves_nothing_behind(installed: Operator, empty: ControlPlane) -> None:
    Diagnosis(empty.kubeconfig)
    assert empty.kubectl("get", "dittoservers", "-A", "-o", "name").stdout == ""


def test_who_installs_again_is_told(installed: Operator, empty: ControlPlane) -> None:
    check = Diagnosis(empty.kubeconfig, "--preflight").only("installation", "warning")
    assert "is installed already: Deployment dittofs-system/dittofs-operator" in check["message"]


def test_a_driver_that_is_registered_is_named(installed: Operator, empty: ControlPlane) -> None:
    name = FAST["provisioner"]
    apply(empty, {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}})
    diagnosis = Diagnosis(empty.kubeconfig)
    empty.kubectl("delete", "csidriver", str(name))

    assert diagnosis.only("volume driver", "ok")["message"] == f"CSIDriver {name} is registered"


def test_a_bad_server_is_a_problem_with_remedy(installed: Operator, empty: ControlPlane) -> None:
    empty.kubectl("create", "namespace", "media")
    good, bad = server(), server(s3={"credentialsSecretRef": {"secretName": "absent"}})
    for name, manifest in (("good", good), ("bad", bad)):
        apply(empty, {**manifest, "metadata": {"name": name, "namespace": "media"}})
    path = "/apis/dittofs.dittofs.com/v1alpha1/namespaces/media/dittoservers/bad"
    until(lambda: "SecretNotFound" in json.dumps((empty.get(path) or {}).get("status")))

    diagnosis, of_one = Diagnosis(empty.kubeconfig), Diagnosis(empty.kubeconfig, "-n", "media", "good")
    empty.kubectl("delete", "namespace", "media", "--wait=false")

    assert diagnosis.exit_code == 1
    [check] = [check for check in diagnosis.checks if check["message"].startswith("SecretNotFound")]
    assert (check["check"], check["result"]) == ("server media/bad", "problem")
    assert "absent" in check["message"]
    assert check["nextStep"]["command"] == "kubectl -n media get secrets"
    assert set(diagnosis.results("server media/good")) == {"warning"}
    assert of_one.exit_code == 0
    assert of_one.results("server media/bad") == []


def test_who_may_do_nothing_learns_what_is_unknown(installed: Operator, empty: ControlPlane) -> None:
    diagnosis = Diagnosis(account(empty, "nobody"))

    assert diagnosis.exit_code == 0
    unknown = {check["check"] for check in diagnosis.checks if check["result"] == "unknown"}
    assert unknown == {
        "custom resource",
        f"{KIND}s",
        "operator",
        "storage class",
        "webhook call",
        "webhook configuration",
    }
    refused = [check["message"] for check in diagnosis.checks if check["check"] == "your permissions"]
    assert "you may not list pods: status and tree show no pods" in refused


def test_another_ca_is_told_apart(installed: Operator, empty: ControlPlane) -> None:
    other = base64.b64encode(Authority.create("other", datetime.now(UTC)).pem).decode()
    for kind in WEBHOOKS:
        change = json.dumps([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": other}])
        empty.kubectl("patch", kind, ACCOUNT, "--type=json", "-p", change)
    diagnosis = Diagnosis(empty.kubeconfig)
    installed.register(empty)

    assert diagnosis.exit_code == 1
    step = diagnosis.only("webhook call", "problem")["nextStep"]
    assert step["text"].startswith("No CA in the caBundle has signed the certificate")


def test_a_missing_webhook_is_a_problem(installed: Operator, empty: ControlPlane) -> None:
    for kind in WEBHOOKS:
        empty.kubectl("delete", kind, ACCOUNT)
    diagnosis = Diagnosis(empty.kubeconfig)
    installed.register(empty)

    assert diagnosis.results("webhook configuration") == ["problem", "problem"]
    assert "the webhook is not called" in diagnosis.only("webhook call", "problem")["message"]


def test_an_older_definition_is_a_problem(installed: Operator, empty: ControlPlane) -> None:
    crd = next(manifest for manifest in manifests("dittofs-operator", SYSTEM) if manifest["metadata"]["name"] == CRD)
    older = json.loads(json.dumps(crd))
    spec = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["shares"]
    rules = spec["x-kubernetes-validations"]
    spec["x-kubernetes-validations"] = [rule for rule in rules if "self.shares" not in rule["rule"]]

    apply(empty, older)
    diagnosis = Diagnosis(empty.kubeconfig)
    apply(empty, crd)

    check = diagnosis.only("custom resource", "problem")
    assert check["message"].endswith("lacks fields of this program's version 0.1.0: spec.shares")
    assert "dittofs-operator crd | kubectl apply" in check["nextStep"]["command"]


def test_an_operator_that_stopped_is_a_problem(installed: Operator, empty: ControlPlane) -> None:
    installed.stop()
    try:
        diagnosis = Diagnosis(empty.kubeconfig)
    finally:
        installed.start()

    assert diagnosis.exit_code == 1
    assert "connection refused" in diagnosis.only("webhook call", "problem")["message"]
    assert "nobody holds the Lease" in diagnosis.only("leader", "problem")["message"]


def test_a_role_that_is_missing_is_a_problem(installed: Operator, empty: ControlPlane) -> None:
    binding = next(item for item in manifests("dittofs-operator", SYSTEM) if item["kind"] == "ClusterRoleBinding")
    empty.kubectl("delete", "clusterrolebinding", binding["metadata"]["name"])
    diagnosis = Diagnosis(empty.kubeconfig)
    apply(empty, binding)

    check = diagnosis.only("operator permissions", "problem")
    assert f"system:serviceaccount:{SYSTEM}:{ACCOUNT} may not get secrets" in check["message"]


def test_the_text_is_for_people(installed: Operator, empty: ControlPlane) -> None:
    lines = run("doctor", "--kubeconfig", str(empty.kubeconfig)).stdout.splitlines()

    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert any(line.startswith("ok       leader: ") for line in lines)
    assert lines[-1].startswith("1 warning, ")


def test_an_api_server_that_is_silent_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps(config))
        result = run("doctor", "--kubeconfig", str(file))

    assert (result.returncode, result.stdout) == (2, "")
    assert "no answer from 127.0.0.1" in result.stderr


def test_a_preflight_looks_at_no_server() -> None:
    assert run("doctor", "--preflight", "files").returncode == 2
    assert run("doctor", "--selector", "a=b", "files").returncode == 2
