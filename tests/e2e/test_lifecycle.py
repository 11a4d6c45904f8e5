"""One manifest takes a user from nothing to a share in S3, whose keys are rotated while it is used.

Both families of servers live through it at the same time. `pytest -s` shows how often each was started and what the
operator wrote.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.cluster import Cluster
from tests.e2e.images import CURRENT, LEGACY
from tests.e2e.installation import NAMESPACE
from tests.e2e.servers import POD_SECONDS, is_ready, pod_uid
from tests.e2e.tenants import Tenant, step, until_all
from tests.harness.dittofs_standin import BUCKET
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

# Distinctive, so that they would be noticed wherever they do not belong.
FIRST, SECOND, WRONG = "marker-first-secret", "marker-second-secret", "marker-wrong-secret"
# The operator asks a server every 30 seconds.
ROUND_SECONDS = 45.0

Tenants = tuple[Tenant, Tenant]


@pytest.fixture
def tenants(cluster: Cluster) -> Iterator[Tenants]:
    with Tenant(cluster, LEGACY) as legacy, Tenant(cluster, CURRENT) as current:
        for tenant in (legacy, current):
            tenant.store.start(first=FIRST)

        yield legacy, current


def manifest(tenant: Tenant) -> str:
    """Returns all that the user applies."""
    values = {"accessKeyId": "first", "secretAccessKey": FIRST, "endpoint": tenant.store.url}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": values}
    spec = {
        "image": tenant.image,
        "storage": {"metadataSize": "1Gi"},
        "s3": {"credentialsSecretRef": {"secretName": "keys"}, "bucket": BUCKET, "region": "us-east-1"},
        "shares": [{"name": "media"}],
    }
    server = {"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "metadata": {"name": "files"}}
    return yaml.safe_dump_all([secret, {**server, "spec": spec}])


def test_a_share_in_s3_lives_through_a_rotation(tenants: Tenants) -> None:
    with step(tenants, "apply one manifest, until the share is served", starts=1):
        for tenant in tenants:
            tenant.user.kubectl("apply", "-f", "-", input=manifest(tenant))
        until_all(tenants, is_served)
        until_all(tenants, lambda tenant: tenant.share_phases() == {"/media": "Ready"})

    with step(tenants, "write a file with the key of the Secret", starts=0):
        for tenant in tenants:
            assert tenant.files.write("media", "a", "written with the first key") == "first"
        until_all(tenants, lambda tenant: tenant.holds("StoresReady") is True)

    rotate(tenants)
    lose_pods(tenants)
    reject(tenants[1])

    with step(tenants, "look for secrets where they do not belong", starts=0):
        assert not leaks(tenants)


def rotate(tenants: Tenants) -> None:
    with step(tenants, "rotate the key, until it is used", starts=1):
        for tenant in tenants:
            tenant.store.put_keys(first=FIRST, second=SECOND)
            tenant.put_key("second", SECOND)
        until_all(tenants, lambda tenant: tenant.files.write("media", "b", "written meanwhile") == "second")

    with step(tenants, "revoke the old key, and write", starts=0):
        for tenant in tenants:
            tenant.store.put_keys(second=SECOND)

            assert tenant.files.write("media", "c", "written with the second key") == "second"
            assert tenant.store.writes()[-1]["status"] == 200

        until_all(tenants, is_served)
        until_all(tenants, lambda tenant: tenant.holds("CredentialsReady") is True)


def lose_pods(tenants: Tenants) -> None:
    for tenant in tenants:
        tenant.files.api(tenant.password, "POST", "/users", {"username": "eve", "password": "password-of-eve"})
    pods, states = [pod_uid(tenant.user) for tenant in tenants], [state_of(tenant) for tenant in tenants]

    with step(tenants, "delete the pod, until everything is there again", starts=1):
        for tenant in tenants:
            tenant.user.kubectl("delete", "pod", "files-0", "--wait=false")
        until_all(tenants, lambda tenant: pod_uid(tenant.user) not in ("", *pods))
        until_all(tenants, is_served)

        assert [state_of(tenant) for tenant in tenants] == states

        for tenant in tenants:
            assert tenant.files.read("media", "a") == "written with the first key"
            assert tenant.files.read("media", "c") == "written with the second key"
            assert tenant.files.write("media", "d", "more") == "second"


def reject(tenant: Tenant) -> None:
    """Only a server that has its keys in its stores can be asked whether S3 accepts them, before it restarts."""
    with tenant.ledger.step("put a key that S3 rejects into the Secret", starts=0):
        tenant.put_key("wrong", WRONG)
        until(lambda: tenant.holds("CredentialsReady") is False, seconds=ROUND_SECONDS)

        assert tenant.files.write("media", "e", "still") == "second"

    with tenant.ledger.step("put back the key that works", starts=1):
        tenant.put_key("second", SECOND)
        until(lambda: tenant.holds("CredentialsReady") is True, seconds=ROUND_SECONDS)
        until(lambda: not tenant.awaits_restart() and is_served(tenant), seconds=POD_SECONDS)


def is_served(tenant: Tenant) -> bool:
    return is_ready(tenant.user) and tenant.files.exports() == ["/media"]


def state_of(tenant: Tenant) -> Any:
    """Returns what the server knows of users, stores and shares, without what changes by looking at it."""
    stores = {
        LEGACY: ("/metadata-stores", "/payload-stores"),
        CURRENT: ("/store/metadata", "/store/block/local", "/store/block/remote"),
    }
    answers = [tenant.files.api(tenant.password, "GET", path) for path in ("/users", "/shares", *stores[tenant.image])]
    fleeting = ("status", "last_login")
    return [
        [{key: value for key, value in entry.items() if key not in fleeting} for entry in answer] for answer in answers
    ]


def leaks(tenants: Tenants) -> list[str]:
    """Returns what shows one of the secret values: logs and metrics of the operator, Events, and status."""
    operator, texts = Namespace(tenants[0].user.control_plane, NAMESPACE), {}
    for pod in operator.list_all("pods"):
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        texts[f"log of {name}"] = operator.kubectl("logs", name)
        texts[f"metrics of {name}"] = httpx.get(f"http://{address}:8081/metrics", trust_env=False).text
    for tenant in tenants:
        texts[f"Events of {tenant.image}"] = json.dumps(tenant.user.list_all("events"))
        texts[f"status of {tenant.image}"] = json.dumps(tenant.user.get("dittoserver", "files")["status"])
        kinds = ("statefulsets", "configmaps", "pods")
        texts[f"objects of {tenant.image}"] = json.dumps([tenant.user.list_all(kind) for kind in kinds])

    markers = [FIRST, SECOND, WRONG, *(tenant.password for tenant in tenants)]
    return [place for place, text in texts.items() if any(marker in text for marker in markers)]
