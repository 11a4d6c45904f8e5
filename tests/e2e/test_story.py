"""What a user sees of the operator in a real cluster: its image, its pods, real volumes, Services, a real kubelet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import Cluster
from tests.e2e.explanation import explained
from tests.e2e.images import DITTOFS
from tests.e2e.installation import NAMESPACE, REPLICAS, ready_replicas
from tests.e2e.servers import POD_SECONDS, applied, greeting, is_ready, pod, ready, seen_inside, server
from tests.harness.guides import recovery_commands
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

ROOT = Path(__file__).parent.parent.parent
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
# The kubelet looks after the file systems of a pod about once a minute.
GROWTH_SECONDS = 180.0
KEYS = {"accessKeyId": "first-id", "secretAccessKey": "first-secret", "endpoint": "https://s3.example.com"}


@pytest.fixture(scope="module", autouse=True)
def operator_does_not_crash(cluster: Cluster) -> Iterator[None]:
    """While a user works; what other tests do to it does not count."""
    before = restarts(cluster)
    yield
    with explained(cluster):
        assert restarts(cluster) == before


def restarts(cluster: Cluster) -> dict[str, int]:
    statuses = {each["metadata"]["name"]: each["status"] for each in Namespace(cluster, NAMESPACE).list_all("pods")}
    return {name: status["containerStatuses"][0]["restartCount"] for name, status in statuses.items()}


def s3_server() -> dict[str, Any]:
    return server(s3={"credentialsSecretRef": {"secretName": "keys"}, "region": "eu-west-1"})


def test_the_samples_run_on_volumes_of_the_sizes_that_they_name(user: Namespace) -> None:
    manifests = [each for file in SAMPLES for each in yaml.safe_load_all(file.read_text())]
    servers = [each for each in manifests if each["kind"] == "DittoServer"]
    for each in servers:
        each["spec"]["image"] = DITTOFS  # The one thing that this cluster cannot have.

    assert applied(user, *manifests).returncode == 0

    for each in servers:
        ready(user, each["metadata"]["name"])
    claims = {claim["metadata"]["name"]: claim for claim in user.list_all("persistentvolumeclaims")}

    assert {claim["status"]["phase"] for claim in claims.values()} == {"Bound"}
    assert claims["content-memory-and-disk-0"]["status"]["capacity"]["storage"] == "50Gi"
    assert {name for name in claims if name.endswith("minimal-0")} == {"metadata-minimal-0", "cache-minimal-0"}
    assert claims["cache-minimal-0"]["status"]["capacity"]["storage"] == "5Gi"
    assert seen_inside(user, "s3")["AWS_ACCESS_KEY_ID"] == "put-your-access-key-id-here"


def test_a_server_that_cannot_work_is_rejected(user: Namespace) -> None:
    """By the CustomResourceDefinition for what is wrong in itself, and then by the webhook for what is not there."""
    rejected = yaml.safe_load((ROOT / "tests/demo/rejected.yaml").read_text())
    answer = applied(user, rejected)

    assert answer.returncode == 1
    assert "port is used by both nfs and api" in answer.stderr

    answer = applied(user, rejected | {"spec": rejected["spec"] | {"nfsPort": 2049}})

    assert answer.returncode == 1
    assert 'StorageClass "premium" does not exist in cluster' in answer.stderr
    assert "local" in answer.stderr
    assert user.list_all("dittoservers") == []


def test_a_missing_secret_is_a_warning_and_the_server_starts_when_it_comes(user: Namespace) -> None:
    answer = applied(user, s3_server())

    assert answer.returncode == 0
    assert 'Warning: S3 credentials Secret "keys" not found' in answer.stderr

    until(lambda: (user.condition("files", "CredentialsReady") or {}).get("reason") == "SecretNotFound")
    user.put_secret("keys", **KEYS)
    ready(user)


def test_changed_s3_keys_restart_the_pod_which_has_them_and_its_data(user: Namespace) -> None:
    user.put_secret("keys", **KEYS)
    user.apply(s3_server())
    ready(user)
    before, first = seen_inside(user), pod(user)

    assert {name: value for name, value in before.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": "first-id",
        "AWS_SECRET_ACCESS_KEY": "first-secret",
        "AWS_ENDPOINT_URL": "https://s3.example.com",
        "AWS_REGION": "eu-west-1",
    }

    user.put_secret("keys", **KEYS | {"secretAccessKey": "second-secret"})
    until(lambda: pod(user) not in ("", first), seconds=POD_SECONDS)
    until(lambda: is_ready(user), seconds=POD_SECONDS)
    after = seen_inside(user)

    assert after["AWS_SECRET_ACCESS_KEY"] == "second-secret"
    assert (after["users"], after["boots"]) == (before["users"], before["boots"] + 1)


def test_a_pod_that_is_deleted_comes_back_with_its_data(user: Namespace) -> None:
    user.apply(server())
    ready(user)
    before, first = seen_inside(user), pod(user)
    user.kubectl("delete", "pod", "files-0")
    until(lambda: pod(user) not in ("", first), seconds=POD_SECONDS)
    ready(user)
    until(lambda: seen_inside(user)["users"] == before["users"], seconds=POD_SECONDS)

    assert not [name for name in before if name.startswith("AWS_")]


def test_a_claim_deleted_under_its_pod_costs_no_data(user: Namespace) -> None:
    """Runs the commands of the guide."""
    user.apply(server())
    ready(user)
    before, first = seen_inside(user), pod(user)
    user.kubectl("delete", "persistentvolumeclaim", "metadata-files-0", "--wait=false")
    until(lambda: reason(user, "StorageReady") == "ClaimTerminating")

    user.patch("dittoserver", "files", spec={"metrics": {"enabled": True}})
    until(lambda: reason(user, "Stalled") == "RestartHeldBack")

    assert (pod(user), seen_inside(user)) == (first, before)

    volume = user.get("persistentvolumeclaim", "metadata-files-0")["spec"]["volumeName"]

    assert volume in user.condition("files", "StorageReady")["message"]

    for command in recovery_commands(server="files", claim="metadata-files-0", volume=volume):
        user.kubectl(*command)

    until(lambda: pod(user) not in ("", first), seconds=POD_SECONDS)
    ready(user)
    until(lambda: seen_inside(user)["users"] == before["users"], seconds=POD_SECONDS)

    assert user.get("persistentvolumeclaim", "metadata-files-0")["spec"]["volumeName"] == volume


def reason(user: Namespace, condition: str) -> str:
    return str((user.condition("files", condition) or {}).get("reason"))


def test_an_image_that_cannot_be_pulled_is_healed_by_the_right_one(user: Namespace) -> None:
    user.apply(server())
    ready(user)
    users = seen_inside(user)["users"]
    user.patch("dittoserver", "files", spec={"image": "dittofs:typo"})
    until(lambda: "ImagePull" in str(user.get("pod", "files-0")), seconds=POD_SECONDS)
    until(lambda: not is_ready(user))
    user.patch("dittoserver", "files", spec={"image": DITTOFS})
    ready(user)

    assert seen_inside(user)["users"] == users


def test_a_deleted_server_leaves_its_claims_and_takes_them_back_with_its_data(user: Namespace) -> None:
    user.apply(server())
    ready(user)
    before = seen_inside(user)
    user.kubectl("delete", "dittoserver", "files")
    until(
        lambda: user.list_all("pods") == user.list_all("statefulsets") == user.list_all("services") == [],
        seconds=POD_SECONDS,
    )

    assert {claim["status"]["phase"] for claim in user.list_all("persistentvolumeclaims")} == {"Bound"}

    user.apply(server())
    ready(user)
    after = seen_inside(user)

    assert (after["users"], after["boots"]) == (before["users"], before["boots"] + 1)


def test_volumes_grow_under_a_pod_that_goes_on(user: Namespace) -> None:
    user.apply(server())
    ready(user)
    before, [status] = seen_inside(user), user.get("pod", "files-0")["status"]["containerStatuses"]
    made = user.get("statefulset", "files")["metadata"]["uid"]
    user.patch("dittoserver", "files", spec={"storage": {"metadataSize": "2Gi", "cacheSize": "20Gi"}})
    until(lambda: capacities(user) == {"metadata-files-0": "2Gi", "cache-files-0": "20Gi"}, seconds=GROWTH_SECONDS)
    until(lambda: (user.condition("files", "StorageReady") or {}).get("status") == "True")

    assert user.get("statefulset", "files")["metadata"]["uid"] != made

    [after] = user.get("pod", "files-0")["status"]["containerStatuses"]

    assert (after["containerID"], after["restartCount"]) == (status["containerID"], 0)
    assert seen_inside(user) == before


def capacities(user: Namespace) -> dict[str, str]:
    claims = user.list_all("persistentvolumeclaims")
    return {each["metadata"]["name"]: each["status"]["capacity"]["storage"] for each in claims}


def test_nfs_and_smb_are_reached_at_their_ports_of_the_service(user: Namespace) -> None:
    user.apply(server(smb={"enabled": True}))
    ready(user)
    address = user.get("service", "files-file")["spec"]["clusterIP"]

    assert greeting(address, 2049).endswith(":12049")
    assert greeting(address, 445).endswith(":1445")


def test_the_operator_runs_as_nobody_with_nothing_to_write_to_and_logs_no_secret(user: Namespace) -> None:
    user.put_secret("keys", **KEYS)
    user.apply(s3_server())
    ready(user)
    operator = Namespace(user.control_plane, NAMESPACE)
    for replica in operator.list_all("pods"):
        assert "first-secret" not in operator.kubectl("logs", replica["metadata"]["name"])

    assert ready_replicas(user.control_plane) == REPLICAS
