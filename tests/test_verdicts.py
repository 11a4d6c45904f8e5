"""One table of servers, one verdict: of the CRD alone, of the webhook on live facts and on a snapshot, and of check.

Likewise a table of changes, and one of servers whose claims exist already, of which plan has a verdict, too.
"""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Harm, Proxy
from tests.harness.operator_process import Operator
from tests.harness.server_table import (
    ABOUT_REFERENCES,
    ABOUT_THE_CLUSTER,
    ABOUT_THE_OBJECT,
    EDITS,
    ELASTIC,
    LATER,
    LEFTOVERS,
    VERBATIM,
    Edit,
    Leftover,
    Row,
    server,
)
from tests.harness.volume_driver import volume_for
from tests.harness.wait import until

SERVERS = "/apis/dittofs.dittofs.com/v1alpha1/namespaces/default/dittoservers"
TABLE = [*ABOUT_THE_OBJECT, *ABOUT_REFERENCES, *ABOUT_THE_CLUSTER, *VERBATIM]
CLASSES = [
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/fast",
    },
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "slow"},
        "provisioner": "example.com/slow",
    },
]
MORE_CLASSES = [
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": ELASTIC},
        "provisioner": "example.com/elastic",
        "allowVolumeExpansion": True,
    },
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": LATER},
        "provisioner": "example.com/later",
        "volumeBindingMode": "WaitForFirstConsumer",
    },
]
CLAIMS, VOLUMES = "/api/v1/namespaces/default/persistentvolumeclaims", "/api/v1/persistentvolumes"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
KEPT = {"finalizers": ["example.com/kept"]}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    """With the CRD, without a webhook."""
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([custom_resource_definition(), *CLASSES]))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/dittoservers.dittofs.dittofs.com")
    return control_plane


@pytest.fixture(scope="module")
def api_server(cluster: ControlPlane) -> Iterator[httpx.Client]:
    """Asked directly: fifty times kubectl would take its time."""
    with httpx.Client(
        base_url=cluster.url,
        verify=ssl.create_default_context(cafile=cluster.ca_file),
        headers={"Authorization": f"Bearer {cluster.token}"},
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture(scope="module")
def live(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """It only judges: what the definition is asked to take would be another version by the time that it changes."""
    with Operator(tmp_path_factory.mktemp("live"), "--kubeconfig", cluster.kubeconfig, "--no-reconcile") as running:
        yield running


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("snapshot") / "cluster.yaml"
    file.write_text(yaml.safe_dump_all(CLASSES))
    return file


@pytest.fixture(scope="module")
def offline(snapshot: Path) -> Iterator[Operator]:
    with Operator(snapshot.parent, "--snapshot", snapshot) as running:
        yield running


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.title)
def test_the_webhook_says_the_same_of_a_cluster_and_of_a_snapshot(live: Operator, offline: Operator, row: Row) -> None:
    asked = review(row.manifest)
    response = live.post(VALIDATE_PATH, asked)
    without = offline.post(VALIDATE_PATH, asked)

    assert without == (response if not row.only_a_cluster_knows else {"uid": "u-1", "allowed": True})
    assert response["allowed"] is row.admitted

    causes = response.get("status", {}).get("details", {}).get("causes", [])

    assert len(causes) == len(row.errors)

    for text in row.errors:
        assert any(text in cause["message"] for cause in causes), causes


@pytest.mark.parametrize("row", ABOUT_THE_OBJECT, ids=lambda row: row.title)
def test_the_crd_alone_says_the_same_of_one_object(api_server: httpx.Client, row: Row) -> None:
    answer = api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest)
    assert answer.status_code == (201 if row.admitted else 422), answer.text


@pytest.mark.parametrize("row", VERBATIM, ids=lambda row: row.title)
def test_the_crd_takes_what_goes_into_pods_verbatim(api_server: httpx.Client, row: Row) -> None:
    api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest).raise_for_status()


@pytest.mark.parametrize("row", ABOUT_REFERENCES, ids=lambda row: row.title)
def test_the_crd_admits_any_reference(api_server: httpx.Client, row: Row) -> None:
    answer = api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest)

    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.title)
def test_the_webhook_says_the_same_of_a_change(live: Operator, offline: Operator, edit: Edit) -> None:
    asked = review(edit.new, edit.old)
    response = live.post(VALIDATE_PATH, asked)
    assert response == offline.post(VALIDATE_PATH, asked)
    assert response["allowed"] is edit.admitted


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.title)
def test_the_crd_alone_says_the_same_of_a_change(api_server: httpx.Client, edit: Edit) -> None:
    made = api_server.post(SERVERS, json=edit.old).raise_for_status().json()
    path = f"{SERVERS}/{made['metadata']['name']}"
    try:
        changed = {**edit.new, "metadata": made["metadata"]}
        answer = api_server.put(path, params={"dryRun": "All"}, json=changed)
        assert answer.status_code == (200 if edit.admitted else 422), answer.text
    finally:
        api_server.delete(path).raise_for_status()


def test_check_says_the_same_of_the_whole_table(cluster: ControlPlane, snapshot: Path, tmp_path: Path) -> None:
    for number, row in enumerate(TABLE):
        (tmp_path / f"{number:03}.json").write_text(json.dumps(row.manifest))
    expected = [row.admitted for row in TABLE]
    offline = [row.admitted or row.only_a_cluster_knows for row in TABLE]
    for facts, admitted in ((f"--snapshot={snapshot}", offline), (f"--kubeconfig={cluster.kubeconfig}", expected)):
        command = [sys.executable, "-m", "app", "check", str(tmp_path), facts, "--output=json"]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 1
        verdicts = {judgement["file"]: judgement["admitted"] for judgement in json.loads(checked.stdout)}
        assert [verdicts[str(tmp_path / f"{number:03}.json")] for number in range(len(TABLE))] == admitted


@pytest.fixture(scope="module")
def proxy(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(cluster, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("proxied")
    with Operator(folder, "--kubeconfig", proxy.kubeconfig, "--no-reconcile") as running:
        yield running


@pytest.mark.parametrize(
    "harm",
    [{"hang": True}, {"cut": "before"}, *({"answer": code} for code in (400, 401, 403, 404, 422, 429, 500, 504))],
    ids=str,
)
def test_a_dry_run_that_fails_is_a_warning(proxy: Proxy, proxied: Operator, harm: Harm) -> None:
    with proxy.fault(lambda request: "dryRun" in request.query, **harm):
        response = proxied.post(VALIDATE_PATH, review(server(resources={"limits": {"memory": "1Gi"}})))

    assert response["allowed"]

    [warning] = response["warnings"]

    assert warning.startswith("Could not verify resources with the API server: ")
    assert proxied.decisions()[-1]["milliseconds"] < 2500


@pytest.fixture(scope="module")
def leftovers(cluster: ControlPlane, api_server: httpx.Client) -> Iterator[None]:
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(MORE_CLASSES))
    manifests = [claim for row in LEFTOVERS for claim in row.claims]
    for manifest in manifests:
        create(api_server, manifest)
    yield
    for manifest in manifests:
        path = f"{CLAIMS}/{manifest['metadata']['name']}"
        api_server.patch(path, json={"metadata": {"finalizers": None}}, headers=MERGE_PATCH)
        api_server.delete(path)
    cluster.kubectl("delete", "storageclass", ELASTIC, LATER)


@pytest.fixture(scope="module")
def saved(leftovers: None, cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster as kubectl saves it."""
    file = tmp_path_factory.mktemp("saved") / "cluster.yaml"
    file.write_text(cluster.kubectl("get", "storageclasses,persistentvolumeclaims", "--output=yaml").stdout)
    return file


@pytest.fixture(scope="module")
def saved_offline(saved: Path) -> Iterator[Operator]:
    with Operator(saved.parent, "--snapshot", saved) as running:
        yield running


@pytest.fixture(scope="module")
def observing(leftovers: None, cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """It answers from what it watches."""
    flags = ("--kubeconfig", cluster.kubeconfig, "--namespace=default", "--no-leader-elect")
    with Operator(tmp_path_factory.mktemp("observing"), *flags) as running:
        yield running


@pytest.mark.parametrize("row", LEFTOVERS, ids=lambda row: row.title)
def test_the_webhook_says_the_same_of_leftovers(
    live: Operator, observing: Operator, saved_offline: Operator, row: Leftover
) -> None:
    asked = review(row.manifest)

    response = live.post(VALIDATE_PATH, asked)

    assert response == saved_offline.post(VALIDATE_PATH, asked)
    assert response == observing.post(VALIDATE_PATH, asked)
    assert response["allowed"] is row.admitted

    causes = response.get("status", {}).get("details", {}).get("causes", [])
    assert_said([cause["message"] for cause in causes], row.errors)
    assert_said(response.get("warnings", []), row.warnings)


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize("source", ["--snapshot", "--kubeconfig"])
def test_commands_say_the_same_of_leftovers(
    cluster: ControlPlane, saved: Path, live: Operator, tmp_path: Path, command: str, source: str
) -> None:
    file, facts = tmp_path / "servers.yaml", saved if source == "--snapshot" else cluster.kubeconfig
    file.write_text(yaml.safe_dump_all(row.manifest for row in LEFTOVERS))

    run = [sys.executable, "-m", "app", command, str(file), f"{source}={facts}", "--output=json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stderr

    for row, outcome in zip(LEFTOVERS, json.loads(done.stdout), strict=True):
        response = live.post(VALIDATE_PATH, review(row.manifest))
        messages = [finding["message"] for finding in outcome["findings"] if finding["severity"] == "warning"]
        assert messages == response.get("warnings", []), row.title
        assert_said([each["message"] for each in outcome["findings"] if each["severity"] == "error"], row.errors)


def create(api_server: httpx.Client, manifest: Manifest) -> None:
    """A claim with the status that it is to have, by its controller where that has a say, or else by hand."""
    metadata, status = manifest["metadata"], manifest["status"]
    lost = status["phase"] == "Lost"
    leaving = metadata.get("deletionTimestamp") is not None
    about = {"name": metadata["name"], "labels": metadata.get("labels", {}), **(KEPT if leaving else {})}
    if lost:
        about["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    spec = {**manifest["spec"], **({"volumeName": "none-such"} if lost else {})}
    made = api_server.post(CLAIMS, json={**manifest, "metadata": about, "spec": spec}).raise_for_status().json()

    path = f"{CLAIMS}/{metadata['name']}"
    if spec["storageClassName"] == "":
        # Its controller takes the word of nobody else for it.
        volume = volume_for(made, made["metadata"]["uid"], csi={"driver": "example.com", "volumeHandle": "x"})
        api_server.post(VOLUMES, json=volume).raise_for_status()
    elif not lost:
        api_server.patch(f"{path}/status", json={"status": status}, headers=MERGE_PATCH).raise_for_status()
    if leaving:
        api_server.delete(path).raise_for_status()

    until(lambda: api_server.get(path).json()["status"]["phase"] == status["phase"])


def assert_said(messages: list[str], says: tuple[str, ...]) -> None:
    assert len(messages) == len(says), messages
    for message, said in zip(messages, says, strict=True):
        assert said in message
