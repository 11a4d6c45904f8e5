"""The objects of a server, and what the real API server makes of them."""

import base64
import json
from typing import Any

import pytest

from app.storage.desired import render
from app.storage.difference import differs, marked
from app.storage.objects import (
    Owner,
    admin_secret,
    jwt_secret,
    live_claim_templates,
    postgres_secret,
    stateful_set,
)
from app.storage.pod import PodRevision
from app.storage.reading import read
from app.storage.services import services
from app.storage.spec import Spec
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import s3, server, snapshot, storage

OWNER = Owner("files", "here", "uid-1")
HASHED = PodRevision(config_hash="hash")
MANY = {
    "metrics": {"enabled": True},
    "smb": {"enabled": True},
    "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
    "resources": {"limits": {"memory": "1024Mi", "cpu": 0.5}, "requests": {"cpu": "100m"}},
    "database": {"postgresSecretRef": {"name": "db", "key": "dsn"}},
    "securityContext": {"readOnlyRootFilesystem": False, "capabilities": {}},
    **s3(),
    **storage(contentSize="50Gi", cacheSize="1024Mi"),
}


def spec(**fields: Any) -> Spec:
    return read(server(**fields)).server.spec


def claims(**fields: Any) -> list[Any]:
    return [
        (
            claim["metadata"]["name"],
            claim["spec"]["resources"]["requests"]["storage"],
            claim["spec"].get("storageClassName"),
        )
        for claim in stateful_set(OWNER, spec(**fields), HASHED)["spec"]["volumeClaimTemplates"]
    ]


def test_the_claims_come_in_order_with_class_and_size() -> None:
    assert claims(**storage(contentSize="50Gi")) == [
        ("metadata", "10Gi", "fast"),
        ("content", "50Gi", "fast"),
        ("cache", "5Gi", "fast"),
    ]
    assert [name for name, *_ in claims()] == ["metadata", "cache"]


def test_a_template_has_what_the_volume_asks_for() -> None:
    given = {"labels": {"team": "a"}, "annotations": {"a": "b"}, "storageClassName": "slow", **snapshot()}
    [metadata, cache] = stateful_set(OWNER, spec(**storage(cache=given)), HASHED)["spec"]["volumeClaimTemplates"]

    assert metadata["metadata"] == {"name": "metadata"}
    assert cache == {
        "metadata": {
            "name": "cache",
            "labels": {"team": "a"},
            "annotations": {"a": "b", "dittofs.io/claim-metadata": '{"labels":["team"],"annotations":["a"]}'},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "slow",
            "dataSourceRef": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "nightly"},
            "resources": {"requests": {"storage": "5Gi"}},
        },
    }


@pytest.mark.parametrize(("given", "kept"), [(None, None), ("", "")])
def test_no_class_is_the_default_one_and_an_empty_one_is_kept(given: str | None, kept: str | None) -> None:
    assert {each[2] for each in claims(**storage(storageClassName=given))} == {kept}


def test_claims_are_retained() -> None:
    policy = stateful_set(OWNER, spec(), HASHED)["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_the_claim_templates_of_a_live_one_stay_as_they_are() -> None:
    live = stateful_set(OWNER, spec(), HASHED)
    live["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"] = "Filesystem"
    live["spec"]["volumeClaimTemplates"][0]["status"] = {"phase": "Pending"}
    kept = live_claim_templates(live)
    grown = stateful_set(OWNER, spec(**storage(cacheSize="9Gi", contentSize="1Gi")), HASHED, kept)

    assert grown == stateful_set(OWNER, spec(), HASHED)


def test_the_hash_is_an_annotation_of_the_pod() -> None:
    assert stateful_set(OWNER, spec(), HASHED)["spec"]["template"]["metadata"]["annotations"] == {
        "dittofs.io/config-hash": "hash"
    }


def test_everything_but_generated_secrets_is_owned() -> None:
    made = [jwt_secret(OWNER, b"x" * 32), admin_secret(OWNER, "p")]

    assert not any(OWNER.owns(manifest) for manifest in made)

    owned = [stateful_set(OWNER, spec(), HASHED), postgres_secret(OWNER, {"host": "h"}), *services(OWNER, spec())]

    assert all(OWNER.owns(manifest) for manifest in owned)
    assert not Owner("files", "here", "uid-2").owns(owned[0])


def test_the_generated_secrets_hold_what_the_pod_reads() -> None:
    admin = admin_secret(OWNER, "pass")["data"]
    assert {key: base64.b64decode(value) for key, value in admin.items()} == {"username": b"admin", "password": b"pass"}
    assert base64.b64decode(jwt_secret(OWNER, b"token")["data"]["jwt-secret"]) == b"token"


@pytest.mark.parametrize("fields", [{}, MANY, {"replicas": 0}], ids=["minimal", "many", "stopped"])
def test_the_api_server_keeps_everything_as_it_is_wanted(
    control_plane: ControlPlane, namespace: str, fields: dict[str, Any]
) -> None:
    manifest = server(**fields)
    manifest["metadata"]["namespace"] = namespace
    wanted = [marked(each) for each in render(read(manifest).server)]
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    apply = ("apply", "--server-side", "--field-manager=dittofs-operator", "-f", "-")

    assert "Warning" not in control_plane.kubectl(*apply, input=items).stderr

    for each in wanted:
        kind, name = each["kind"], each["metadata"]["name"]
        live = json.loads(control_plane.kubectl("-n", namespace, "get", kind, name, "-o", "json").stdout)
        assert not differs(each, live), each
        assert "type" not in each or differs({**each, "type": "other"}, live)


@pytest.mark.parametrize("fields", [{}, MANY], ids=["minimal", "many"])
def test_the_pod_is_admitted_where_the_restricted_profile_is_enforced(
    control_plane: ControlPlane, namespace: str, fields: dict[str, Any]
) -> None:
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    template = stateful_set(OWNER, spec(**{**fields, "securityContext": None}), HASHED)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
    for name in ("metadata", "content", "cache"):
        pod["spec"]["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    create = ("-n", namespace, "create", "--dry-run=server", "-f", "-")

    assert "created" in control_plane.kubectl(*create, input=json.dumps(pod)).stdout


@pytest.mark.parametrize(
    "theirs",
    [
        {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
        {"spec": {"selector": {"matchLabels": {"e": "f"}}}},
    ],
    ids=["labels", "selector"],
)
def test_a_stateful_set_that_somebody_else_made_keeps_its_claim_templates(
    control_plane: ControlPlane, namespace: str, theirs: dict[str, Any]
) -> None:
    owner = Owner("files", namespace)
    made = stateful_set(owner, spec(), HASHED)
    for template in made["spec"]["volumeClaimTemplates"]:
        for part, fields in theirs.items():
            template[part].update(fields)
    control_plane.kubectl("create", "-f", "-", input=json.dumps(made))
    live = json.loads(control_plane.kubectl("-n", namespace, "get", "sts", "files", "-o", "json").stdout)
    wanted = marked(stateful_set(owner, spec(), PodRevision(config_hash="other"), live_claim_templates(live)))
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=dittofs-operator", "-f", "-")
    control_plane.kubectl(*apply, input=json.dumps(wanted))
    after = json.loads(control_plane.kubectl("-n", namespace, "get", "sts", "files", "-o", "json").stdout)

    assert after["spec"]["volumeClaimTemplates"] == live["spec"]["volumeClaimTemplates"]
    assert not differs(wanted, after)
