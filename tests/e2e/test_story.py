"""A user works with the operator in a real cluster, with its image, real volumes, Services and a real kubelet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Cluster
from tests.e2e.explanation import explain_failures
from tests.e2e.images import DITTOFS
from tests.e2e.installation import NAMESPACE, REPLICAS, ready_replicas
from tests.e2e.servers import (
    POD_SECONDS,
    is_ready,
    kubectl_apply,
    pod_uid,
    read_greeting,
    report_of,
    server,
    wait_until_ready,
)
from tests.harness.guides import recovery_commands
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

ROOT = Path(__file__).parent.parent.parent
SAMPLES = [
    ROOT / f"manifests/samples/{name}.yaml" for name in ("minimal", "memory-and-disk", "s3-credentials", "s3", "shares")
]
# The kubelet checks the file systems of a pod about once a minute.
GROWTH_SECONDS = 180.0
KEYS = {"accessKeyId": "first-id", "secretAccessKey": "first-secret", "endpoint": "https://s3.example.com"}


@pytest.fixture(scope="module", autouse=True)
def operator_does_not_crash(cluster: Cluster) -> Iterator[None]:
    """Fails when the operator restarts while a user works; what other tests do to it does not count."""
    before = restarts(cluster)

    yield

    with explain_failures(cluster):
        assert restarts(cluster) == before


def restarts(cluster: Cluster) -> dict[str, int]:
    pods = Namespace(cluster, NAMESPACE).list_all("pods")
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def s3_server() -> dict[str, Any]:
    return server(s3={"credentialsSecretRef": {"secretName": "keys"}, "region": "eu-west-1"})


def test_the_samples_run_on_volumes_of_their_sizes(user: Namespace) -> None:
    manifests = [manifest for file in SAMPLES for manifest in yaml.safe_load_all(file.read_text())]
    servers = [manifest for manifest in manifests if manifest["kind"] == "DittoServer"]

    assert kubectl_apply(user, *manifests).returncode == 0

    for sample in servers:
        wait_until_ready(user, sample["metadata"]["name"])
    claims = {claim["metadata"]["name"]: claim for claim in user.list_all("persistentvolumeclaims")}

    assert {claim["status"]["phase"] for claim in claims.values()} == {"Bound"}
    assert claims["content-memory-and-disk-0"]["status"]["capacity"]["storage"] == "50Gi"
    assert {name for name in claims if name.endswith("minimal-0")} == {"metadata-minimal-0", "cache-minimal-0"}
    assert claims["cache-minimal-0"]["status"]["capacity"]["storage"] == "5Gi"
    assert report_of(user, "s3")["AWS_ACCESS_KEY_ID"] == "put-your-access-key-id-here"


def test_a_server_that_cannot_work_is_rejected(user: Namespace) -> None:
    """The CustomResourceDefinition rejects what is wrong in itself, and then the webhook what does not exist."""
    rejected = yaml.safe_load((ROOT / "tests/demo/rejected.yaml").read_text())
    answer = kubectl_apply(user, rejected)

    assert answer.returncode == 1
    assert "port is used by both nfs and api" in answer.stderr

    answer = kubectl_apply(user, rejected | {"spec": rejected["spec"] | {"nfsPort": 2049}})

    assert answer.returncode == 1
    assert 'StorageClass "premium" does not exist in cluster' in answer.stderr
    assert "local" in answer.stderr
    assert user.list_all("dittoservers") == []


def test_a_missing_secret_is_a_warning_until_it_exists(user: Namespace) -> None:
    answer = kubectl_apply(user, s3_server())

    assert answer.returncode == 0
    assert 'Warning: S3 credentials Secret "keys" not found' in answer.stderr

    until(lambda: (user.condition("files", "CredentialsReady") or {}).get("reason") == "SecretNotFound")
    user.put_secret("keys", **KEYS)
    wait_until_ready(user)


def test_changed_s3_keys_restart_the_pod_with_its_data(user: Namespace) -> None:
    user.put_secret("keys", **KEYS)
    user.apply(s3_server())
    wait_until_ready(user)
    before, first = report_of(user), pod_uid(user)

    assert {name: value for name, value in before.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": "first-id",
        "AWS_SECRET_ACCESS_KEY": "first-secret",
        "AWS_ENDPOINT_URL": "https://s3.example.com",
        "AWS_REGION": "eu-west-1",
    }

    user.put_secret("keys", **KEYS | {"secretAccessKey": "second-secret"})
    until(lambda: pod_uid(user) not in ("", first), seconds=POD_SECONDS)
    until(lambda: is_ready(user), seconds=POD_SECONDS)
    after = report_of(user)

    assert after["AWS_SECRET_ACCESS_KEY"] == "second-secret"
    assert (after["users"], after["boots"]) == (before["users"], before["boots"] + 1)


def test_a_deleted_pod_returns_with_its_data(user: Namespace) -> None:
    user.apply(server())
    wait_until_ready(user)
    before, first = report_of(user), pod_uid(user)
    user.kubectl("delete", "pod", "files-0")
    until(lambda: pod_uid(user) not in ("", first), seconds=POD_SECONDS)
    wait_until_ready(user)
    until(lambda: report_of(user)["users"] == before["users"], seconds=POD_SECONDS)

    assert not [name for name in before if name.startswith("AWS_")]


def test_a_claim_deleted_under_its_pod_costs_no_data(user: Namespace) -> None:
    """The user runs the commands of recover-a-volume-claim.md."""
    user.apply(server())
    wait_until_ready(user)
    before, first = report_of(user), pod_uid(user)
    user.kubectl("delete", "persistentvolumeclaim", "metadata-files-0", "--wait=false")
    until(lambda: reason(user, "StorageReady") == "ClaimTerminating")

    user.patch("dittoserver", "files", spec={"metrics": {"enabled": True}})
    until(lambda: reason(user, "Stalled") == "RestartHeldBack")

    assert (pod_uid(user), report_of(user)) == (first, before)

    volume = user.get("persistentvolumeclaim", "metadata-files-0")["spec"]["volumeName"]

    assert volume in user.condition("files", "StorageReady")["message"]

    for command in recovery_commands(server="files", claim="metadata-files-0", volume=volume):
        user.kubectl(*command)

    until(lambda: pod_uid(user) not in ("", first), seconds=POD_SECONDS)
    wait_until_ready(user)
    until(lambda: report_of(user)["users"] == before["users"], seconds=POD_SECONDS)

    assert user.get("persistentvolumeclaim", "metadata-files-0")["spec"]["volumeName"] == volume


def reason(user: Namespace, condition: str) -> str:
    return str((user.condition("files", condition) or {}).get("reason"))


def test_a_server_recovers_from_a_wrong_image(user: Namespace) -> None:
    user.apply(server())
    wait_until_ready(user)
    users = report_of(user)["users"]

    user.patch("dittoserver", "files", spec={"image": "dittofs:typo"})
    until(lambda: "ImagePull" in str(user.get("pod", "files-0")), seconds=POD_SECONDS)
    until(lambda: not is_ready(user))

    user.patch("dittoserver", "files", spec={"image": DITTOFS})
    wait_until_ready(user)

    assert report_of(user)["users"] == users


def test_a_recreated_server_has_its_data(user: Namespace) -> None:
    user.apply(server())
    wait_until_ready(user)
    before = report_of(user)
    user.kubectl("delete", "dittoserver", "files")
    until(
        lambda: user.list_all("pods") == user.list_all("statefulsets") == user.list_all("services") == [],
        seconds=POD_SECONDS,
    )

    assert {claim["status"]["phase"] for claim in user.list_all("persistentvolumeclaims")} == {"Bound"}

    user.apply(server())
    wait_until_ready(user)
    after = report_of(user)

    assert (after["users"], after["boots"]) == (before["users"], before["boots"] + 1)


def test_volumes_expand_under_a_running_pod(user: Namespace) -> None:
    user.apply(server())
    wait_until_ready(user)
    before, [status] = report_of(user), user.get("pod", "files-0")["status"]["containerStatuses"]
    uid = user.get("statefulset", "files")["metadata"]["uid"]

    user.patch("dittoserver", "files", spec={"storage": {"metadataSize": "2Gi", "cacheSize": "20Gi"}})
    until(lambda: capacities(user) == {"metadata-files-0": "2Gi", "cache-files-0": "20Gi"}, seconds=GROWTH_SECONDS)
    until(lambda: (user.condition("files", "StorageReady") or {}).get("status") == "True")

    assert user.get("statefulset", "files")["metadata"]["uid"] != uid

    [after] = user.get("pod", "files-0")["status"]["containerStatuses"]

    assert (after["containerID"], after["restartCount"]) == (status["containerID"], 0)
    assert report_of(user) == before


def capacities(user: Namespace) -> dict[str, str]:
    claims = user.list_all("persistentvolumeclaims")
    return {claim["metadata"]["name"]: claim["status"]["capacity"]["storage"] for claim in claims}


def test_nfs_and_smb_are_reached_through_the_service(user: Namespace) -> None:
    user.apply(server(smb={"enabled": True}))
    wait_until_ready(user)
    address = user.get("service", "files-file")["spec"]["clusterIP"]

    assert read_greeting(address, 2049).endswith(":12049")
    assert read_greeting(address, 445).endswith(":1445")


def test_the_operator_logs_no_secret(user: Namespace) -> None:
    user.put_secret("keys", **KEYS)
    user.apply(s3_server())
    wait_until_ready(user)
    operator = Namespace(user.control_plane, NAMESPACE)
    for replica in operator.list_all("pods"):
        assert "first-secret" not in operator.kubectl("logs", replica["metadata"]["name"])

    assert ready_replicas(user.control_plane) == REPLICAS
