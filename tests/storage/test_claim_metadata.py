import json
from typing import Any

import pytest

from app.storage.claim_metadata import RECORD, is_reserved, metadata_patch, settable_annotations, template_metadata
from app.storage.facts import Claim
from app.storage.spec import VolumeSettings
from app.storage.unstructured import Manifest

NAME = "cache-files-0"
CONTROLLERS = {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "one"}


def settings(**fields: Any) -> VolumeSettings:
    return VolumeSettings.model_validate(fields)


def claim(labels: Manifest | None = None, record: Any = None, **annotations: str) -> Claim:
    """Returns a claim with these labels and annotations, and with a record of those that it has from the spec."""
    recorded = (
        {}
        if record is None
        else {RECORD: record if isinstance(record, str) else json.dumps(record, separators=(",", ":"))}
    )
    return Claim(NAME, labels=labels or {}, annotations={**annotations, **recorded})


def written(before: Claim, patch: Manifest | None) -> Claim:
    """Returns the claim as the API server has it after the merge patch."""
    merged = [
        {key: value for key, value in {**live, **(patch or {}).get(kind, {})}.items() if value is not None}
        for kind, live in (("labels", before.labels), ("annotations", before.annotations))
    ]
    return Claim(NAME, labels=merged[0], annotations=merged[1])


def created(given: VolumeSettings) -> Claim:
    """Returns a claim that the StatefulSet's controller creates from the template."""
    metadata = template_metadata(given)
    return Claim(NAME, labels=metadata.get("labels", {}), annotations=metadata.get("annotations", {}))


def test_a_template_without_settings_stays_as_it_is() -> None:
    for given in (settings(), settings(labels={}, annotations=None), settings(storageClassName="fast")):
        assert template_metadata(given) == {}


def test_a_claim_of_the_template_needs_no_write() -> None:
    for given in (
        settings(labels={"team": "a"}),
        settings(annotations={"a": "b"}),
        settings(labels={"b": "", "a": ""}),
    ):
        assert metadata_patch(given, created(given)) is None


def test_nothing_is_written_to_a_claim_without_settings() -> None:
    assert metadata_patch(settings(), claim({"app": "dittofs-server", "team": "a"}, **CONTROLLERS)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"labels": {"team": "a"}, "annotations": {"example.com/backup": "daily"}}),
        ({"labels": {"team": "a"}}, {"labels": {"team": "b"}}),
        ({"labels": {"team": "a", "tier": "1"}}, {"labels": {"tier": "1"}}),
        ({"labels": {"team": "a"}, "annotations": {"a": "b"}}, {}),
        ({"labels": {"team": "a"}}, {"annotations": {"team": "a"}}),
    ],
)
def test_a_live_claim_follows_the_spec(before: Manifest, after: Manifest) -> None:
    theirs = claim({"app": "dittofs-server", "owner": "them"}, **CONTROLLERS)
    first = written(theirs, metadata_patch(settings(**before), theirs))

    second = written(first, metadata_patch(settings(**after), first))

    assert metadata_patch(settings(**after), second) is None
    assert second.labels == {**theirs.labels, **after.get("labels", {})}
    record = {RECORD: second.annotations[RECORD]} if after else {}
    assert second.annotations == {**CONTROLLERS, **after.get("annotations", {}), **record}


def test_only_differences_are_written() -> None:
    live = claim({"team": "a", "tier": "1"}, {"labels": ["team", "tier"]})

    assert metadata_patch(settings(labels={"team": "b", "tier": "1"}), live) == {"labels": {"team": "b"}}


def test_what_others_set_to_the_same_value_is_theirs() -> None:
    live = claim({"team": "a"})

    assert metadata_patch(settings(labels={"team": "a"}), live) is None
    assert metadata_patch(settings(), live) is None


def test_what_others_removed_is_set_again() -> None:
    live = claim({}, {"labels": ["team"]})

    assert metadata_patch(settings(labels={"team": "a"}), live) == {"labels": {"team": "a"}}


def test_what_others_removed_needs_no_removal() -> None:
    live = claim({}, {"labels": ["team"]})

    assert metadata_patch(settings(), live) == {"annotations": {RECORD: None}}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "no JSON",
        "[]",
        "1",
        '{"labels": "team"}',
        '{"labels": {"team": 1}, "annotations": null}',
        '{"labels": [1, null, ["team"], {}]}',
        "[" * 100_000,
        '{"labels": ["app", "instance", "a b"], "annotations": ["pv.kubernetes.io/bind-completed", "a/b/c"]}',
        json.dumps({"labels": [], "annotations": [*CONTROLLERS, RECORD, "dittofs.io/other"]}),
    ],
)
def test_a_forged_record_removes_nothing_but_itself(record: str) -> None:
    live = claim({"app": "dittofs-server", "instance": "files", "team": "a"}, record, **CONTROLLERS)

    assert metadata_patch(settings(), live) == {"annotations": {RECORD: None}}


def test_a_forged_record_keeps_nothing_from_being_set() -> None:
    live = claim({"app": "dittofs-server"}, "[" * 100_000)

    after = written(live, metadata_patch(settings(labels={"team": "a"}), live))

    assert after == claim({"app": "dittofs-server", "team": "a"}, '{"labels":["team"]}')


@pytest.mark.parametrize(
    ("kind", "key", "reserved"),
    [
        ("labels", "app", True),
        ("labels", "instance", True),
        ("labels", "app.kubernetes.io/name", False),
        ("labels", "dittofs.io/a", False),
        ("annotations", "app", False),
        ("annotations", "dittofs.io/claim-metadata", True),
        ("annotations", "pv.kubernetes.io/bound-by-controller", True),
        ("annotations", "volume.kubernetes.io/storage-provisioner", True),
        ("annotations", "volume.beta.kubernetes.io/storage-class", True),
        ("annotations", "backup.volume.kubernetes.io/a", False),
    ],
)
def test_keys_of_others_are_reserved(kind: str, key: str, *, reserved: bool) -> None:
    assert is_reserved(kind, key) is reserved


def test_a_store_keeps_what_a_spec_may_set() -> None:
    mine = {"example.com/a": "b", RECORD: "{}"}

    assert settable_annotations({**CONTROLLERS, **mine, "dittofs.io/other": "x"}) == mine
