from typing import Any

import jsonpatch
import pytest
from hypothesis import given

from app.admission.patch import patch
from tests.harness.json_strategies import ANY_OBJECT


def test_only_what_is_new_is_added() -> None:
    before = {"spec": {"storage": {"metadataSize": "1Gi"}}}
    after = {"spec": {"storage": {"metadataSize": "1Gi", "cacheSize": "5Gi"}}}
    assert patch(before, after) == [{"op": "add", "path": "/spec/storage/cacheSize", "value": "5Gi"}]


def test_equal_objects_need_no_patch() -> None:
    assert patch({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


@pytest.mark.parametrize(
    ("before", "after", "operation"),
    [
        ({"a/b": 1}, {"a/b": 2}, {"op": "replace", "path": "/a~1b", "value": 2}),
        ({"a~b": 1}, {}, {"op": "remove", "path": "/a~0b"}),
        ({"a": 1}, {"a": True}, {"op": "replace", "path": "/a", "value": True}),
        ({"a": {}}, {"a": None}, {"op": "replace", "path": "/a", "value": None}),
    ],
)
def test_names_are_escaped_and_types_told_apart(before: Any, after: Any, operation: Any) -> None:
    assert patch(before, after) == [operation]


@given(ANY_OBJECT, ANY_OBJECT)
def test_another_implementation_applies_it_alike(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert jsonpatch.apply_patch(before, patch(before, after)) == after
