from typing import Any

import pytest

from app.storage.facts import Claim, Secret
from app.storage.live import LiveState
from app.storage.migration import Migration, plan_migration
from app.storage.takeover import FINALIZER
from app.storage.unstructured import Manifest
from tests.harness import go_operator

CLAIMS = {
    f"{volume}-files-0": Claim(f"{volume}-files-0", "fast", "1Gi", "Bound", "1Gi") for volume in go_operator.SIZES
}
ADMIN, JWT = "files-admin-bootstrap-credentials", "files-jwt-secret"
GENERATED = {name: {"metadata": {"name": name}} for name in (ADMIN, JWT)}


def dittoserver(**spec: Any) -> Manifest:
    metadata = {"name": "files", "namespace": "here", "finalizers": [FINALIZER]}
    api_version = "dittofs.dittofs.com/v1alpha1"
    content = go_operator.spec("fast", **spec)
    return {"apiVersion": api_version, "kind": "DittoServer", "metadata": metadata, "spec": content}


def migrate(manifest: Manifest | None = None, *others: str, others_type: str = "ClusterIP", **state: Any) -> Migration:
    live = LiveState(**{"claims": CLAIMS, "generated_secrets": GENERATED, **state})
    return plan_migration(manifest or dittoserver(), live, dict.fromkeys(others, others_type), knows_secrets=True)


def running() -> Manifest:
    return go_operator.stateful_set("files", "u", "fast", admin_secret=ADMIN)


def test_a_server_that_runs_restarts_once() -> None:
    migration = migrate(stateful_set=running())

    assert migration.restarts
    assert migration.first == ()
    assert "StatefulSet files is recreated around its pod to add cache" in migration.adopted


@pytest.mark.parametrize("stateful_set", [None, running()], ids=["claims only", "StatefulSet"])
def test_each_claim_is_mounted_where_its_data_is(stateful_set: Manifest | None) -> None:
    adopted = [line for line in migrate(stateful_set=stateful_set).adopted if line.startswith("volume claim")]

    assert adopted == [
        "volume claim metadata-files-0 is mounted at /data/metadata and /data/store/metadata",
        "volume claim content-files-0 is mounted at /data/content and /data/store/block",
        "volume claim cache-files-0 is created, and mounted at /data/cache",
        "volume claim controlplane-files-0 is mounted at /data/controlplane",
    ]


def test_what_clients_use_stays() -> None:
    others = ("Service files-adapter-nfs", "NetworkPolicy files-baseline", "Service others-adapter-smb")
    adopted = "\n".join(migrate(None, *others).adopted)

    assert "Service files-adapter-nfs stays" in adopted
    assert "NetworkPolicies files-baseline stay" in adopted
    assert "others" not in adopted


def test_a_password_that_nobody_has_comes_first() -> None:
    [lost] = migrate(generated_secrets={}).first

    assert f"Secret {ADMIN} does not exist" in lost
    assert "controlplane-files-0" in lost
    assert migrate(generated_secrets={}, former_admin_secret={"metadata": {}}).first == ()
    assert migrate(generated_secrets={}, claims={}).first == ()


def test_a_secret_without_a_connection_string_comes_first() -> None:
    database = {"type": "postgres", "postgresSecretRef": {"name": "db", "key": "dsn"}}
    manifest = dittoserver(database=database)

    [missing] = migrate(manifest, secrets={"db": Secret({"host": frozenset()})}).first

    assert 'missing key "dsn"; the Go operator reads other keys' in missing
    assert migrate(manifest, secrets={"db": Secret({"dsn": frozenset()})}).first == ()


@pytest.mark.parametrize("section", ["ldap", "kerberos"])
def test_users_of_a_directory_come_first(section: str) -> None:
    migration = migrate(dittoserver(identity={section: {"enabled": True}}))

    assert migration.ignored
    assert f"spec.identity.{section}" in migration.ignored
    assert "do not migrate this server" in migration.first[0]


def test_an_address_that_would_go_comes_first() -> None:
    [warning] = migrate(None, "Service files-api", others_type="LoadBalancer").first
    balanced = dittoserver(service={"type": "LoadBalancer"})

    assert "is of type LoadBalancer, and becomes ClusterIP: set spec.service.type to LoadBalancer" in warning
    assert migrate(balanced, "Service files-api", others_type="LoadBalancer").first == ()
    assert migrate(None, "Service files-api").first == ()


def test_an_invalid_spec_comes_first() -> None:
    manifest = dittoserver(storage={"metadataSize": "0Gi"})

    assert "metadataSize" in migrate(manifest).first[0]


def test_a_claim_that_is_being_deleted_comes_first() -> None:
    claim = Claim("controlplane-files-0", "fast", "1Gi", "Bound", "1Gi", terminating=True)

    assert "controlplane-files-0 is being deleted" in migrate(claims={**CLAIMS, claim.name: claim}).first[0]


def test_a_server_is_taken_over_once() -> None:
    ours = running()
    ours["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "dittofs-operator"}
    manifest = dittoserver()
    del manifest["metadata"]["finalizers"]

    migration = migrate(manifest, stateful_set=ours)

    assert migration.is_done
    assert not migration.restarts


def test_each_field_has_a_consequence() -> None:
    migration = migrate(dittoserver(percona={"enabled": True}, logging={"level": "DEBUG"}, mine=1))

    assert migration.ignored == {
        "spec.logging": "the server logs JSON at the level INFO",
        "spec.mine": "it has no effect",
        "spec.percona": "the PerconaPGCluster is no longer managed, and is deleted with the DittoServer",
        "spec.storage.controlPlaneSize": "an existing claim keeps its size",
    }
