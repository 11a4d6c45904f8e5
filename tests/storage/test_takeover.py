from typing import Any

import pytest

from app.storage.objects import Owner
from app.storage.status_schema import MAX_FIELD_PATH_CHARACTERS, MAX_IGNORED_FIELDS
from app.storage.takeover import (
    FINALIZER,
    ignored_fields,
    is_of_server,
    remaining_finalizers,
    without_owner,
)
from app.storage.unstructured import Manifest

OWNER = Owner("files", "here", "u")
OURS = {"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": "u"}


def secret(*references: Manifest) -> Manifest:
    return {"metadata": {"name": "files-jwt-secret", "namespace": "here", "ownerReferences": list(references)}}


@pytest.mark.parametrize(
    "reference",
    [OURS, {**OURS, "uid": "earlier"}, {**OURS, "apiVersion": "dittofs.dittofs.com/v2"}],
    ids=["this server", "an earlier server of the name", "another version"],
)
def test_a_secret_loses_the_server_as_an_owner(reference: Manifest) -> None:
    other = {**OURS, "kind": "ConfigMap", "name": "other", "uid": "o"}

    kept = without_owner(secret(reference, other), OWNER)

    assert kept
    assert kept["metadata"]["ownerReferences"] == [other]


@pytest.mark.parametrize(
    "reference",
    [
        {**OURS, "name": "other", "uid": "o"},
        {**OURS, "kind": "ConfigMap", "uid": "o"},
        {**OURS, "apiVersion": "example.com/v1", "uid": "o"},
    ],
    ids=["another server", "another kind", "another group"],
)
def test_an_owner_that_is_another_stays(reference: Manifest) -> None:
    assert without_owner(secret(reference), OWNER) is None


def test_a_secret_without_owners_stays() -> None:
    assert without_owner({"metadata": {"name": "files-jwt-secret"}}, OWNER) is None


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([], False),
        ([OURS], False),
        ([{**OURS, "controller": True}], True),
        ([{**OURS, "name": "other", "uid": "o", "controller": True}], False),
    ],
)
def test_a_generated_secret_is_controlled_by_the_server(references: list[Manifest], *, expected: bool) -> None:
    assert is_of_server(secret(*references), OWNER) is expected


@pytest.mark.parametrize(
    ("finalizers", "expected"),
    [(None, None), ([], None), (["other"], None), ([FINALIZER], []), (["a", FINALIZER, "b"], ["a", "b"])],
)
def test_only_the_finalizer_of_the_go_operator_goes(finalizers: Any, expected: Any) -> None:
    assert remaining_finalizers({"metadata": {"finalizers": finalizers}}) == expected


def test_fields_of_a_spec_are_named_by_their_paths() -> None:
    spec = {
        "storage": {"metadataSize": "1Gi", "controlPlaneSize": "1Gi"},
        "percona": {"enabled": True, "backup": {"bucket": "b"}},
        "identity": {"ldap": {"url": "ldap://x"}, "admin": None},
        "service": {"annotations": {"any/key": "x"}},
        "logging": None,
    }

    assert ignored_fields({"spec": spec}) == ("spec.identity.ldap", "spec.percona", "spec.storage.controlPlaneSize")


def test_fields_that_were_left_out_are_in_managed_fields() -> None:
    fields = {
        "f:metadata": {"f:annotations": {}},
        "f:spec": {
            ".": {},
            "f:image": {},
            "f:snapshotPolicies": {},
            "f:storage": {".": {}, "f:controlPlaneSize": {}},
            "f:resources": {"f:limits": {"f:memory": {}}},
        },
        "f:status": {"f:configHash": {}},
    }
    entries = [{"manager": "kubectl", "fieldsV1": fields}, {"manager": "manager", "fieldsV1": {"f:spec": {"f:x": {}}}}]

    assert ignored_fields({"metadata": {"managedFields": entries}, "spec": {}}) == (
        "spec.snapshotPolicies",
        "spec.storage.controlPlaneSize",
        "spec.x",
    )


def deep(levels: int) -> Manifest:
    fields: Manifest = {}
    for _ in range(levels):
        fields = {"f:storage": fields}
    return fields


@pytest.mark.parametrize(
    "manifest",
    [
        {"spec": None},
        {"spec": []},
        {"spec": {"storage": [1]}},
        {"metadata": None},
        {"metadata": {"managedFields": "x"}},
        {"metadata": {"managedFields": [None, "x", {}, {"fieldsV1": []}, {"fieldsV1": {"f:spec": [1]}}]}},
        {"metadata": {"managedFields": [{"fieldsV1": {"f:spec": deep(300)}}]}},
    ],
)
def test_what_no_api_server_sends_is_survived(manifest: Manifest) -> None:
    assert len(ignored_fields(manifest)) <= 1


def test_hostile_names_are_shortened_and_counted() -> None:
    names = {f"x{number:04}\n\x1b[31m{'y' * 500}": 1 for number in range(2000)}

    fields = ignored_fields({"spec": names})

    assert len(fields) == MAX_IGNORED_FIELDS
    assert all(len(field) <= MAX_FIELD_PATH_CHARACTERS and field.isprintable() for field in fields)
