from typing import Any

import pytest
from hypothesis import given

from app.storage.field_changes import NULL, FieldChange, field_changes, format_value, with_field
from app.storage.unstructured import Manifest
from tests.harness.json_strategies import ANY_OBJECT

OLD = {"nfsPort": 2049, "podTemplate": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "dittofs"}]}}}


def pod(**pod_spec: Any) -> Manifest:
    return {"podTemplate": {"spec": pod_spec}}


def changes(old: Manifest, new: Manifest) -> list[tuple[str, str, str]]:
    return [
        (change.field, format_value(change.before), format_value(change.after)) for change in field_changes(old, new)
    ]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ({"nfsPort": 1}, {"nfsPort": 2}, ("nfsPort", "1", "2")),
        ({"smb": {"port": 1}}, {"smb": {}}, ("smb.port", "1", "unset")),
        ({}, {"smb": {"port": 1}}, ("smb", "unset", '{"port": 1}')),
        (pod(hostname="a"), pod(hostname="b"), ("podTemplate.spec.hostname", "a", "b")),
        (
            pod(containers=[{"name": "a", "image": "x"}]),
            pod(containers=[{"name": "b"}, {"name": "a", "image": "y"}]),
            ("podTemplate.spec.containers[a].image", "x", "y"),
        ),
        (
            pod(containers=[{"name": "a", "env": [{"name": "A", "value": "1"}]}]),
            pod(containers=[{"name": "a", "env": [{"name": "A", "value": "2"}]}]),
            ("podTemplate.spec.containers[a].env[A].value", "1", "2"),
        ),
        (
            pod(securityContext={}),
            pod(securityContext={"runAsUser": None}),
            ("podTemplate.spec.securityContext.runAsUser", "unset", "null"),
        ),
        (
            pod(securityContext={"runAsUser": None}),
            pod(securityContext={}),
            ("podTemplate.spec.securityContext.runAsUser", "null", "unset"),
        ),
    ],
)
def test_a_change_is_that_of_one_field(old: Manifest, new: Manifest, change: tuple[str, str, str]) -> None:
    assert change in changes(old, new)


def test_a_sidecar_that_comes_or_goes_is_one_change() -> None:
    one, two = pod(containers=[{"name": "a"}]), pod(containers=[{"name": "a"}, {"name": "b", "image": "x"}])

    assert changes(one, two) == [("podTemplate.spec.containers[b]", "unset", '{"name": "b", "image": "x"}')]
    assert changes(two, one) == [("podTemplate.spec.containers[b]", '{"name": "b", "image": "x"}', "unset")]


def test_a_null_elsewhere_is_a_field_that_is_not_there() -> None:
    assert changes({"smb": {}}, {"smb": {"port": None}, "s3": None}) == []


@given(ANY_OBJECT, ANY_OBJECT)
def test_all_changes_together_lead_to_the_new_spec(old: Manifest, new: Manifest) -> None:
    for before, after in ((pod(**old), pod(**new)), (OLD, pod(**new))):
        spec = before
        for change in field_changes(before, after):
            spec = with_field(spec, change.path, change.after)

        assert list(field_changes(spec, after)) == []


def test_one_field_of_a_sidecar_changes_alone() -> None:
    change = FieldChange(("podTemplate", "spec", "containers", "[a]", "image"), "x", NULL)

    assert with_field(OLD, change.path, change.after) == {
        "nfsPort": 2049,
        "podTemplate": {"spec": {"containers": [{"name": "a", "image": None}, {"name": "dittofs"}]}},
    }
