from typing import Any

import pytest
from hypothesis import given

from app.storage.change import Change
from app.storage.facts import Facts, StorageClass, StorageClasses
from app.storage.finding import Finding, rejections
from app.storage.strictness import judge_manifest, unknown_fields
from app.storage.unstructured import Manifest
from tests.harness.json_strategies import ANY_JSON, ANY_OBJECT
from tests.harness.server_table import server, storage

QUIET = Facts(storage_classes=StorageClasses((StorageClass("fast", is_default=True),)))


def judged(manifest: Manifest, old: Manifest | None = None) -> list[Finding]:
    return judge_manifest(manifest, Change.read(manifest, old), QUIET)


def test_a_good_server_has_no_finding() -> None:
    assert judged(server()) == []


@given(ANY_OBJECT, ANY_JSON)
def test_any_json_is_judged(manifest: Any, metadata: Any) -> None:
    assert judged({**server(), **manifest, "metadata": metadata}) is not None


@pytest.mark.parametrize(
    ("manifest", "path", "meant"),
    [
        (server(nfsprt=1), "spec.nfsprt", "spec.nfsPort"),
        (server(NFSPORT=1), "spec.NFSPORT", "spec.nfsPort"),
        (server(cacheSize="1Gi"), "spec.cacheSize", "spec.storage.cacheSize"),
        (server(smb={"timeouts": {"reed": "1m"}}), "spec.smb.timeouts.reed", "spec.smb.timeouts.read"),
        ({**server(), "ApiVersion": "x"}, "ApiVersion", "apiVersion"),
        ({**server(), "metadata": {"name": "a", "labes": {}}}, "metadata.labes", "metadata.labels"),
        ({**server(), "labels": {}}, "labels", "metadata.labels"),
        ({**server(), "status": {"volumes": [{"nam": 1}]}}, "status.volumes[0].nam", "status.volumes[0].name"),
        (server(colour="red"), "spec.colour", None),
        (server(**{"storage.cacheSize": 1}), "spec[storage.cacheSize]", None),
    ],
)
def test_an_unknown_field_is_rejected_with_the_one_meant(manifest: Manifest, path: str, meant: str | None) -> None:
    suggestion = f'; did you mean "{meant}"?' if meant else ""

    assert judged(manifest) == [Finding(path, f'unknown field "{path}"{suggestion}', rejects=True)]


def test_an_unknown_null_is_dropped_by_kubectl() -> None:
    assert unknown_fields({**server(colour=None), "specs": None}) == []


def test_a_flood_of_unknown_fields_is_cut_short() -> None:
    assert len(judged(server(**dict.fromkeys(map(str, range(1000)), 1)))) == 10


def test_a_wrong_type_is_reported_once() -> None:
    messages = [finding.message for finding in judged({**server(), "metadata": {"name": 5}})]

    assert [message for message in messages if "must be a string" in message] == ["metadata.name must be a string"]


def test_rejections_are_sorted_and_come_first() -> None:
    manifest = {**server(nfsprt=1, controlPlane={"port": 80}, **storage(cacheSize="x")), "ApiVersion": "x"}

    findings = judged(manifest)

    assert [finding.path for finding in findings] == [
        "ApiVersion",
        "spec.nfsprt",
        "spec.storage.cacheSize",
        "spec.controlPlane.port",
    ]
    assert len(rejections(findings)) == 3


def test_another_version_is_the_only_finding() -> None:
    [finding] = judged({**server(nfsprt=1), "apiVersion": "v1"})

    assert finding.path == "apiVersion"


def test_an_unchanged_spec_hides_no_unknown_metadata() -> None:
    manifest = {**server(nfsPort=0), "metadata": {"name": "files", "labes": {}}}

    assert [finding.path for finding in judged(manifest, manifest)] == ["metadata.labes"]
