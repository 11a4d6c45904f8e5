"""Installs, tests, upgrades and uninstalls the chart in a real cluster without nodes, where pods stay Pending."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.unstructured import Manifest
from manifests.__main__ import INSTALL, NAMESPACE, ROOT
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_process import Operator
from tests.harness.server_table import server
from tests.harness.wait import until
from tests.helm.chart import CHART, CRD, IMAGE, earlier, fields_of, loaded, output, run_in, template, umbrella

RELEASE = "dittofs-operator"
# What `helm test` runs, and what the hook of install and upgrade does.
TEST, WAIT = "templates/tests/review.yaml", "templates/wait.yaml"
OF_THE_RELEASE = f"app.kubernetes.io/instance={RELEASE}"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
IN_NAMESPACES = "jobs,deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets"
OF_NO_RELEASE = "pods,persistentvolumeclaims,secrets,leases"
WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
IN_THE_CLUSTER = ",".join(("clusterroles", "clusterrolebindings", *WEBHOOKS))
BUNDLE = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="
BUDGET = "poddisruptionbudget.policy"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "cache-files-0", "labels": {"app": "dittofs-server", "instance": "files"}},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
}


# How it is uninstalled without helm.
UNINSTALL_GUIDE = ROOT / "docs/how-to/upgrade-and-uninstall.md"
UNINSTALL_SECTION = UNINSTALL_GUIDE.read_text().partition("\n## Uninstall with kubectl\n")[2].partition("\n## ")[0]
UNINSTALL_COMMANDS = re.findall(r"^kubectl (delete .+)$", UNINSTALL_SECTION, re.MULTILINE)


@dataclass(frozen=True)
class Installation:
    """A cluster and the namespace of the release, as helm and kubectl see them."""

    cluster: ControlPlane

    def helm(self, *args: str | Path) -> str:
        """Runs helm without its hooks: no operator runs here that would answer."""
        return output(self.try_helm(*args))

    def try_helm(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return run_in(self.cluster, *args, "--namespace", NAMESPACE, "--no-hooks")

    def kubectl(self, *args: str, **options: Any) -> str:
        return self.cluster.kubectl("--namespace", NAMESPACE, *args, **options).stdout

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(manifests))

    def names(self, kinds: str, *selector: str) -> list[str]:
        return sorted(self.kubectl("get", kinds, "-o", "name", *selector).split())

    def get(self, kind: str, name: str) -> Any:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def items(self, kinds: str) -> list[Any]:
        items: list[Any] = json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]
        return items

    def pods(self) -> list[Any]:
        return self.items("pods")

    def refusals(self) -> list[str]:
        """Returns why pods could not be created; those of an earlier test may be reported late."""
        live = {item["metadata"]["uid"] for item in self.items("replicasets")}
        failures = [event for event in self.items("events") if event["reason"] == "FailedCreate"]
        return [event["message"] for event in failures if event["involvedObject"]["uid"] in live]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Runs a cluster of its own, because a CustomResourceDefinition belongs to one release."""
    with ControlPlane(programs(os.environ), tmp_path_factory.mktemp("release")) as running:
        yield running


@pytest.fixture
def site(cluster: ControlPlane) -> Iterator[Installation]:
    """Provides the namespace of the release, which admits restricted pods only, and empties it afterwards."""
    site = Installation(cluster)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": RESTRICTED}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(namespace))

    yield site

    cluster.kubectl("delete", IN_THE_CLUSTER, "-l", OF_THE_RELEASE)
    # To delete a namespace takes five seconds at least, and so does a CustomResourceDefinition that has servers.
    if site.names("crd"):
        site.kubectl("delete", "dittoservers", "--all")
    site.kubectl("delete", "crd", CRD, "--ignore-not-found")
    site.kubectl("delete", IN_NAMESPACES, "-l", OF_THE_RELEASE)
    site.kubectl("delete", OF_NO_RELEASE, "--all")
    until(lambda: site.names("replicasets,pods") == [])


@pytest.fixture
def used(site: Installation, tmp_path: Path) -> Installation:
    """Installs an earlier chart, without webhooks and with one field fewer in its CRD, and a server with its claim."""
    previous = earlier(tmp_path, lacking="image")
    for file in previous.glob("files/*webhook.yaml"):
        file.unlink()

    site.helm("install", RELEASE, previous)
    site.cluster.wait_until_established(CRD)
    site.apply(without_image(server()), CLAIM)
    return site


def without_image(manifest: Manifest) -> Manifest:
    """Returns a DittoServer with the default image, as those of the earlier chart have it."""
    return {**manifest, "spec": {name: value for name, value in manifest["spec"].items() if name != "image"}}


def test_its_pods_are_restricted(site: Installation) -> None:
    notes = site.helm("install", RELEASE, CHART)

    assert "helm test --namespace dittofs-system dittofs-operator" in notes
    assert f"kind load docker-image {IMAGE}" in notes

    until(lambda: len(site.pods()) == 2)

    assert {pod["status"]["phase"] for pod in site.pods()} == {"Pending"}
    assert not site.refusals()

    # The pods of `helm test` and of the hook are admitted as well.
    [pod] = [manifest for manifest in hooks() if manifest["kind"] == "Pod"]
    [job] = [manifest for manifest in hooks(WAIT) if manifest["kind"] == "Job"]
    waiting = {**pod, "spec": job["spec"]["template"]["spec"]}
    site.apply(*(manifest for manifest in hooks(WAIT) if manifest["kind"] == "ServiceAccount"))
    for manifest in (without_account(pod), waiting):
        site.kubectl("apply", "--dry-run=server", "-f", "-", input=json.dumps(manifest))


def test_an_unrestricted_pod_is_refused(site: Installation) -> None:
    site.helm("install", RELEASE, CHART, "--set", "securityContext.allowPrivilegeEscalation=true")
    until(lambda: bool(site.refusals()))
    assert 'violates PodSecurity "restricted' in site.refusals()[0]


def hooks(file: str = TEST) -> list[Manifest]:
    return loaded(template(RELEASE, NAMESPACE, "--show-only", file))


def without_account(manifest: Manifest) -> Manifest:
    """Returns a Pod with the default ServiceAccount: its own exists only while `helm test` runs."""
    if manifest["kind"] != "Pod":
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "serviceAccountName": "default"}}


def test_the_api_server_accepts_every_value(site: Installation) -> None:
    site.helm("install", RELEASE, CHART)
    site.cluster.kubectl("apply", "-f", "-", input="".join(map(namespace_called, ("one", "two"))))
    shown = {"crds.enabled": "true", "rbac.create": "true", "rbac.aggregate": "true", "serviceAccount.create": "true"}
    shown |= {"podDisruptionBudget.enabled": "true", "namespaceOverride": ""}
    options = [part for name, value in shown.items() for part in ("--set", f"{name}={value}")]
    values = str(Path(__file__).with_name("values.yaml"))

    rendered = loaded(template("full", NAMESPACE, "--values", values, *options))
    # Other operators install these kinds.
    of_others = ("cert-manager.io", "monitoring.coreos.com")
    known = [without_account(manifest) for manifest in rendered if not manifest["apiVersion"].startswith(of_others)]

    assert len(rendered) - len(known) == 5

    dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    site.cluster.kubectl(*dry, input=yaml.safe_dump_all(known))


def namespace_called(name: str) -> str:
    return f"---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n"


@pytest.mark.parametrize("flags", [(), ("--reuse-values",)])
def test_an_upgrade_updates_the_definition_and_keeps_servers(used: Installation, flags: tuple[str, ...]) -> None:
    before = used.get("dittoserver", "files")

    assert "image" not in before["spec"]

    used.helm("upgrade", RELEASE, CHART, *flags)

    assert used.get("deployment", RELEASE)["metadata"]["labels"]["helm.sh/chart"] == f"{RELEASE}-0.1.0"
    assert "image" in fields_of(used.get("crd", CRD))

    after = used.get("dittoserver", "files")

    assert (after["metadata"]["uid"], after["spec"]["image"]) == (before["metadata"]["uid"], "marmos91c/dittofs:latest")


def test_an_upgrade_leaves_a_foreign_definition_alone(site: Installation) -> None:
    site.cluster.kubectl("apply", "-f", str(CHART / "files/crd.yaml"))

    assert "invalid ownership metadata" in site.try_helm("install", RELEASE, CHART).stderr

    site.helm("install", RELEASE, CHART, "--set", "crds.enabled=false")
    site.helm("upgrade", RELEASE, CHART, "--set", "crds.enabled=false")

    assert "helm.sh/chart" not in site.get("crd", CRD)["metadata"].get("labels", {})


@pytest.mark.parametrize("server_side", ["true", "false"])
def test_an_upgrade_keeps_the_published_ca(site: Installation, server_side: str) -> None:
    """It does so with the three-way merge of Helm 3 as well."""
    by = f"--server-side={server_side}"
    site.helm("install", RELEASE, CHART, by)
    publish(site)

    site.helm("upgrade", RELEASE, CHART, by, "--set", "replicas=3", "--set", "commonLabels.changed=yes")

    assert site.get("deployment", RELEASE)["spec"]["replicas"] == 3
    assert published(site) == [BUNDLE, BUNDLE]


def publish(site: Installation) -> None:
    """Sets the caBundles as the operator does, which owns only this field."""
    for kind in WEBHOOKS:
        live = site.get(kind, RELEASE)
        webhooks = [{"name": hook["name"], "clientConfig": {"caBundle": BUNDLE}} for hook in live["webhooks"]]
        manifest = {**{name: live[name] for name in ("apiVersion", "kind")}, "metadata": {"name": RELEASE}}
        apply = ("apply", "--server-side", "--field-manager=dittofs-operator", "-f", "-", "--validate=false")
        site.kubectl(*apply, input=json.dumps({**manifest, "webhooks": webhooks}))


def published(site: Installation) -> list[str]:
    webhooks = [webhook for kind in WEBHOOKS for webhook in site.get(kind, RELEASE)["webhooks"]]
    return [webhook["clientConfig"]["caBundle"] for webhook in webhooks]


def test_servers_and_claims_outlive_the_chart(used: Installation) -> None:
    used.helm("upgrade", RELEASE, CHART)
    before = uids(used)

    assert f"[CustomResourceDefinition] {CRD}" in used.helm("uninstall", RELEASE)
    assert used.names(f"{IN_NAMESPACES},{IN_THE_CLUSTER}", "-l", OF_THE_RELEASE) == []
    assert not used.get("crd", CRD)["metadata"].get("deletionTimestamp")

    # No webhook is left behind that nobody answers.
    used.apply(server("another"))
    used.helm("install", RELEASE, CHART)

    assert uids(used) == before


def uids(site: Installation) -> list[str]:
    server, claim = site.get("dittoserver", "files"), site.get("pvc", "cache-files-0")
    return [server["metadata"]["uid"], claim["metadata"]["uid"]]


def test_the_definition_is_uninstalled_on_request(site: Installation) -> None:
    site.helm("install", RELEASE, CHART, "--set", "crds.keep=false")
    site.helm("uninstall", RELEASE)
    # helm does not wait until the API server has deleted the servers.
    until(lambda: site.names("crd") == [])


def test_kubectl_installs_it_and_a_repeat_changes_nothing(site: Installation) -> None:
    site.kubectl("apply", "-f", str(INSTALL))
    until(lambda: len(site.pods()) == 2)

    assert not site.refusals()

    publish(site)
    again = site.kubectl("apply", "-f", str(INSTALL)).splitlines()

    # kubectl always reports that it configured a PodDisruptionBudget.
    assert [line for line in again if not line.endswith("unchanged")] == [f"{BUDGET}/{RELEASE} configured"]
    assert site.get(BUDGET, RELEASE)["metadata"]["generation"] == 1
    assert published(site) == [BUNDLE, BUNDLE]

    for command in UNINSTALL_COMMANDS:
        site.cluster.kubectl(*command.split())

    assert site.names(IN_THE_CLUSTER, "-l", OF_THE_RELEASE) == []
    assert not site.get("crd", CRD)["metadata"].get("deletionTimestamp")


# As a part of a platform.


def test_an_umbrella_chart_installs_it_twice(site: Installation, tmp_path: Path) -> None:
    """The two have different names and namespaces, and share no Lease, since each has one replica and needs none."""
    values = {
        alias: {"enabled": True, "namespaces": [namespace], "replicas": 1, "leaderElect": False}
        for alias, namespace in (("storage", "one"), ("archive", "two"))
    }
    values["archive"]["crds"] = {"enabled": False}
    parent = umbrella(tmp_path, *({"alias": alias, "condition": f"{alias}.enabled"} for alias in values), values=values)
    site.cluster.kubectl("apply", "-f", "-", input="".join(map(namespace_called, ("one", "two"))))

    site.helm("install", RELEASE, parent)
    until(lambda: len(site.pods()) == 2)
    both = deployments(site)

    site.helm("upgrade", RELEASE, parent, "--set", "archive.commonLabels.changed=yes")
    again = deployments(site)
    site.helm("upgrade", RELEASE, parent, "--set", "archive.enabled=false")
    one = deployments(site)
    uninstalled = site.helm("uninstall", RELEASE)

    assert both == again == [f"{RELEASE}-archive", f"{RELEASE}-storage"]
    assert one == [f"{RELEASE}-storage"]
    assert f"[CustomResourceDefinition] {CRD}" in uninstalled
    assert site.names(f"{IN_NAMESPACES},{IN_THE_CLUSTER}", "-l", OF_THE_RELEASE) == []


def test_two_releases_coexist(site: Installation) -> None:
    """The second one is installed, upgraded and uninstalled, and nothing of the first one changes by that."""
    site.cluster.kubectl("apply", "-f", "-", input="".join(map(namespace_called, ("one", "two", "archive-system"))))
    second = ("--namespace", "archive-system", "--set", "crds.enabled=false,namespaces={two}", "--no-hooks")

    site.helm("install", RELEASE, CHART, "--set", "namespaces={one}")
    until(lambda: len(site.pods()) == 2)
    before = of_the_first_release(site)
    output(run_in(site.cluster, "install", "archive", CHART, *second))
    selected = {kind: webhook_namespaces(site, kind) for kind in WEBHOOKS}
    output(run_in(site.cluster, "upgrade", "archive", CHART, *second, "--set", "replicas=1"))
    output(run_in(site.cluster, "uninstall", "archive", "--namespace", "archive-system"))

    # Both are registered, each with its own Service and for its own namespaces.
    services = {(RELEASE, NAMESPACE): ["one"], ("archive-dittofs-operator", "archive-system"): ["two"]}
    assert [selected[kind] for kind in WEBHOOKS] == [services, services]
    assert of_the_first_release(site) == before
    assert site.names(IN_THE_CLUSTER, "-l", "app.kubernetes.io/instance=archive") == []


def of_the_first_release(site: Installation) -> dict[str, str]:
    """Returns the uid and the generation of each of its objects, and of the CustomResourceDefinition."""
    kinds = f"{IN_NAMESPACES},{IN_THE_CLUSTER}"
    live = json.loads(site.kubectl("get", kinds, "-l", OF_THE_RELEASE, "-o", "json"))["items"]
    metadata = {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"] for item in [*live, site.get("crd", CRD)]
    }
    return {name: f"{entry['uid']} {entry.get('generation')}" for name, entry in metadata.items()}


def webhook_namespaces(site: Installation, kind: str) -> dict[tuple[str, str], list[str]]:
    """Returns the namespaces for which each webhook is called, by the name and the namespace of its Service."""
    webhooks = [webhook for item in site.items(kind) for webhook in item["webhooks"]]
    return {
        (webhook["clientConfig"]["service"]["name"], webhook["clientConfig"]["service"]["namespace"]): webhook[
            "namespaceSelector"
        ]["matchExpressions"][0]["values"]
        for webhook in webhooks
    }


def deployments(site: Installation) -> list[str]:
    return [name.rpartition("/")[2] for name in site.names("deployments")]


@pytest.mark.parametrize("server_side", ["true", "false"])
def test_labels_of_the_chart_survive_common_ones(site: Installation, server_side: str) -> None:
    by = f"--server-side={server_side}"
    colliding = {"app.kubernetes.io/name": "theirs", "app.kubernetes.io/instance": "theirs", "team": "storage"}
    labels = {**colliding, "app.kubernetes.io/managed-by": "theirs", "helm.sh/chart": "theirs"}
    common = ("--set-json", f"commonLabels={json.dumps(labels)}", "--set-json", f"podLabels={json.dumps(labels)}")

    site.helm("install", RELEASE, CHART, by)
    selector = site.get("deployment", RELEASE)["spec"]["selector"]
    site.helm("upgrade", RELEASE, CHART, by, *common)
    upgraded = site.get("deployment", RELEASE)
    site.helm("uninstall", RELEASE)
    site.helm("install", RELEASE, CHART, by, *common)
    installed = site.get("deployment", RELEASE)

    for live in (upgraded, installed):
        assert live["spec"]["selector"] == selector
        assert live["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert live["spec"]["template"]["metadata"]["labels"]["team"] == "storage"

    selected = ",".join(f"{key}={value}" for key, value in site.get("service", RELEASE)["spec"]["selector"].items())
    until(lambda: len(site.names("pods", "-l", selected)) == 2)


@pytest.mark.parametrize("server_side", ["true", "false"])
def test_leader_election_can_be_turned_off_and_on(site: Installation, server_side: str) -> None:
    by = f"--server-side={server_side}"
    site.helm("install", RELEASE, CHART, by)
    site.helm("upgrade", RELEASE, CHART, by, "--set", "leaderElect=false,replicas=1")
    off = site.get("deployment", RELEASE)["spec"]["strategy"]
    site.helm("upgrade", RELEASE, CHART, by, "--set", "leaderElect=true")
    on = site.get("deployment", RELEASE)["spec"]["strategy"]

    assert off == {"type": "Recreate"}
    assert on == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_helm_test_notices_unregistered_webhooks(site: Installation, tmp_path: Path) -> None:
    cluster = site.cluster
    prepare_reviews(site, TEST)
    with Operator(tmp_path, "--kubeconfig", cluster.kubeconfig, "--no-reconcile") as operator:
        unasked = helm_test(site, tmp_path)
        operator.register(cluster)
        asked = helm_test(site, tmp_path)
    refused = helm_test(site, tmp_path)
    cluster.kubectl("delete", ",".join(WEBHOOKS), RELEASE)

    assert unasked.returncode == 1
    assert "the operator was not asked" in unasked.stderr
    assert (asked.returncode, asked.stderr) == (0, "")
    assert 'S3 credentials Secret "helm-test-has-no-such-secret" not found' in asked.stdout.replace("\\", "")
    assert refused.returncode == 1
    assert "failed calling webhook" in refused.stderr


def prepare_reviews(site: Installation, file: str) -> None:
    """Creates what the pod of the hooks in this file needs."""
    site.cluster.kubectl("apply", "-f", str(CHART / "files/crd.yaml"))
    site.cluster.wait_until_established(CRD)
    site.apply(*(manifest for manifest in hooks(file) if manifest["kind"] not in ("Pod", "Job")))


def helm_test(site: Installation, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command of the test pod with the pod's account."""
    [pod] = [manifest for manifest in hooks() if manifest["kind"] == "Pod"]
    command, environ = as_a_process(site, pod["spec"], folder)
    return subprocess.run(command, env=environ, check=False, capture_output=True, text=True)


def as_a_process(site: Installation, pod: Manifest, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Returns the command of a pod of helm, which finds its account in the folder, and the environment."""
    [container] = pod["containers"]
    [option] = container["command"][1:]
    script, _mounted, namespace, seconds = container["args"]
    token = site.kubectl("create", "token", pod["serviceAccountName"])

    # A folder below, because the operator has another ca.crt in this one.
    account = folder / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text(token)
    shutil.copy(site.cluster.ca_file, account / "ca.crt")

    _, address, port = site.cluster.url.replace("//", "").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": port}
    return [sys.executable, option, script, str(account), namespace, seconds], environ


# The hook that waits until admission answers.


def test_helm_waits_until_admission_answers(site: Installation, tmp_path: Path) -> None:
    """It goes on waiting while the CustomResourceDefinition, the registration and the operator are missing."""
    cluster = site.cluster
    site.apply(*(manifest for manifest in hooks(WAIT) if manifest["kind"] != "Job"))
    command, environ = as_a_process(site, waiting_pod(), tmp_path)

    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hook:
        assert hook.stdout
        undefined = next(hook.stdout)
        cluster.kubectl("apply", "-f", str(CHART / "files/crd.yaml"))
        unasked = next(line for line in hook.stdout if "the operator was not asked about it" in line)
        with Operator(tmp_path, "--kubeconfig", cluster.kubeconfig, "--no-reconcile") as operator:
            operator.register(cluster)
            answered, error = hook.communicate(timeout=60)
    cluster.kubectl("delete", ",".join(WEBHOOKS), RELEASE)

    assert undefined.startswith("Waiting for the operator to answer. The API server refused: ")
    assert unasked.startswith("Waiting for the operator to answer. The DittoServer was admitted, but ")
    assert (hook.returncode, error) == (0, "")
    assert "helm-test-has-no-such-secret" in answered
    # All of them were dry runs.
    assert site.names("dittoservers") == []


def waiting_pod() -> Manifest:
    [job] = [manifest for manifest in hooks(WAIT) if manifest["kind"] == "Job"]
    return dict(job["spec"]["template"]["spec"])


@pytest.mark.parametrize(
    ("registered", "reason"),
    [
        (False, "The DittoServer was admitted, but the operator was not asked about it."),
        (True, "failed calling webhook"),
    ],
)
def test_the_wait_ends_and_says_why(site: Installation, tmp_path: Path, registered: bool, reason: str) -> None:
    prepare_reviews(site, WAIT)
    if registered:
        site.apply(*loaded(template(RELEASE, NAMESPACE, "--show-only", "templates/webhooks.yaml")))
    [*command, _seconds], environ = as_a_process(site, waiting_pod(), tmp_path)

    hook = subprocess.run([*command, "1"], env=environ, check=False, capture_output=True, text=True, timeout=60)

    assert hook.returncode == 1
    assert hook.stderr.startswith("The operator did not answer an admission review within 1 seconds. ")
    assert reason in hook.stderr


def test_an_api_server_that_is_gone_ends_the_wait(site: Installation, tmp_path: Path) -> None:
    site.apply(*(manifest for manifest in hooks(WAIT) if manifest["kind"] != "Job"))
    [*command, _seconds], environ = as_a_process(site, waiting_pod(), tmp_path)
    (tmp_path / "account/ca.crt").unlink()

    hook = subprocess.run([*command, "1"], env=environ, check=False, capture_output=True, text=True, timeout=60)

    assert hook.returncode == 1
    assert "The API server cannot be asked: FileNotFoundError" in hook.stderr


def test_helm_fails_when_the_wait_does(site: Installation) -> None:
    """There is no node here, so that the pod of the Job never starts."""
    options = ("--namespace", NAMESPACE, "--set", "waitForAdmission.timeoutSeconds=1")
    install = run_in(site.cluster, "install", RELEASE, CHART, *options)

    assert install.returncode != 0
    assert "failed post-install" in install.stderr
    assert f"{RELEASE}-wait" in install.stderr

    # The release is there, and can be upgraded as soon as there is an operator; the account of the hook is gone.
    assert site.names("deployments") == [f"deployment.apps/{RELEASE}"]
    assert site.names("serviceaccounts,roles", "-l", "app.kubernetes.io/component=wait") == []
    site.helm("uninstall", RELEASE)
