"""What users ask for works in a real cluster: each sample is applied as it is, and used.

The samples start at the same time; `pytest -s` shows how often each was started and what the operator wrote.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.storage.unstructured import Manifest
from certs.authority import Authority
from tests.e2e import machine
from tests.e2e.cluster import NODE, Cluster
from tests.e2e.file_clients import Files
from tests.e2e.images import CURRENT, PRIVATE
from tests.e2e.object_store import ObjectStore
from tests.e2e.registry import PASSWORD, Registry
from tests.e2e.samples import Sample
from tests.e2e.servers import POD_SECONDS, admin_password, pod_uid, read_greeting, server, wait_until_ready
from tests.harness.wait import until

POLICIES = Path(__file__).with_name("policies")
REGISTRY = "registry.example.com"
FIRST_ID = 1000680000
# What the policies of other projects look for in a namespace.
COST_CENTER = {"policies.example.com/cost-center": "required"}
RESTRICTED_V2 = {"policies.example.com/scc": "restricted-v2"}
ID_RANGE = {"openshift.io/sa.scc.uid-range": f"{FIRST_ID}/10000"}
TAINT = "storage.example.com/reserved=dittofs:NoSchedule"
LABEL = "storage.example.com/nodes=dittofs"

ON_DISK = {"metadataSize": "1Gi", "contentSize": "1Gi"}

Samples = dict[str, Sample]


@pytest.fixture(scope="module")
def registry(cluster: Cluster) -> Iterator[Registry]:
    with Registry(cluster, REGISTRY, PRIVATE) as running:
        yield running


@pytest.fixture(scope="module")
def samples(cluster: Cluster, registry: Registry) -> Iterator[Samples]:
    """Applies the samples whose servers need nothing else to start."""
    for policy in sorted(POLICIES.glob("*.yaml")):
        cluster.kubectl("apply", "-f", str(policy))

    samples = [
        Sample(cluster, "private-registry"),
        Sample(cluster, "required-labels", labels=COST_CENTER),
        Sample(cluster, "openshift", labels=RESTRICTED_V2, annotations=ID_RANGE),
        Sample(cluster, "load-balancer"),
        Sample(cluster, "dual-stack"),
        Sample(cluster, "sidecar"),
        Sample(cluster, "workload-identity"),
    ]
    with ExitStack() as stack:
        for sample in samples:
            stack.enter_context(sample)
            sample.start()
        yield {sample.name: sample for sample in samples}


def test_an_image_comes_from_a_private_registry(cluster: Cluster, samples: Samples, registry: Registry) -> None:
    sample = samples["private-registry"]
    until(lambda: sample.condition()["reason"] in ("ErrImagePull", "ImagePullBackOff"), seconds=POD_SECONDS)

    assert registry.refused > 0

    sample.user.apply(registry.pull_secret("registry-login"))
    sample.wait_until_ready()

    assert registry.pulled > 0
    assert PASSWORD not in json.dumps([sample.status, sample.user.list_all("events")])


def test_a_policy_that_requires_labels_is_satisfied(cluster: Cluster, samples: Samples) -> None:
    sample = samples["required-labels"]
    sample.apply("minimal")
    until(lambda: "the label cost-center is required" in describe(sample, "minimal"), seconds=POD_SECONDS)

    sample.wait_until_ready()

    objects = [*sample.user.list_all("pods"), *sample.user.list_all("pvc"), *sample.user.list_all("services")]
    names = {manifest["metadata"]["name"] for manifest in objects}

    assert {"required-labels-0", "metadata-required-labels-0", "required-labels-api"} <= names
    assert not [name for name in names if "minimal" in name]


def test_openshift_chooses_the_user_and_the_group(cluster: Cluster, samples: Samples) -> None:
    sample = samples["openshift"]
    sample.apply("minimal")
    until(lambda: "runAsUser must be in the ranges" in describe(sample, "minimal"), seconds=POD_SECONDS)

    sample.wait_until_ready()

    spec = sample.pod["spec"]
    [container] = spec["containers"]

    assert (container["securityContext"]["runAsUser"], spec["securityContext"]["fsGroup"]) == (FIRST_ID, FIRST_ID)
    assert spec["securityContext"].keys().isdisjoint({"runAsUser", "runAsGroup"})
    assert spec["securityContext"]["runAsNonRoot"]


def test_a_minio_with_its_own_ca_is_used(cluster: Cluster) -> None:
    with Sample(cluster, "minio") as sample:
        authority = Authority.create("the CA of a company", datetime.now(UTC))
        store = ObjectStore(sample.user)
        store.speak_tls(authority)
        store.start(first="first-secret")
        keys = {"accessKeyId": "first", "secretAccessKey": "first-secret", "endpoint": store.url}
        sample.user.put_secret("minio-credentials", **keys)
        sample.user.put_secret("minio-ca", **{"ca.crt": authority.pem.decode()})

        assert sample.start() == []

        sample.wait_until_ready()
        until(lambda: sample.files.exports() == ["/media"], seconds=POD_SECONDS)

        assert store.url.startswith("https://")
        assert sample.files.write("media", "a", "over TLS") == "first"
        assert sample.files.read("media", "a") == "over TLS"


def test_a_load_balancer_has_source_ranges(cluster: Cluster, samples: Samples) -> None:
    """The test is the cloud: it gives the Service an address, which kube-proxy then serves."""
    sample = samples["load-balancer"]
    sample.wait_until_ready()
    until(lambda: sample.condition("EndpointsReady")["status"] == "False")

    assert "load-balancer-file" in sample.condition("EndpointsReady")["message"]

    with sample.ledger.step("give the load balancer an address", starts=0):
        ingress = {"loadBalancer": {"ingress": [{"ip": machine.LOAD_BALANCER}]}}
        change = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": ingress}))
        sample.user.kubectl("patch", "service", "load-balancer-file", *change)
        until(lambda: sample.condition("EndpointsReady")["status"] == "True")

    [nfs] = [endpoint for endpoint in sample.status["endpoints"] if endpoint["protocol"] == "nfs"]

    assert (nfs["externalAddress"], nfs["port"]) == (machine.LOAD_BALANCER, 2049)
    assert not is_reached(machine.LOAD_BALANCER)

    with sample.ledger.step("allow the network of this machine", starts=0):
        service = {"service": {"loadBalancerSourceRanges": [f"{machine.ADDRESS}/32"]}}
        sample.user.patch("dittoserver", sample.name, spec=service)
        until(lambda: is_reached(machine.LOAD_BALANCER), pause=0.5)


@pytest.mark.skipif(not machine.HAS_IPV6, reason="this machine has no IPv6")
def test_a_server_is_reached_over_ipv4_and_ipv6(cluster: Cluster, samples: Samples) -> None:
    sample = samples["dual-stack"]
    sample.wait_until_ready()

    service = sample.user.get("service", "dual-stack-file")["spec"]

    assert service["ipFamilies"] == ["IPv4", "IPv6"]
    for address in service["clusterIPs"]:
        assert read_greeting(address, 2049).endswith(":12049")


def test_a_server_starts_from_snapshots(cluster: Cluster) -> None:
    with Sample(cluster, "restore-snapshot") as sample:
        user, files = sample.user, Files(sample.user)
        user.apply(server(image=CURRENT, storage=ON_DISK, shares=[{"name": "media", "store": "local"}]))
        wait_until_ready(user)
        until(lambda: files.exports() == ["/media"], seconds=POD_SECONDS)

        password = admin_password(user)
        files.api(password, "POST", "/users", {"username": "eve", "password": "password-of-eve"})
        assert files.write("media", "a", "before the snapshot") == ""

        user.kubectl("scale", "dittoserver", "files", "--replicas=0")
        until(lambda: user.get("pod", "files-0") is None, seconds=POD_SECONDS)
        user.apply(*[snapshot(volume) for volume in ("metadata", "content")])
        user.kubectl("wait", "--for=jsonpath={.status.readyToUse}=true", "--all", "volumesnapshots")

        assert sample.start() == []

        sample.wait_until_ready()

        users = [user["username"] for user in sample.files.api(password, "GET", "/users")]
        assert users == ["admin", "eve"]
        assert sample.files.read("media", "a") == "before the snapshot"


def snapshot(volume: str) -> Manifest:
    """Builds a snapshot of a volume of the server `files`, named as in the sample."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": f"files-{volume}"},
        "spec": {"source": {"persistentVolumeClaimName": f"{volume}-files-0"}},
    }


def test_a_sidecar_and_an_init_container_run(cluster: Cluster, samples: Samples) -> None:
    sample = samples["sidecar"]
    sample.wait_until_ready()

    statuses = sample.pod["status"]["containerStatuses"]

    assert {status["name"]: status["ready"] for status in statuses} == {"dittofs": True, "space": True}
    for container in ("space-before", "space"):
        assert "/volumes/metadata" in sample.user.kubectl("logs", "sidecar-0", "--container", container)


def test_a_server_has_a_workload_identity(cluster: Cluster, samples: Samples) -> None:
    sample = samples["workload-identity"]
    sample.wait_until_ready()

    variables = {variable["name"] for variable in sample.pod["spec"]["containers"][0]["env"]}

    assert sample.pod["spec"]["serviceAccountName"] == "dittofs-s3"
    assert variables.isdisjoint({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})


def test_a_server_runs_on_tainted_nodes(cluster: Cluster, samples: Samples) -> None:
    """It comes last: meanwhile no other pod finds a node."""
    with Sample(cluster, "storage-nodes") as sample:
        cluster.kubectl("label", "node", NODE, LABEL)
        cluster.kubectl("taint", "node", NODE, TAINT)
        try:
            sample.start()
            sample.apply("minimal")
            sample.wait_until_ready()

            assert sample.pod["spec"]["nodeName"] == NODE

            until(lambda: "untolerated taint" in describe(sample, "minimal"), seconds=POD_SECONDS)
            assert pod_uid(sample.user, "minimal-0")
        finally:
            cluster.kubectl("taint", "node", NODE, f"{TAINT}-")
            cluster.kubectl("label", "node", NODE, f"{LABEL.partition('=')[0]}-")


def describe(sample: Sample, server: str) -> str:
    """Returns what a user reads who asks why the server does not run."""
    return sample.user.kubectl("describe", "dittoserver", server)


def is_reached(address: str) -> bool:
    try:
        with socket.create_connection((address, 2049), timeout=1):
            return True
    except OSError:
        return False
