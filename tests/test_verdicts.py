"""CRD, webhook, snapshot and check reach the same verdict on each server of one table.

The same holds for a table of changes, and for one of servers whose claims exist already, which plan judges as well.
"""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.finding import rejections
from app.storage.reading import read
from app.storage.rules import invalid_findings
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH, VALIDATE_TIMEOUT_SECONDS
from tests.admission.reviews import review
from tests.controlplane.build import TEMPLATES_CHECKED, minor
from tests.controlplane.cluster import REQUEST_SECONDS, ControlPlane
from tests.controlplane.proxy import Harm, Proxy
from tests.harness import every_field
from tests.harness.definitions import definition
from tests.harness.every_field import EVERY_FIELD, fields, text_of, value_at
from tests.harness.operator_process import Operator
from tests.harness.pod_table import ABOUT_PODS, BEYOND_THE_SCHEMA, MORE_PODS, OF_WRONG_TYPE, VERBATIM_PODS
from tests.harness.random_servers import random_server
from tests.harness.server_table import (
    ABOUT_REFERENCES,
    ABOUT_THE_CLUSTER,
    ABOUT_THE_OBJECT,
    DOUBTFUL,
    EDITS,
    ELASTIC,
    LATER,
    LEFTOVERS,
    VERBATIM,
    Doubtful,
    Edit,
    Leftover,
    Row,
    server,
)
from tests.harness.volume_driver import volume_for
from tests.harness.wait import until

SERVERS = "/apis/dittofs.dittofs.com/v1alpha1/namespaces/default/dittoservers"
SEED, RANDOM_SERVERS = 17, 400
OBJECTS = [*ABOUT_THE_OBJECT, *ABOUT_PODS, *every_field.ROWS]
TABLE = [*OBJECTS, *ABOUT_REFERENCES, *ABOUT_THE_CLUSTER, *VERBATIM, *MORE_PODS]
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
def cluster(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """Provides a cluster with the CRD and without a webhook, which serves VolumeSnapshots and has none."""
    snapshots = definition("snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots")
    manifests = [custom_resource_definition(), snapshots, *CLASSES]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(manifests))
    for crd in ("dittoservers.dittofs.dittofs.com", snapshots["metadata"]["name"]):
        control_plane.wait_until_established(crd)

    yield control_plane

    control_plane.kubectl("delete", "crd", snapshots["metadata"]["name"])


@pytest.fixture(scope="module")
def api_server(cluster: ControlPlane) -> Iterator[httpx.Client]:
    """Provides a client for direct requests: fifty calls of kubectl would take long."""
    with httpx.Client(
        base_url=cluster.url,
        verify=ssl.create_default_context(cafile=cluster.ca_file),
        headers={"Authorization": f"Bearer {cluster.token}"},
        trust_env=False,
        timeout=REQUEST_SECONDS,
    ) as client:
        yield client


@pytest.fixture(scope="module")
def live(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Runs an operator that only judges: reconciled servers would change before the tests update them."""
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


def test_the_table_sets_every_field() -> None:
    assert [text_of(path) for path, _ in fields() if value_at(EVERY_FIELD, path) is None] == []


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.title)
def test_the_webhook_agrees_on_cluster_and_snapshot(live: Operator, offline: Operator, row: Row) -> None:
    if row.only_a_cluster_knows and minor() < TEMPLATES_CHECKED:
        pytest.skip("this Kubernetes does not know it either")

    request = review(row.manifest)
    response = live.post(VALIDATE_PATH, request)
    offline_response = offline.post(VALIDATE_PATH, request)

    assert offline_response == (response if not row.only_a_cluster_knows else {"uid": "u-1", "allowed": True})
    assert response["allowed"] is row.admitted

    causes = response.get("status", {}).get("details", {}).get("causes", [])

    assert len(causes) == len(row.errors)
    for text in row.errors:
        assert any(text in cause["message"] for cause in causes), causes


@pytest.mark.parametrize("row", DOUBTFUL, ids=lambda row: row.title)
def test_the_webhook_agrees_on_doubts(live: Operator, offline: Operator, row: Doubtful) -> None:
    request = review(row.manifest, row.old)

    response = live.post(VALIDATE_PATH, request)

    assert response == offline.post(VALIDATE_PATH, request)
    assert response["allowed"]
    assert_match(response.get("warnings", []), row.warnings)


@pytest.mark.parametrize("row", DOUBTFUL, ids=lambda row: row.title)
def test_the_crd_admits_any_doubt(api_server: httpx.Client, row: Doubtful) -> None:
    api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest).raise_for_status()


def test_check_agrees_on_doubts(cluster: ControlPlane, tmp_path: Path) -> None:
    rows = [row for row in DOUBTFUL if row.old is None]
    file = tmp_path / "servers.yaml"
    file.write_text(yaml.safe_dump_all(row.manifest for row in rows))

    command = [sys.executable, "-m", "app", "check", str(file), f"--kubeconfig={cluster.kubeconfig}", "--output=json"]
    checked = subprocess.run(command, capture_output=True, text=True, check=True)

    for row, judgement in zip(rows, json.loads(checked.stdout), strict=True):
        assert_match([finding["message"] for finding in judgement["findings"]], row.warnings)


@pytest.mark.parametrize("row", [*OBJECTS, *OF_WRONG_TYPE], ids=lambda row: row.title)
def test_the_crd_agrees_on_a_single_object(api_server: httpx.Client, row: Row) -> None:
    answer = api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest)

    assert answer.status_code == (201 if row.admitted else 422), answer.text


def test_the_crd_agrees_on_random_servers(api_server: httpx.Client) -> None:
    random = Random(SEED)
    verdicts = {True: 0, False: 0}

    for number in range(RANDOM_SERVERS):
        manifest = random_server(random)
        answer = api_server.post(SERVERS, params={"dryRun": "All"}, json=manifest)
        findings = rejections(invalid_findings(read(manifest)))
        assert (answer.status_code == 201) is (not findings), (number, findings, answer.text, manifest["spec"])
        verdicts[not findings] += 1

    # Both verdicts have been tried often enough.
    assert min(verdicts.values()) > RANDOM_SERVERS / 5, verdicts


@pytest.mark.parametrize("row", [*VERBATIM, *VERBATIM_PODS], ids=lambda row: row.title)
def test_the_crd_admits_any_verbatim_section(api_server: httpx.Client, row: Row) -> None:
    api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest).raise_for_status()


@pytest.mark.parametrize("row", [*ABOUT_REFERENCES, *BEYOND_THE_SCHEMA], ids=lambda row: row.title)
def test_the_crd_admits_any_reference(api_server: httpx.Client, row: Row) -> None:
    answer = api_server.post(SERVERS, params={"dryRun": "All"}, json=row.manifest)

    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.title)
def test_the_webhook_agrees_on_a_change(live: Operator, offline: Operator, edit: Edit) -> None:
    request = review(edit.new, edit.old)

    response = live.post(VALIDATE_PATH, request)

    assert response == offline.post(VALIDATE_PATH, request)
    assert response["allowed"] is edit.admitted


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.title)
def test_the_crd_agrees_on_a_change(api_server: httpx.Client, edit: Edit) -> None:
    old = api_server.post(SERVERS, json=edit.old).raise_for_status().json()
    path = f"{SERVERS}/{old['metadata']['name']}"

    try:
        new = {**edit.new, "metadata": old["metadata"]}
        answer = api_server.put(path, params={"dryRun": "All"}, json=new)

        assert answer.status_code == (200 if edit.admitted else 422), answer.text
    finally:
        api_server.delete(path).raise_for_status()


@pytest.mark.since(TEMPLATES_CHECKED)
def test_check_agrees_on_the_whole_table(cluster: ControlPlane, snapshot: Path, tmp_path: Path) -> None:
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
def test_a_failed_dry_run_is_a_warning(proxy: Proxy, proxied: Operator, harm: Harm) -> None:
    with proxy.fault(lambda request: "dryRun" in request.query, **harm):
        response = proxied.post(VALIDATE_PATH, review(server(resources={"limits": {"memory": "1Gi"}})))

    assert response["allowed"]

    [warning] = response["warnings"]

    assert warning.startswith("Could not verify resources with the API server: ")
    assert proxied.decisions()[-1]["milliseconds"] < 1000 * VALIDATE_TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def leftovers(cluster: ControlPlane, api_server: httpx.Client) -> Iterator[None]:
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(MORE_CLASSES))
    manifests = [claim for row in LEFTOVERS for claim in row.claims]
    for manifest in manifests:
        create_claim(api_server, manifest)

    yield

    for manifest in manifests:
        path = f"{CLAIMS}/{manifest['metadata']['name']}"
        api_server.patch(path, json={"metadata": {"finalizers": None}}, headers=MERGE_PATCH)
        api_server.delete(path)
    cluster.kubectl("delete", "storageclass", ELASTIC, LATER)


@pytest.fixture(scope="module")
def saved(leftovers: None, cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saves the cluster with kubectl and returns the file."""
    file = tmp_path_factory.mktemp("saved") / "cluster.yaml"
    file.write_text(cluster.kubectl("get", "storageclasses,persistentvolumeclaims", "--output=yaml").stdout)
    return file


@pytest.fixture(scope="module")
def saved_offline(saved: Path) -> Iterator[Operator]:
    with Operator(saved.parent, "--snapshot", saved) as running:
        yield running


@pytest.fixture(scope="module")
def observing(leftovers: None, cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Runs an operator that answers from its informers."""
    flags = ("--kubeconfig", cluster.kubeconfig, "--namespace=default", "--no-leader-elect")
    with Operator(tmp_path_factory.mktemp("observing"), *flags) as running:
        yield running


@pytest.mark.parametrize("row", LEFTOVERS, ids=lambda row: row.title)
def test_the_webhook_agrees_on_leftovers(
    live: Operator, observing: Operator, saved_offline: Operator, row: Leftover
) -> None:
    request = review(row.manifest)

    response = live.post(VALIDATE_PATH, request)

    assert response == saved_offline.post(VALIDATE_PATH, request)
    assert response == observing.post(VALIDATE_PATH, request)
    assert response["allowed"] is row.admitted

    causes = response.get("status", {}).get("details", {}).get("causes", [])
    assert_match([cause["message"] for cause in causes], row.errors)
    assert_match(response.get("warnings", []), row.warnings)


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize("source", ["--snapshot", "--kubeconfig"])
def test_commands_agree_on_leftovers(
    cluster: ControlPlane, saved: Path, live: Operator, tmp_path: Path, command: str, source: str
) -> None:
    file, facts = tmp_path / "servers.yaml", saved if source == "--snapshot" else cluster.kubeconfig
    file.write_text(yaml.safe_dump_all(row.manifest for row in LEFTOVERS))

    run = [sys.executable, "-m", "app", command, str(file), f"{source}={facts}", "--output=json"]
    process = subprocess.run(run, capture_output=True, text=True, check=False)

    assert process.returncode == 1, process.stderr

    for row, outcome in zip(LEFTOVERS, json.loads(process.stdout), strict=True):
        response = live.post(VALIDATE_PATH, review(row.manifest))
        messages = [(finding["severity"], finding["message"]) for finding in outcome["findings"]]

        assert [text for severity, text in messages if severity == "warning"] == response.get("warnings", []), row.title
        assert_match([text for severity, text in messages if severity == "error"], row.errors)


def create_claim(api_server: httpx.Client, manifest: Manifest) -> None:
    """Creates a claim and brings it into its status, by way of its controller where that decides, or directly."""
    metadata, status = manifest["metadata"], manifest["status"]
    lost = status["phase"] == "Lost"
    leaving = metadata.get("deletionTimestamp") is not None
    about = {"name": metadata["name"], "labels": metadata.get("labels", {}), **(KEPT if leaving else {})}
    if lost:
        about["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}

    spec = {**manifest["spec"], **({"volumeName": "none-such"} if lost else {})}
    claim = api_server.post(CLAIMS, json={**manifest, "metadata": about, "spec": spec}).raise_for_status().json()

    path = f"{CLAIMS}/{metadata['name']}"
    if spec["storageClassName"] == "":
        # The controller binds it only to a volume that exists.
        volume = volume_for(claim, claim["metadata"]["uid"], csi={"driver": "example.com", "volumeHandle": "x"})
        api_server.post(VOLUMES, json=volume).raise_for_status()
    elif not lost:
        api_server.patch(f"{path}/status", json={"status": status}, headers=MERGE_PATCH).raise_for_status()
    if leaving:
        api_server.delete(path).raise_for_status()

    until(lambda: api_server.get(path).json()["status"]["phase"] == status["phase"])


def assert_match(messages: list[str], texts: tuple[str, ...]) -> None:
    assert len(messages) == len(texts), messages
    for message, text in zip(messages, texts, strict=True):
        assert text in message
