import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.storage.core_types import fields_of
from app.storage.pod import without_nulls
from app.storage.strategic_merge import strategic_merge
from tests.controlplane.cluster import ControlPlane
from tests.harness.core_values import core_values
from tests.harness.json_strategies import ANY_OBJECT

ORIGINAL = {
    "containers": [
        {"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}], "securityContext": {"runAsUser": 1}},
        {"name": "b", "image": "y"},
    ],
    "nodeSelector": {"zone": "a", "disk": "ssd"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "terminationGracePeriodSeconds": 105,
}


def merge(**patch: Any) -> dict[str, Any]:
    return strategic_merge("PodSpec", ORIGINAL, patch)


def test_a_map_is_merged() -> None:
    assert merge(nodeSelector={"zone": "b", "cpu": "fast"})["nodeSelector"] == {
        "zone": "b",
        "disk": "ssd",
        "cpu": "fast",
    }


def test_null_removes_a_field_or_an_entry() -> None:
    merged = merge(terminationGracePeriodSeconds=None, nodeSelector={"zone": None}, hostname=None)

    assert "terminationGracePeriodSeconds" not in merged
    assert "hostname" not in merged
    assert merged["nodeSelector"] == {"disk": "ssd"}


def test_null_in_place_of_a_list_with_keys_removes_nothing() -> None:
    assert merge(containers=None) == ORIGINAL


def test_a_container_is_merged_by_name_and_keeps_its_place() -> None:
    new = {"name": "c", "image": "z", "command": None}

    merged = merge(containers=[new, {"name": "b", "image": "q"}, {"name": "a", "securityContext": {"runAsUser": None}}])

    assert merged["containers"] == [
        {**ORIGINAL["containers"][0], "securityContext": {}},  # type: ignore[index]
        {"name": "b", "image": "q"},
        {"name": "c", "image": "z"},
    ]


def test_variables_are_merged_by_name() -> None:
    [first, _] = merge(containers=[{"name": "a", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}])[
        "containers"
    ]

    assert first["env"] == [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]


def test_one_port_may_be_added_for_tcp_and_udp() -> None:
    ports = [{"containerPort": 53, "protocol": protocol} for protocol in ("TCP", "UDP")]

    [first, _] = merge(containers=[{"name": "a", "ports": ports}])["containers"]

    assert first["ports"] == ports


def test_tolerations_are_united() -> None:
    added = {"key": "b", "operator": "Exists"}

    assert merge(tolerations=[*ORIGINAL["tolerations"], added])["tolerations"] == [  # type: ignore[misc]
        {"key": "a", "operator": "Exists"},
        added,
    ]


def test_a_list_without_a_key_is_replaced() -> None:
    before = strategic_merge("PodSpec", {}, {"dnsConfig": {"searches": ["a"]}})

    assert strategic_merge("PodSpec", before, {"dnsConfig": {"searches": ["b"]}}) == {"dnsConfig": {"searches": ["b"]}}


@pytest.mark.parametrize("name", ["$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/a"])
def test_a_directive_has_no_effect(name: str) -> None:
    assert merge(**{name: "replace"}, nodeSelector={name: "delete"})["nodeSelector"].keys() >= {"zone", "disk"}
    assert name not in merge(**{name: "replace"})


def test_neither_value_is_changed() -> None:
    before = json.dumps(ORIGINAL)

    merge(containers=[{"name": "a", "env": None}], nodeSelector={"zone": None})

    assert json.dumps(ORIGINAL) == before


@given(ANY_OBJECT, st.dictionaries(st.sampled_from(sorted(fields_of("PodSpec"))), ANY_OBJECT | st.lists(ANY_OBJECT)))
def test_a_malformed_patch_is_passed_on(patch: dict[str, Any], more: dict[str, Any]) -> None:
    strategic_merge("PodSpec", strategic_merge("PodSpec", ORIGINAL, patch), more)


# kubectl replaces tolerations, and no template has ephemeral containers.
_UNLIKE_KUBECTL = ("tolerations", "ephemeralContainers")


def comparable(kind: str, value: Any) -> Any:
    """Sorts the lists that are merged by a key: kubectl puts what the patch adds at other places."""
    result = {}
    for name, item in without_nulls(value).items():
        field = fields_of(kind).get(name, {})
        if "$ref" in field:
            result[name] = comparable(field["$ref"], item)
        elif "mergeKey" in field:
            items = [comparable(field["items"]["$ref"], entry) for entry in item]
            result[name] = sorted(items, key=lambda entry: str(entry[field["mergeKey"]]))
        else:
            result[name] = item
    # What is left of an object without its only field is no difference to an API server.
    return {name: item for name, item in result.items() if item not in ({}, [])}


@settings(max_examples=40)
@given(core_values("PodSpec"), core_values("PodSpec", nulls=st.none()))
def test_kubectl_agrees(control_plane: ControlPlane, original: Any, patch: Any) -> None:
    original = {name: value for name, value in original.items() if name not in _UNLIKE_KUBECTL}
    patch = {name: value for name, value in patch.items() if name not in _UNLIKE_KUBECTL}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": original}

    options = ("patch", "--local", "--type=strategic", "--filename=-", "--output=json")
    patched = control_plane.kubectl(*options, "--patch", json.dumps({"spec": patch}), input=json.dumps(pod))

    assert comparable("PodSpec", strategic_merge("PodSpec", original, patch)) == comparable(
        "PodSpec", json.loads(patched.stdout).get("spec", {})
    )
