from typing import Any

import pytest

from app.storage.change import Change
from tests.harness.server_table import server, storage


def test_a_new_server_adds_all_its_volumes() -> None:
    change = Change.read(server())

    assert [volume.name for volume in change.added] == ["metadata", "cache"]
    assert change.resized == change.added


def test_an_edit_resizes_what_it_names() -> None:
    change = Change.read(server(**storage(cacheSize="6Gi")), server())

    assert [volume.name for volume in change.resized] == ["cache"]
    assert not change.added


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (True, 1), (1, 1.0)])
def test_what_only_python_holds_equal_is_a_change(before: Any, after: Any) -> None:
    old, new = (server(podTemplate={"spec": {"x": [value]}}) for value in (before, after))

    assert not Change.read(new, old).spec_is_unchanged


def test_an_unchanged_spec_may_be_deep_or_in_another_order() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    one = server(podTemplate={"spec": {"x": deep, "y": 1}})
    other = server(podTemplate={"spec": {"y": 1, "x": deep}})

    assert Change.read(one, other).spec_is_unchanged


def test_an_unchanged_spec_is_no_change() -> None:
    assert Change.read(server(), server()).spec_is_unchanged
    assert not Change.read(server(nfsPort=2050), server()).spec_is_unchanged
