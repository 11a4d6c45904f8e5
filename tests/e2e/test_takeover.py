"""Servers that the Go operator ran are taken over, with and without their StatefulSet.

`pytest -s` shows how often each was started and what the operator wrote.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.storage.spec import API_VERSION, KIND
from app.storage.unstructured import Manifest
from tests.e2e.cluster import Cluster
from tests.e2e.images import CURRENT, PAUSE
from tests.e2e.installation import NAME, helm, reinstall
from tests.e2e.servers import POD_SECONDS, is_ready
from tests.e2e.stranger import open_shell
from tests.e2e.tenants import Tenant, step, until_all
from tests.harness import go_operator
from tests.harness.guides import GUIDES, blocks, type_page
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

STORAGE_CLASS, PASSWORD = "local", "marker-password-of-the-go-operator"
CONTENT = "written while the Go operator was there"

Tenants = tuple[Tenant, Tenant]


@pytest.fixture
def tenants(cluster: Cluster, operator: Namespace) -> Iterator[Tenants]:
    """Runs a server as the Go operator does, for two users; the second one's StatefulSet is then deleted."""
    helm(cluster, "uninstall", NAME)
    until(lambda: operator.list_all("pods") == [], seconds=POD_SECONDS)

    title = f"{CURRENT} of the Go operator"
    with Tenant(cluster, CURRENT, title) as whole, Tenant(cluster, CURRENT, f"{title}: only its claims") as rest:
        for tenant in (whole, rest):
            run_go_server(tenant, legacy=tenant is rest)
        until_all((whole, rest), is_running)
        for tenant in (whole, rest):
            fill(tenant)

        rest.user.kubectl("delete", "statefulset", "files", "--cascade=foreground")
        until(lambda: rest.user.list_all("pods") == [], seconds=POD_SECONDS)

        yield whole, rest


def run_go_server(tenant: Tenant, *, legacy: bool) -> None:
    """Creates the DittoServer and what the Go operator makes of it; `legacy` is one of its earlier versions."""
    metadata = {"name": "files", "finalizers": [go_operator.FINALIZER]}
    spec = {**go_operator.spec(STORAGE_CLASS), "image": CURRENT}
    create(tenant, {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})

    uid = tenant.user.get("dittoserver", "files")["metadata"]["uid"]
    manifests = go_operator.left_behind("files", uid, STORAGE_CLASS, PASSWORD, legacy=legacy)
    for manifest in manifests:
        if manifest["kind"] == "StatefulSet":
            [container] = manifest["spec"]["template"]["spec"]["containers"]
            container["image"] = CURRENT
            del container["lifecycle"]  # The stand-in's image has no shell to sleep in.
    create(tenant, *manifests)


def create(tenant: Tenant, *manifests: Manifest) -> None:
    options = (f"--field-manager={go_operator.FIELD_MANAGER}", "--validate=false")
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    tenant.user.kubectl("create", *options, "-f", "-", input=content)


def is_running(tenant: Tenant) -> bool:
    pod = tenant.user.get("pod", "files-0") or {}
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)


def fill(tenant: Tenant) -> None:
    """Creates a user, stores on each volume, and a share with a file in it."""
    share = {"name": "/media", "metadata_store_id": "meta", "local_block_store": "content"}
    for path, body in (
        ("/users", {"username": "eve", "password": "password-of-eve"}),
        ("/store/metadata", store("meta", "badger", f"{go_operator.MOUNT_PATHS['metadata']}/meta")),
        ("/store/block/local", store("content", "fs", f"{go_operator.MOUNT_PATHS['content']}/content")),
        ("/shares", {**share, "default_permission": "read-write"}),
    ):
        tenant.files.api(PASSWORD, "POST", path, body)

    tenant.files.write("media", "a", CONTENT)
    assert tenant.files.read("media", "a") == CONTENT


def store(name: str, kind: str, path: str) -> dict[str, str]:
    return {"name": name, "type": kind, "config": json.dumps({"path": path})}


def test_a_person_migrates(cluster: Cluster, operator: Namespace, tmp_path: Path) -> None:
    """The commands of the guide are typed while the server of an earlier Go operator runs."""
    page = GUIDES / "migrate-from-the-go-operator.md"
    helm(cluster, "uninstall", NAME)
    until(lambda: operator.list_all("pods") == [], seconds=POD_SECONDS)

    with Tenant(cluster, CURRENT, "the guide") as tenant, the_go_operator(cluster):
        run_go_server(tenant, legacy=True)
        tenant.user.apply(policy("files-baseline"), policy("files-adapter-nfs"))
        until(lambda: is_running(tenant), seconds=POD_SECONDS)
        fill(tenant)

        with open_shell(tenant.user, tmp_path) as shell:
            rename_context(tmp_path / "kubeconfig", "my-cluster")
            [secret] = [block.text for block in blocks(page) if block.words == ("password",)]

            def save_the_password() -> None:
                shell.type(secret.replace("password=...", f"password={PASSWORD}"))

            type_page(page, shell, instead={"password": save_the_password})

        until(lambda: is_served(tenant), seconds=POD_SECONDS)
        assert tenant.files.read("media", "a") == CONTENT


@contextmanager
def the_go_operator(cluster: Cluster) -> Iterator[None]:
    """Has the Deployment of the Go operator in the cluster, with a program that does nothing."""
    labels = {"control-plane": "controller-manager"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "manager", "image": PAUSE}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dittofs-operator-controller-manager", "namespace": "dittofs", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    cluster.kubectl("create", "namespace", "dittofs")
    cluster.kubectl("create", "-f", "-", input=json.dumps(deployment))
    yield
    cluster.kubectl("delete", "namespace", "dittofs", "--wait=false")


def policy(name: str) -> Manifest:
    """Builds a NetworkPolicy as the Go operator leaves it, which no network of this cluster enforces."""
    spec = {"podSelector": {"matchLabels": {"app": "dittofs-server", "instance": "files"}}, "ingress": [{}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def rename_context(kubeconfig: Path, name: str) -> None:
    config = json.loads(kubeconfig.read_text())
    config["contexts"][0]["name"] = config["current-context"] = name
    kubeconfig.write_text(json.dumps(config))


def test_servers_of_the_go_operator_are_taken_over_with_all_they_have(cluster: Cluster, tenants: Tenants) -> None:
    whole, rest = tenants

    with step(tenants, "install this operator, until the shares are served", starts=1):
        reinstall(cluster)
        until_all(tenants, is_served)

    with step(tenants, "look", starts=0):
        for tenant in tenants:
            users = [user["username"] for user in tenant.files.api(PASSWORD, "GET", "/users")]

            assert users == ["admin", "eve"]
            assert tenant.files.read("media", "a") == CONTENT
            assert tenant.files.exports("adapter-nfs", go_operator.NFS_PORT) == ["/media"]

        until_all(tenants, lambda tenant: owners_of_secrets(tenant) == [])

    with rest.ledger.step("delete and create the DittoServer", starts=1):
        rest.user.kubectl("delete", "dittoserver", "files")
        until(lambda: rest.user.list_all("pods") == [], seconds=POD_SECONDS)
        run_again(rest)
        until_all((rest,), is_served)

        assert rest.files.read("media", "a") == CONTENT
        assert rest.files.login(PASSWORD)

    with whole.ledger.step("nothing", starts=0):
        assert is_served(whole)


def is_served(tenant: Tenant) -> bool:
    return is_ready(tenant.user) and tenant.files.exports() == ["/media"]


def owners_of_secrets(tenant: Tenant) -> list[Any]:
    """Returns the owners of the Secrets that the database on the claims depends on."""
    generated = [tenant.user.get("secret", f"files-{name}") for name in go_operator.GENERATED_SECRETS]
    return [owner for secret in generated for owner in secret["metadata"].get("ownerReferences") or []]


def run_again(tenant: Tenant) -> None:
    spec = {**go_operator.spec(STORAGE_CLASS), "image": CURRENT}
    create(tenant, {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "files"}, "spec": spec})
