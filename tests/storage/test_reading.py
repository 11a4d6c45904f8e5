from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.finding import rejection
from app.storage.reading import read
from app.storage.schema import spec_schema
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from tests.harness.every_field import Path, fields, text_of, value_at, with_value
from tests.harness.json_strategies import ANY_JSON
from tests.harness.server_table import server, storage


@given(ANY_JSON)
def test_any_json_can_be_read(value: Any) -> None:
    assert isinstance(read(value).server, DittoServer)


@given(st.dictionaries(st.sampled_from(sorted(spec_schema()["properties"])), ANY_JSON))
def test_any_json_in_any_field_of_the_spec_can_be_read(spec: dict[str, Any]) -> None:
    assert isinstance(read({"spec": spec}).server, DittoServer)


def test_only_what_cannot_be_read_is_left_out() -> None:
    reading = read({"spec": {"nfsPort": "x", "replicas": 0, "storage": {"metadataSize": "1Gi"}}})

    assert reading.errors == (rejection("spec.nfsPort", "nfsPort must be an integer"),)
    assert reading.server.spec.replicas == 0
    assert reading.server.spec.nfs_port == 2049


def test_a_section_without_a_required_field_is_left_out() -> None:
    reading = read({"spec": {"storage": {"metadataSize": "1Gi"}, "identity": {"jwt": {"secretRef": {"name": "x"}}}}})

    assert reading.errors == (rejection("spec.identity.jwt.secretRef.key", "identity.jwt.secretRef.key is required"),)
    assert reading.server.spec.identity.jwt is None


@pytest.mark.parametrize("manifest", [{}, {"spec": None}, {"spec": {"storage": {}}}, {"spec": {"storage": None}}])
def test_a_missing_metadata_size_is_reported_once(manifest: Any) -> None:
    assert read(manifest).errors == (rejection("spec.storage.metadataSize", "storage.metadataSize is required"),)


@pytest.mark.parametrize("path", [path for path, _ in fields() if path[-1] != 0], ids=text_of)
@pytest.mark.parametrize("other", [{}, {"nfsPort": "x"}], ids=["readable", "unreadable"])
def test_a_null_is_a_field_left_out(path: Path, other: Manifest) -> None:
    null, left_out = with_value(path, None), with_value(path, None)
    del value_at(left_out["spec"], path[:-1])[path[-1]]
    null["spec"] |= other
    left_out["spec"] |= other

    assert read(null) == read(left_out)


def test_metadata_with_nulls_is_read() -> None:
    reading = read(server() | {"metadata": {"name": "files", "namespace": None, "generateName": None}})

    assert not reading.errors
    assert reading.server.metadata.model_fields_set == {"name"}


def test_the_path_of_an_annotation_is_in_brackets() -> None:
    annotations = {"example.com/a": 1}

    [error] = read(server(service={"annotations": annotations})).errors

    assert error.path == "spec.service.annotations[example.com/a]"


def test_unknown_fields_are_listed_by_their_path() -> None:
    manifest = server(smb={"timeouts": {"reed": "1m"}}, nfsport=1, resources={"any": "thing"}) | {"specs": {}}

    assert read(manifest).unknown == ("spec.smb.timeouts.reed", "spec.nfsport", "specs")


def test_only_the_wrong_share_is_left_out() -> None:
    shares = [{"name": "a"}, {"name": "B"}, {"name": "c", "readOnly": 1, "quash": "none"}, "d"]

    reading = read(server(shares=shares))

    assert [error.path for error in reading.errors] == [
        "spec.shares[1].name",
        "spec.shares[2].readOnly",
        "spec.shares[3]",
    ]
    assert reading.unknown == ("spec.shares[2].quash",)
    assert [(share.name, share.read_only) for share in reading.server.spec.shares or ()] == [("a", False), ("c", False)]


def test_a_flood_of_unknown_fields_is_cut_short() -> None:
    assert len(read(server(**dict.fromkeys(map(str, range(1000)), 1))).unknown) == 10


def test_the_key_of_an_annotation_is_cut_in_its_path() -> None:
    annotations = {"x" * 10**6: 1}

    [error] = read(server(service={"annotations": annotations})).errors

    assert error.path == "spec.service.annotations." + "x" * 253


@pytest.mark.parametrize(
    "text", ["${SIZE}", "{}", "{0}", "{default}", "{pattern}", "{message}", "{x!r:>{y}}", "%s%(a)d", "}{"]
)
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (lambda text: storage(cacheSize=text), "such as 10Gi, not "),
        (lambda text: {"database": {"type": text}}, "must be 'sqlite' or 'postgres'"),
        (lambda text: {"nfsPort": text}, "must be an integer"),
        (lambda text: {"service": {"annotations": {text: 5}}}, "must be a string"),
        (lambda text: {"resources": text}, "must be an object"),
    ],
)
def test_user_text_is_never_a_format_string(spec: Any, expected: str, text: str) -> None:
    [error] = read(server(**spec(text))).errors

    assert expected in error.message
    assert "cacheSize" not in spec(text).get("storage", {}) or f'not "{text}"' in error.message


def test_a_manifest_that_is_no_object_is_one_error() -> None:
    assert read(["x"]).errors == (rejection("", "DittoServer must be an object"),)


def test_a_flood_of_wrong_entries_is_one_error() -> None:
    flood = {f"example.com/{number}": number for number in range(100_000)}

    [error] = read(server(service={"annotations": flood})).errors

    assert error.message == "service.annotations must have at most 256 entries"


def test_many_errors_are_cut_out_in_one_go() -> None:
    """Cutting them one by one would copy the whole spec each time, for minutes."""
    wrong = {"service": {"annotations": dict.fromkeys(map(str, range(256)), 1)}}
    unknown = dict.fromkeys(map(str, range(100_000)))

    reading = read({"spec": {"storage": {"metadataSize": "1Gi"}, **wrong, **unknown}})

    assert len(reading.errors) == 256
    assert reading.server.spec.storage.metadata_size == "1Gi"
