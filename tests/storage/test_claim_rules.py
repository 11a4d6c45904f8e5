from dataclasses import replace

import pytest

from app.storage.change import Change
from app.storage.facts import Claim, ExistingObject, Facts, ObjectReference, StorageClasses, Unknown
from app.storage.finding import rejections
from app.storage.rules import judge, needs
from app.storage.unstructured import Manifest
from tests.harness.judgements import CLASSES, QUIET, rejected, warned
from tests.harness.server_table import server, snapshot, storage

RESTORED = server(**storage(cache=snapshot()))
LEFTOVER = Claim("cache-files-0", "fast", "5Gi", "Bound")


def about_the_source(manifest: Manifest, claim: Claim | Unknown | None) -> list[str]:
    facts = Facts(CLASSES, claims={LEFTOVER.name: claim})
    return [message for message in warned(manifest, facts=facts) if "dataSourceRef has no effect" in message]


def test_a_claim_that_exists_is_not_restored() -> None:
    [message] = about_the_source(RESTORED, LEFTOVER)

    assert message.startswith("storage.cache.dataSourceRef has no effect: volume claim cache-files-0 exists")


def test_a_claim_restored_from_the_same_source_needs_no_warning() -> None:
    restored = replace(LEFTOVER, data_source=ObjectReference("VolumeSnapshot", "nightly"))

    assert about_the_source(RESTORED, restored) == []
    assert len(about_the_source(server(**storage(cache=snapshot("weekly"))), restored)) == 1


def test_a_claim_that_is_gone_or_unknown_needs_no_warning() -> None:
    for claim in (None, replace(LEFTOVER, terminating=True), Unknown("no answer")):
        assert about_the_source(RESTORED, claim) == []


def test_a_restored_volume_that_exists_is_not_looked_at() -> None:
    edited = server(**storage(cache=snapshot(), cacheSize="9Gi"))

    assert rejected(edited, RESTORED) == []
    assert not [message for message in warned(edited, RESTORED) if "no effect" in message]


@pytest.mark.parametrize(("least", "count"), [("5Gi", 0), ("6Gi", 1), ("6000M", 1), (None, 0)])
def test_a_volume_has_room_for_its_snapshot(least: str | None, count: int) -> None:
    source = ObjectReference("VolumeSnapshot", "nightly")
    manifest = server(**storage(cache=snapshot(), cacheSize="5Gi"))
    facts = Facts(CLASSES, objects={source: ExistingObject(restore_size=least)})

    expected = f'storage.cacheSize 5Gi is less than "{least}", which VolumeSnapshot "nightly" needs; its claim stays '
    assert warned(manifest, facts=facts) == [f"{expected}Pending"] * count


def test_a_finding_names_the_field_of_the_user() -> None:
    bad = {"labels": {"app": "a", "b c": "d"}, "annotations": {"pv.kubernetes.io/a": "b"}}
    paths = {finding.path for finding in rejections(judge(Change.read(server(**storage(cache=bad))), QUIET))}

    field = "spec.storage.cache"
    assert paths == {f"{field}.labels.app", f"{field}.labels[b c]", f"{field}.annotations[pv.kubernetes.io/a]"}


def test_the_neighbour_of_a_bad_label_can_be_edited() -> None:
    bad = {"labels": {"team": "a b"}, **snapshot("A b")}

    assert rejected(server(**storage(cache={**bad, "annotations": {"a": "b"}})), server(**storage(cache=bad))) == []
    assert len(rejected(server(**storage(cache={**bad, "labels": {"team": "c d"}})), server(**storage(cache=bad)))) == 1


def test_settings_of_an_unreadable_volume_are_no_second_error() -> None:
    assert len(rejected(server(**storage(contentSize="5G", content={"labels": {"a": "b"}})))) == 1


def test_every_class_of_a_new_server_is_asked_for() -> None:
    manifest = server(storage={"metadataSize": "1Gi", "cache": {"storageClassName": "slow"}})

    assert needs(Change.read(manifest)).class_names == {None, "slow"}


def test_a_class_that_each_volume_names_needs_no_default() -> None:
    own = {"metadata": {"storageClassName": "slow"}, "cache": {"storageClassName": ""}}
    manifest = server(storage={"metadataSize": "1Gi", **own})

    assert needs(Change.read(manifest)).class_names == {"slow"}
    assert "is the default" not in str(warned(manifest, facts=Facts(StorageClasses((CLASSES.known[1],)))))


def test_the_claim_without_a_class_is_named() -> None:
    manifest = server(storage={"metadataSize": "1Gi", "metadata": {"storageClassName": "slow"}})

    [message] = warned(manifest, facts=Facts(StorageClasses((CLASSES.known[1],))))

    assert message.endswith("no StorageClass is the default; the claim of cache will stay Pending")


def test_an_added_volume_asks_for_its_own_class() -> None:
    added = server(**storage(contentSize="1Gi", content={"storageClassName": "gone"}))

    assert "gone" in needs(Change.read(added, server())).class_names
    [message] = rejected(added, server())
    assert message.startswith('StorageClass "gone" does not exist in cluster')


def test_a_class_that_only_moves_is_not_asked_for() -> None:
    moved = server(**storage(metadata={"storageClassName": "fast"}, cache={"storageClassName": "fast"}))

    assert not needs(Change.read(moved, server()))
    assert rejected(moved, server(), Facts(StorageClasses())) == []
