import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.admission.review import WARNING_CHARACTERS
from app.storage.change import Change
from app.storage.facts import VOLUME_SNAPSHOT, Claim, Facts, ObjectReference, StorageClass, StorageClasses, Unknown
from app.storage.finding import Finding, rejections, warnings
from app.storage.rules import judge, needs
from app.storage.unstructured import Manifest
from tests.harness.judgements import (
    CLASSES,
    FAST,
    FAST_FIXED,
    SLOW,
    VOLUMES,
    rejected,
    warned,
)
from tests.harness.server_table import (
    ELASTIC,
    LATER,
    LEFTOVERS,
    Leftover,
    s3,
    server,
    storage,
)


def test_all_classes_are_listed_up_to_twenty() -> None:
    many = StorageClasses(tuple(StorageClass(f"class-{number:02}") for number in range(23)))

    [message] = rejected(server(), facts=Facts(storage_classes=many))

    assert message.endswith("class-18, class-19, and 3 more")


def test_a_cluster_without_classes_says_so() -> None:
    assert rejected(server(), facts=Facts(storage_classes=StorageClasses()))[0].endswith("there are: none")


def test_an_unknown_class_is_a_warning() -> None:
    unknown = Facts(storage_classes=StorageClasses(gap="forbidden"))

    assert rejected(server(), facts=unknown) == []
    assert warned(server(), facts=unknown) == ['Could not verify StorageClass "fast" exists: forbidden']


def test_a_known_class_needs_no_complete_list() -> None:
    assert warned(server(), facts=Facts(storage_classes=StorageClasses((FAST,), gap="no cluster"))) == []


def test_without_any_class_the_claims_stay_pending() -> None:
    manifest = server(storage={"metadataSize": "1Gi"})

    [message] = warned(manifest, facts=Facts(storage_classes=StorageClasses((SLOW,))))

    assert "the claims will stay Pending" in message
    assert warned(manifest) == []


def test_an_unknown_default_class_is_a_warning() -> None:
    [message] = warned(server(storage={"metadataSize": "1Gi"}), facts=Facts(storage_classes=StorageClasses(gap="why")))

    assert message == "Could not verify that there is a default StorageClass: why"


def test_the_class_that_is_named_is_asked_for() -> None:
    assert needs(Change.read(server())).class_names == {"fast"}
    assert needs(Change.read(server(storage={"metadataSize": "1Gi"}))).class_names == {None}


def test_volumes_bound_by_hand_need_no_class() -> None:
    manifest = server(**storage(storageClassName=""))
    nameless = {**manifest, "metadata": {"generateName": "files-"}}

    assert not needs(Change.read(nameless))

    assert needs(Change.read({**nameless, "spec": {**manifest["spec"], **s3()}}))
    assert needs(Change.read(manifest)).storage_classes
    assert warned(manifest, facts=Facts(storage_classes=StorageClasses())) == []


class TestLeftovers:
    @pytest.mark.parametrize("row", LEFTOVERS, ids=lambda row: row.title)
    def test_the_table_of_leftovers_is_judged_as_it_says(self, row: Leftover) -> None:
        findings = judge(Change.read(row.manifest), left(*row.claims))

        for messages, says in (
            (messages_of(rejections(findings)), row.errors),
            (messages_of(warnings(findings)), row.warnings),
        ):
            assert len(messages) == len(says), messages

            for message, text in zip(messages, says, strict=True):
                assert text in message

    def test_a_new_server_asks_for_its_claims(self) -> None:
        needed = needs(Change.read(server(**storage(contentSize="1Gi"))))

        assert needed.leftovers == {"metadata-files-0", "content-files-0", "cache-files-0"}
        assert needed.claims == frozenset()

    @pytest.mark.parametrize("metadata", [{"generateName": "files-"}, {"name": "a" * 53}, {"name": "../x"}, {}])
    def test_a_name_unknown_or_rejected_asks_for_no_claim(self, metadata: Manifest) -> None:
        assert needs(Change.read({**server(), "metadata": metadata})).leftovers == frozenset()

    def test_a_content_volume_added_later_is_warned_about(self) -> None:
        facts = Facts(CLASSES, claims={"content-files-0": Claim("content-files-0", "slow", "1Gi", "Bound")})

        [message] = warned(server(**storage(contentSize="1Gi")), server(), facts)

        assert 'is reused with its data: 1Gi of StorageClass "slow", not "fast"' in message

    def test_claims_of_a_server_that_exists_are_its_own(self) -> None:
        claims = {"cache-files-0": Claim("cache-files-0", "slow", "6Gi", "Bound")}
        shrinking = replace(Change.read(server()), exists=True)
        fitting = replace(Change.read(server(**storage(cacheSize="6Gi"))), exists=True)

        [finding] = judge(shrinking, Facts(CLASSES, claims=claims))

        assert "must be at least 6Gi" in finding.message
        assert judge(fitting, Facts(CLASSES, claims=claims)) == []

    def test_claims_unknown_for_one_reason_are_one_warning(self) -> None:
        names = ("metadata-files-0", "cache-files-0")

        [message] = warned(server(), facts=Facts(CLASSES, claims=dict.fromkeys(names, Unknown("no answer within 2 s"))))

        assert message == "Could not verify volume claims metadata-files-0, cache-files-0: no answer within 2 s"

    def test_claims_unknown_for_two_reasons_are_two_warnings(self) -> None:
        claims = {"metadata-files-0": Unknown("forbidden"), "cache-files-0": Unknown("no answer within 2 s")}

        assert warned(server(), facts=Facts(CLASSES, claims=claims)) == [
            "Could not verify volume claim metadata-files-0: forbidden",
            "Could not verify volume claim cache-files-0: no answer within 2 s",
        ]

    def test_growth_in_a_class_unknown_is_a_doubt(self) -> None:
        facts = Facts(
            StorageClasses((FAST,), gap="forbidden"), claims={"cache-files-0": Claim("cache-files-0", "x", "1Gi")}
        )

        assert "Could not verify that" in warned(server(), facts=facts)[0]

    def test_a_claim_names_when_it_was_created(self) -> None:
        claims = {"cache-files-0": Claim("cache-files-0", "fast", requested="5Gi", created="2026-01-01T00:00:00Z")}

        [message] = warned(server(), facts=Facts(CLASSES, claims=claims))

        assert message.startswith("volume claim cache-files-0, created 2026-01-01T00:00:00Z, is not bound yet")

    def test_the_volume_to_retain_is_named(self) -> None:
        claims = {"cache-files-0": Claim("cache-files-0", "fast", "5Gi", "Bound", volume="pv-1", terminating=True)}

        [message] = warned(server(), facts=Facts(CLASSES, claims=claims))

        assert message.endswith("set persistentVolumeReclaimPolicy of PersistentVolume pv-1 to Retain")

    @pytest.mark.parametrize("row", LEFTOVERS, ids=lambda row: row.title)
    def test_a_warning_of_a_long_name_is_whole(self, row: Leftover) -> None:
        name = row.manifest["metadata"]["name"]
        text = (
            json.dumps([row.manifest, row.claims])
            .replace(f"-{name}-0", f"-{'n' * 52}-0")
            .replace(f'"{name}"', f'"{"n" * 52}"')
        )
        manifest, claims = json.loads(text)
        created = [{**claim, "metadata": {"creationTimestamp": NOON, **claim["metadata"]}} for claim in claims]

        for finding in judge(Change.read(manifest), left(*created)):
            assert finding.rejects or len(finding.message) <= WARNING_CHARACTERS


NOON = "2026-02-01T12:00:00Z"


def left(*claims: Manifest) -> Facts:
    """Returns facts in which these claims exist, and no others."""
    names = {f"{volume}-{claim['metadata']['name'].split('-')[1]}-0" for claim in claims for volume in VOLUMES}
    existing = {claim["metadata"]["name"]: Claim.read(claim) for claim in claims}

    more = (StorageClass(ELASTIC, expandable=True), StorageClass(LATER, waits_for_pod=True))
    classes = StorageClasses((FAST_FIXED, SLOW, *more))

    absent = ObjectReference(VOLUME_SNAPSHOT, "nightly")
    return Facts(classes, claims={name: existing.get(name) for name in names}, objects={absent: None})


def messages_of(findings: Sequence[Finding]) -> list[str]:
    return [finding.message for finding in findings]


def test_either_path_of_a_volume_is_on_it() -> None:
    assert warned(server(database={"sqlite": {"path": "/data/store/metadata/a.db"}})) == []
    assert warned(server(database={"sqlite": {"path": "/data/store/block/a.db"}}))
    assert warned(server(database={"sqlite": {"path": "/data/store/block/a.db"}}, **storage(contentSize="1Gi"))) == []


@pytest.mark.parametrize(("mount", "is_lost"), [("/var", False), ("/var/", False), ("/var/cache", False), ("/v", True)])
def test_a_path_may_be_on_a_volume_of_a_pod_template(mount: str, is_lost: bool) -> None:
    mounts = [{"name": "mine", "mountPath": mount}]
    pod = {"containers": [{"name": "dittofs", "volumeMounts": mounts}]}

    assert bool(warned(server(cache={"path": "/var/cache"}, podTemplate={"spec": pod}))) is is_lost
