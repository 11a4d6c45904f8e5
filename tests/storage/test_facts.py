import base64
import gc
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult

import pytest

from app.storage.facts import (
    Claim,
    DryRun,
    ExistingObject,
    Facts,
    ObjectReference,
    Secret,
    StorageClass,
    StorageClasses,
    Trait,
)
from app.storage.postgres import parse_dsn
from certs.authority import Authority
from tests.harness.server_table import CERTIFICATE

MARKER = "m4rk3r-value"


def test_a_claim_tells_its_metadata_and_source() -> None:
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "nightly"}
    metadata = {"name": "x", "labels": {"a": "b"}, "annotations": {"c": "d"}}

    claim = Claim.read({"metadata": metadata, "spec": {"dataSourceRef": source}})

    assert (claim.labels, claim.annotations) == ({"a": "b"}, {"c": "d"})
    assert claim.data_source == ObjectReference("VolumeSnapshot", "nightly")
    for incomplete in (None, {}, {"kind": "VolumeSnapshot"}, {"name": "x"}):
        assert Claim.read({"metadata": metadata, "spec": {"dataSourceRef": incomplete}}).data_source is None


def test_a_storage_class_is_read_with_what_admission_uses() -> None:
    manifest = {
        "metadata": {
            "name": "fast",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "allowVolumeExpansion": True,
        "provisioner": "example.com/fast",
    }

    assert StorageClass.read(manifest) == StorageClass("fast", True, "2026-01-01T00:00:00Z", True, "example.com/fast")


@pytest.mark.parametrize(("mode", "waits"), [("WaitForFirstConsumer", True), ("Immediate", False), (None, False)])
def test_a_storage_class_may_wait_for_a_pod_with_a_node(mode: str | None, waits: bool) -> None:
    assert StorageClass.read({"metadata": {"name": "fast"}, "volumeBindingMode": mode}).waits_for_pod is waits


def test_the_beta_annotation_of_the_default_class_counts() -> None:
    annotations = {"storageclass.beta.kubernetes.io/is-default-class": "true"}

    assert StorageClass.read({"metadata": {"name": "old", "annotations": annotations}}).is_default


def test_the_newest_default_class_wins() -> None:
    older, newer = StorageClass("a", True, "2025-01-01T00:00:00Z"), StorageClass("b", True, "2026-01-01T00:00:00Z")
    twin = StorageClass("c", True, "2026-01-01T00:00:00Z")

    assert StorageClasses((older, twin, newer)).default == newer
    assert StorageClasses((StorageClass("d"),)).default is None


def test_a_claim_without_a_volume_has_no_capacity() -> None:
    assert Claim.read({"metadata": {"name": "x"}, "spec": {}}) == Claim("x")


def test_a_claim_tells_its_class_and_capacity() -> None:
    manifest = {
        "metadata": {"name": "x"},
        "spec": {"storageClassName": "fast"},
        "status": {"capacity": {"storage": "5Gi"}, "phase": "Bound"},
    }

    assert Claim.read(manifest) == Claim("x", "fast", "5Gi", "Bound")


def test_a_deleted_claim_is_terminating_until_it_is_gone() -> None:
    deleted = {"metadata": {"name": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"volumeName": "pv"}}

    assert (Claim.read(deleted).terminating, Claim.read(deleted).volume) == (True, "pv")
    assert not Claim.read({"metadata": {"name": "c"}}).terminating


def test_a_claim_without_a_phase_is_pending() -> None:
    assert Claim.read({"metadata": {"name": "x"}, "status": {}}).phase == "Pending"


GROWING = {
    "allocatedResources": {"storage": "20Gi"},
    "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
    "conditions": [
        {"type": "FileSystemResizePending", "status": "True", "lastTransitionTime": "2026-02-01T12:00:00Z"},
        {"type": "ControllerResizeError", "status": "True", "message": "at most\n 16Gi"},
        {"type": "NodeResizeError", "status": "False", "message": "it is over"},
    ],
}
ASKED: Any = {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}


def test_a_claim_tells_how_its_expansion_goes() -> None:
    claim = Claim.read({"metadata": {"name": "x"}, "status": GROWING})

    assert (claim.infeasible_size, claim.resize_error) == ("20Gi", "at most 16Gi")
    assert claim.waits_for_pod_since == "2026-02-01T12:00:00Z"


@pytest.mark.parametrize(
    ("state", "infeasible_size"), [("NodeResizeInfeasible", "10Gi"), ("ControllerResizeInProgress", None), (None, None)]
)
def test_only_an_infeasible_resize_has_a_size(state: str | None, infeasible_size: str | None) -> None:
    spec = {"resources": {"requests": {"storage": "10Gi"}}}
    status = {"allocatedResourceStatuses": {"storage": state}}

    assert Claim.read({"metadata": {"name": "x"}, "spec": spec, "status": status}).infeasible_size == infeasible_size


def test_a_claim_tells_who_set_its_size() -> None:
    labels: Any = {"f:metadata": {"f:labels": {}}}
    entries = [
        {"manager": "kubectl", "fieldsV1": labels},
        {"manager": "ours", "fieldsV1": {**labels, **ASKED}},
        {"manager": "none"},
    ]

    claim = Claim.read({"metadata": {"name": "x", "managedFields": entries}, "spec": {}})

    assert claim.requested_by == {"ours"}


def test_a_secret_has_a_type() -> None:
    assert Secret.read({"type": "kubernetes.io/dockercfg"}).type == "kubernetes.io/dockercfg"
    assert Secret.read({}).type == Secret().type == "Opaque"


@pytest.mark.parametrize(
    ("manifest", "existing"),
    [
        ({"kind": "ServiceAccount", "metadata": {"name": "a"}}, ExistingObject()),
        ({"kind": "ServiceAccount", "metadata": {"deletionTimestamp": "now"}}, ExistingObject(terminating=True)),
        ({"kind": "VolumeSnapshot", "metadata": {"name": "a"}}, ExistingObject(ready=False)),
        (
            {"kind": "VolumeSnapshot", "metadata": {}, "status": {"readyToUse": True, "restoreSize": "5Gi"}},
            ExistingObject(restore_size="5Gi"),
        ),
        # The CustomResourceDefinition of the snapshotter allows a number as well.
        (
            {"kind": "VolumeSnapshot", "metadata": {}, "status": {"restoreSize": 5}},
            ExistingObject(ready=False, restore_size="5"),
        ),
        ({"kind": "VolumeSnapshot", "metadata": {}, "status": {"restoreSize": "much"}}, ExistingObject(ready=False)),
        ({"kind": "VolumeSnapshot", "metadata": {}, "status": {"restoreSize": "9" * 65}}, ExistingObject(ready=False)),
    ],
)
def test_an_existing_object_is_read_with_its_state(manifest: Any, existing: ExistingObject) -> None:
    assert ExistingObject.read(manifest) == existing


def test_facts_are_merged_with_other_ones() -> None:
    classes, secret = StorageClasses((StorageClass("fast"),)), Secret({"k": frozenset()})
    account, priority = ObjectReference("ServiceAccount", "a"), ObjectReference("PriorityClass", "p")
    one = Facts(classes, secrets={"a": secret}, claims={"x": Claim("x")}, objects={account: ExistingObject()})
    other = Facts(secrets={"b": None}, claims={"y": None}, objects={priority: None}, dry_run=DryRun())
    both = Facts(
        classes,
        {"a": secret, "b": None},
        {"x": Claim("x"), "y": None},
        {account: ExistingObject(), priority: None},
        DryRun(),
    )

    assert one.merge(other) == other.merge(one) == both
    assert Facts().merge(Facts()) == Facts()


@pytest.mark.parametrize(
    ("value", "traits"),
    [
        ("", {Trait.EMPTY, Trait.SHORT, Trait.NOT_A_URL}),
        ("\n", {Trait.EMPTY, Trait.PADDED, Trait.SHORT, Trait.NOT_A_URL}),
        ("$2b$12$" + "x" * 50, {Trait.BCRYPT, Trait.NOT_A_URL}),
        ("https://s3.eu-west-1.amazonaws.com/a/path", set()),
        ("https://192.0.2.1:9000/a/very/long/path", set()),
        ("https://[2001:db8::1]:9000/a/long/path", set()),
        ("https://s3.example.com/a/very/long/path", {Trait.HOST_NAME}),
        ("https://amazonaws.com.example.com/a/path", {Trait.HOST_NAME}),
        ("http://s3.example.com", {Trait.PLAIN_HTTP, Trait.HOST_NAME, Trait.SHORT}),
        ("ftp://s3.example.com", {Trait.NOT_A_URL, Trait.SHORT}),
        ("\udcff\udcfe", {Trait.UNSENDABLE, Trait.NOT_A_URL, Trait.SHORT}),
        ("AK\nIA", {Trait.UNSENDABLE, Trait.NOT_A_URL, Trait.SHORT}),
        ("\ufeffAKIA", {Trait.UNSENDABLE, Trait.NOT_A_URL, Trait.SHORT}),
        (" AKIA\r\n", {Trait.PADDED, Trait.NOT_A_URL, Trait.SHORT}),
        (" AK IA ", {Trait.PADDED, Trait.UNSENDABLE, Trait.NOT_A_URL, Trait.SHORT}),
        ("".join(map(chr, range(0x21, 0x7F))), {Trait.NOT_A_URL}),
    ],
)
def test_a_value_is_reduced_to_its_traits(value: str, traits: set[Trait]) -> None:
    encoded = base64.b64encode(value.encode(errors="surrogateescape")).decode()

    assert Secret.read({"data": {"k": encoded}}).keys == {"k": {*traits, Trait.NO_CERTIFICATE}}


@pytest.mark.parametrize(
    ("value", "has_certificate"),
    [
        (CERTIFICATE, True),
        (CERTIFICATE.replace("\n", "\r\n"), True),
        (f"subject=CN = Private CA\n{CERTIFICATE}{CERTIFICATE}", True),
        (CERTIFICATE.replace("MAA=", "MIAA"), False),
        (CERTIFICATE.replace("MAA=", "MIAw" + "A" * 400), False),
        (CERTIFICATE.replace("MAA=", "not base64"), False),
        (CERTIFICATE.replace("MAA=", ""), False),
        (CERTIFICATE.replace("\n", " "), False),
        (f"    {CERTIFICATE}", False),
        (CERTIFICATE.removesuffix("-----END CERTIFICATE-----\n"), False),
        (CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"), False),
        (base64.b64encode(CERTIFICATE.encode()).decode(), False),
        ("-----BEGIN CERTIFICATE-----\n" * 20_000, False),
        ("", False),
    ],
)
def test_a_certificate_is_whole_and_in_pem(value: str, *, has_certificate: bool) -> None:
    traits = Secret.read({"stringData": {"k": value}}).keys["k"]

    assert (Trait.NO_CERTIFICATE not in traits) is has_certificate


def test_every_real_certificate_is_one() -> None:
    certificate = Authority.create("Private CA", datetime.now(UTC)).pem.decode()

    assert Trait.NO_CERTIFICATE not in Secret.read({"stringData": {"k": certificate}}).keys["k"]


def test_string_data_wins_over_data_as_in_the_api_server() -> None:
    secret = Secret.read({"data": {"k": "", "l": None}, "stringData": {"k": "x" * 32}})

    assert Trait.EMPTY not in secret.keys["k"]
    assert Trait.EMPTY in secret.keys["l"]


def test_no_value_is_kept() -> None:
    assert MARKER not in repr(Secret.read({"stringData": {"k": MARKER}}))


def test_nothing_keeps_the_value_of_a_secret() -> None:
    """The standard library caches what it has split."""
    Trait.read(f"https://{MARKER}.example.com".encode())
    Trait.read(MARKER.encode())
    parse_dsn(f"postgres://user:{MARKER}@host/database")

    kept = [text for text in gc.get_objects() if isinstance(text, SplitResult) and MARKER in text.geturl()]
    assert kept == []
