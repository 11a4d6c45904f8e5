from typing import Any

import pytest
from hypothesis import given

from app.storage.metadata import MAX_ANNOTATIONS_BYTES, MAX_ERRORS, field_path, metadata_errors
from tests.harness.json_strategies import ANY_JSON


def paths(metadata: Any) -> list[str]:
    return [error.path for error in metadata_errors(metadata)]


@given(ANY_JSON)
def test_any_json_is_judged(metadata: Any) -> None:
    assert len(metadata_errors(metadata)) <= MAX_ERRORS
    metadata_errors({"labels": metadata, "annotations": metadata, "ownerReferences": [metadata]})


@pytest.mark.parametrize("metadata", [None, {}, {"name": "a", "labels": None, "finalizers": [], "unknown": 1}])
def test_good_metadata_has_no_error(metadata: Any) -> None:
    assert metadata_errors(metadata) == []


@pytest.mark.parametrize(
    ("metadata", "path", "message"),
    [
        ("x", "metadata", "metadata must be an object"),
        (
            {"labels": {"a.b/c": 1}},
            "metadata.labels[a.b/c]",
            "metadata.labels[a.b/c] must be a string; put it in quotes",
        ),
        ({"generation": True}, "metadata.generation", "metadata.generation must be an integer"),
        ({"finalizers": "a"}, "metadata.finalizers", "metadata.finalizers must be a list"),
        ({"creationTimestamp": "2026-13-01T00:00:00Z"}, "metadata.creationTimestamp", "must be a time such as"),
        ({"ownerReferences": [{"controller": "x"}]}, "metadata.ownerReferences[0].controller", "must be true or false"),
        ({"labels": {"a": "b c"}}, "metadata.labels.a", "must be up to 63"),
        ({"labels": {"a b": "c"}}, "metadata.labels[a b]", "the key of metadata.labels[a b] must be up to 63"),
        ({"annotations": {"x" * 64: "c"}}, f"metadata.annotations.{'x' * 64}", "must be up to 63"),
        ({"namespace": "a.b"}, "metadata.namespace", "must be up to 63 lower-case"),
        ({"finalizers": ["a b"]}, "metadata.finalizers[0]", "must be up to 63"),
    ],
)
def test_an_error_has_its_path_and_what_was_expected(metadata: Any, path: str, message: str) -> None:
    [error] = metadata_errors(metadata)

    assert error.path == path
    assert message in error.message


def test_an_owner_lacks_what_identifies_it() -> None:
    assert paths({"ownerReferences": [{"name": "a"}]}) == [
        "metadata.ownerReferences[0].apiVersion",
        "metadata.ownerReferences[0].kind",
        "metadata.ownerReferences[0].uid",
    ]


def test_there_is_one_controller() -> None:
    owner = {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "b", "controller": True}

    assert paths({"ownerReferences": [owner, owner]}) == ["metadata.ownerReferences"]


def test_annotations_have_a_size_in_all() -> None:
    assert paths({"annotations": {"a": "x" * (MAX_ANNOTATIONS_BYTES - 1)}}) == []
    assert paths({"annotations": {"a": "x" * MAX_ANNOTATIONS_BYTES}}) == ["metadata.annotations"]


def test_a_long_domain_is_no_catastrophe() -> None:
    assert paths({"labels": {f"{'a-' * 50_000}/x": "y"}}) == ["metadata.labels[" + ("a-" * 50_000)[:253] + "]"]


def test_a_path_has_unusual_names_in_brackets() -> None:
    assert field_path("a", "b") == "a.b"
    assert field_path("a", "b.c/d") == "a[b.c/d]"
