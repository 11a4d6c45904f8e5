from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from

from app.storage.core_types import fields_of
from app.storage.difference import (
    APPLIED,
    MAPS_OF_QUANTITIES,
    QUANTITIES,
    changed_fields,
    differs,
    marked,
    patched_fields,
)
from tests.harness.json_strategies import ANY_JSON


def manifest(**content: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, **content}


def lives(wanted: dict[str, Any], **changed: Any) -> bool:
    """Whether an object that was made from `wanted`, and has `changed` since, is still as wanted."""
    return not differs(marked(wanted), {**marked(wanted), **changed})


def test_what_was_just_made_is_as_wanted() -> None:
    assert lives(manifest(spec={"replicas": 1}))


def test_what_others_add_is_no_difference() -> None:
    wanted = manifest(spec={"ports": [{"name": "nfs", "port": 1}], "type": "LoadBalancer"})
    ports = [{"name": "theirs", "port": 2}, {"name": "nfs", "port": 1, "nodePort": 30000}]
    assert lives(wanted, spec={"ports": ports, "type": "LoadBalancer", "clusterIP": "10.0.0.1"})


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"replicas": 2, "args": ["a", "b"], "ports": [{"name": "nfs", "port": 1}]},
        {"replicas": 1, "args": ["a"], "ports": [{"name": "nfs", "port": 1}]},
        {"replicas": 1, "args": ["a", "b", "c"], "ports": [{"name": "nfs", "port": 1}]},
        {"replicas": 1, "args": ["a", "b"], "ports": [{"name": "nfs", "port": 2}]},
        {"replicas": 1, "args": ["a", "b"], "ports": [{"name": "smb", "port": 1}]},
        {"replicas": 1, "args": ["a", "b"], "ports": None},
        "gone",
    ],
)
def test_what_was_changed_or_taken_away_is_a_difference(spec: Any) -> None:
    wanted = manifest(spec={"replicas": 1, "args": ["a", "b"], "ports": [{"name": "nfs", "port": 1}]})
    assert not lives(wanted, spec=spec)


def test_a_field_that_is_no_longer_wanted_is_a_difference() -> None:
    before = marked(manifest(spec={"replicas": 1, "paused": True}))
    assert differs(marked(manifest(spec={"replicas": 1})), before)


def test_an_object_without_the_mark_is_a_difference() -> None:
    assert not lives(manifest(), metadata={"name": "a"})
    assert lives(
        manifest(),
        metadata={"name": "a", "annotations": {"theirs": "1", **marked(manifest())["metadata"]["annotations"]}},
    )
    assert APPLIED in marked(manifest())["metadata"]["annotations"]


def test_one_volume_mounted_twice_is_two_items() -> None:
    mounts = [{"name": "metadata", "mountPath": path} for path in ("/data/metadata", "/data/controlplane")]
    assert lives(manifest(mounts=mounts), mounts=mounts[::-1])
    assert not lives(manifest(mounts=mounts), mounts=mounts[:1])


def test_items_without_a_name_are_told_apart_by_their_place() -> None:
    items = [{"a": 1}, {"a": 2}]
    assert lives(manifest(items=items))
    assert not lives(manifest(items=items), items=items[::-1])
    assert not lives(manifest(items=items), items=items[:1])


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ("1024Mi", "1Gi", True),
        (0.5, "500m", True),
        (2, "2", True),
        ("1.5Gi", "1536Mi", True),
        ("500m", "1", False),
        ("1G", "1Gi", False),
        ("junk", "junk", True),
        ("junk", "1Gi", False),
        ("1Gi", None, False),
    ],
)
def test_one_amount_can_be_written_in_many_ways(wanted: Any, live: Any, *, same: bool) -> None:
    spec = {"resources": {"limits": {"memory": wanted}}}
    assert lives(manifest(spec=spec), spec={"resources": {"limits": {"memory": live}}}) is same


def test_what_is_empty_may_be_left_out() -> None:
    assert lives(manifest(spec={"a": {}, "b": [], "c": "", "limits": {}}), spec={})


def test_a_value_where_an_empty_text_is_wanted_is_a_difference() -> None:
    assert not lives(manifest(spec={"storageClassName": ""}), spec={"storageClassName": "fast"})


def test_what_is_empty_is_not_what_somebody_else_wrote_there() -> None:
    assert not lives(manifest(annotations={"a": ""}), annotations={"a": "theirs"})
    assert lives(manifest(spec={"a": {}}), spec={"a": {"theirs": 1}})


@pytest.mark.parametrize("name", ["limits", "requests"])
def test_an_annotation_may_have_the_name_of_an_amount(name: str) -> None:
    assert lives(manifest(annotations={name: "1"}))
    assert not lives(manifest(annotations={name: "1"}), annotations={name: "2"})


def test_claim_templates_are_no_part_of_the_mark() -> None:
    one, other = (marked(manifest(spec={"volumeClaimTemplates": [size]})) for size in ({"a": 1}, {"a": 2}))
    assert one["metadata"] == other["metadata"]


@given(wanted=ANY_JSON, live=ANY_JSON, field=sampled_from(["limits", "claims", "sysctls"]))
def test_whatever_a_user_wrote_verbatim_can_be_compared(wanted: Any, live: Any, field: str) -> None:
    lives(manifest(spec={field: wanted}), spec={field: live})
    lives(manifest(spec={field: [{"name": "a"}, wanted]}), spec={field: [live, {"name": "a"}]})
    assert lives(manifest(spec={field: wanted}))


@pytest.mark.parametrize(
    ("wanted", "live", "is_same"),
    [
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, True),
        ({"emptyDir": {"sizeLimit": 0.5}}, {"emptyDir": {"sizeLimit": "500m"}}, True),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "2Gi"}}, False),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {}}, False),
        ({"resourceFieldRef": {"divisor": 1}}, {"resourceFieldRef": {"divisor": "1"}}, True),
        ({"overhead": {"cpu": "0.5"}}, {"overhead": {"cpu": "500m"}}, True),
        ({"hostNetwork": False}, {}, True),
        ({"hostNetwork": True}, {}, False),
        ({"hostNetwork": False}, {"hostNetwork": True}, False),
        ({"timeoutSeconds": 0}, {"timeoutSeconds": 1}, True),
        ({"imagePullPolicy": ""}, {"imagePullPolicy": "Always"}, True),
        ({"runAsUser": 0}, {}, False),
        ({"automountServiceAccountToken": False}, {}, False),
        ({"ports": [{"containerPort": 53, "name": ""}]}, {"ports": [{"containerPort": 53}]}, True),
        ({"ports": [{"containerPort": 53}]}, {"ports": [{"containerPort": 1}, {"containerPort": 53}]}, True),
        ({"hostAliases": [{"ip": "b"}]}, {"hostAliases": [{"ip": "a"}, {"ip": "b"}]}, True),
    ],
)
def test_the_api_server_spells_values_in_its_own_way(wanted: Any, live: Any, is_same: bool) -> None:
    assert lives(manifest(spec=wanted), spec=live) is is_same


def test_every_quantity_of_a_pod_is_compared_as_one() -> None:
    single: set[str] = set()
    maps: set[str] = set()
    kinds = ["PodSpec"]
    for kind in kinds:
        for name, field in fields_of(kind).items():
            if field.get("type") == "quantity":
                single.add(name)
            if field.get("additionalProperties") == {"type": "quantity"}:
                maps.add(name)
            references = (field.get("$ref"), field.get("items", {}).get("$ref"))
            kinds += [reference for reference in references if reference and reference not in kinds]

    assert (single, maps) == ({*QUANTITIES}, {*MAPS_OF_QUANTITIES})


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": ({"spec": {"replicas": 1}}, {"spec": {"replicas": 1}}, []),
    "the status": ({"status": {"phase": "a"}}, {"status": {"phase": "b"}}, []),
    "a value": ({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, ["spec.replicas"]),
    "a field that comes": ({}, {"spec": {"a": {"b": 1}}}, ["spec"]),
    "a field that goes": ({"data": {"a": "1", "b": "2"}}, {"data": {"a": "1"}}, ["data.b"]),
    "what is left out": ({"spec": {"a": ""}}, {"spec": {"a": None, "b": []}}, []),
    "an item with a name": (
        {"spec": {"containers": [container("a", image="x"), container("b", image="x")]}},
        {"spec": {"containers": [container("a", image="x"), container("b", image="y")]}},
        ["spec.containers[b].image"],
    ),
    "items without names": ({"spec": {"args": ["a"]}}, {"spec": {"args": ["b"]}}, ["spec.args"]),
    "a key that is no word": ({"data": {"a.yaml": "1"}}, {"data": {"a.yaml": "2"}}, ["data[a.yaml]"]),
    "an unprintable key": ({"data": {"a\n\x1b[2J": "1"}}, {"data": {}}, ["data[a  [2J]"]),
    "a long key": ({"data": {"-" * 300: "1"}}, {"data": {"a": "1", "-" * 300: "2"}}, [f"data[{'-' * 100}]", "data.a"]),
}


@pytest.mark.parametrize(("before", "after", "fields"), CHANGES.values(), ids=CHANGES)
def test_changed_fields_are_paths_without_values(
    before: dict[str, Any], after: dict[str, Any], fields: list[str]
) -> None:
    assert list(changed_fields(manifest(**before), manifest(**after))) == fields


def test_the_digest_is_a_change_only_if_it_is_the_only_one() -> None:
    before, after = marked(manifest(data={"a": "1"})), marked(manifest(data={"a": "2"}))
    assert changed_fields(before, after) == ("data.a",)
    assert changed_fields(manifest(), marked(manifest())) == ("metadata.annotations",)
    assert changed_fields(before, {**after, "data": before["data"]}) == (f"metadata.annotations[{APPLIED}]",)


def test_what_every_write_changes_is_no_change() -> None:
    before, after = ({"metadata": {"name": "a", "resourceVersion": version}} for version in "12")
    assert changed_fields(before, after) == ()


def test_many_changed_fields_are_cut() -> None:
    fields = changed_fields(manifest(data={"a": "1"}), manifest(data={f"k{number}": "v" for number in range(30)}))
    assert (len(fields), fields[-1]) == (21, "and 11 more")


@pytest.mark.parametrize("value", ["1", ""])
def test_a_section_of_many_entries_is_one_field(value: str) -> None:
    keys, items = {f"k{number}": value for number in range(1000)}, [{"name": f"i{number}"} for number in range(1000)]
    before, after = manifest(data=keys, spec={"a": items}), manifest(data={**keys, "a": "2"}, spec={"a": items[1:]})

    assert changed_fields(before, after) == ("data", "spec.a")


def test_the_fields_of_a_merge_patch_are_its_values() -> None:
    patch = {
        "metadata": {
            "name": "a",
            "namespace": "b",
            "labels": {"team": "a", "old": None},
            "annotations": {"x.io/a": "b"},
        }
    }

    assert patched_fields(patch) == ("metadata.labels.team", "metadata.labels.old", "metadata.annotations[x.io/a]")
