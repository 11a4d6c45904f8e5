import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.admission.review import WARNING_CHARACTERS
from app.storage.facts import Cause, Claim, DryRun, Facts, Needs, Secret, StorageClass, StorageClasses, Unknown
from app.storage.finding import Finding, rejections, warnings
from app.storage.reading import read
from app.storage.rules import Change, invalid_findings, judge, needs
from app.storage.status_schema import ServerStatus
from app.storage.unstructured import Manifest
from tests.harness.server_table import (
    ABOUT_REFERENCES,
    ABOUT_THE_CLUSTER,
    ABOUT_THE_OBJECT,
    DIGEST,
    DOUBTFUL,
    EDITS,
    ELASTIC,
    LATER,
    LATEST,
    LEFTOVERS,
    RELEASE,
    VERBATIM,
    Doubtful,
    Edit,
    Leftover,
    Row,
    jwt,
    s3,
    server,
    storage,
)

FAST = StorageClass("fast", is_default=True, expandable=True)
SLOW = StorageClass("slow")
FAST_FIXED = StorageClass("fast", is_default=True)
VOLUMES = ("metadata", "content", "cache")
CLASSES = StorageClasses((FAST, SLOW))
S3_SECRET = Secret.read(
    {"stringData": {"accessKeyId": "AKIA", "secretAccessKey": "s3cr3t", "endpoint": "https://192.0.2.1"}}
)
MOUNTS = "/data/metadata, /data/cache, /data/controlplane"
QUIET = Facts(storage_classes=CLASSES, secrets={"s3": S3_SECRET})


def rejected(manifest: Manifest, old: Manifest | None = None, facts: Facts = QUIET) -> list[str]:
    return [finding.message for finding in rejections(judge(Change.read(manifest, old), facts))]


def warned(manifest: Manifest, old: Manifest | None = None, facts: Facts = QUIET) -> list[str]:
    return [finding.message for finding in warnings(judge(Change.read(manifest, old), facts))]


def secret(**data: str) -> Facts:
    return Facts(storage_classes=CLASSES, secrets={"s3": Secret.read({"stringData": data})})


@pytest.mark.parametrize(
    "row", [*ABOUT_THE_OBJECT, *ABOUT_REFERENCES, *ABOUT_THE_CLUSTER, *VERBATIM], ids=lambda row: row.title
)
def test_the_table_of_servers_is_judged_as_it_says(row: Row) -> None:
    messages = rejected(row.manifest)
    says = () if row.only_a_cluster_knows else row.errors

    assert len(messages) == len(says)

    for text in says:
        assert any(text in message for message in messages), messages


@pytest.mark.parametrize("row", DOUBTFUL, ids=lambda row: row.title)
def test_the_table_of_doubts_is_judged_as_it_says(row: Doubtful) -> None:
    facts = Facts(storage_classes=CLASSES, secrets={"s3-credentials": None})

    messages = warned(row.manifest, row.old, facts)

    assert rejected(row.manifest, row.old, facts) == []
    assert len(messages) == len(row.warnings)
    for message, text in zip(messages, row.warnings, strict=True):
        assert text in message
        assert len(message) <= WARNING_CHARACTERS


def test_a_moving_tag_is_pinned_to_what_runs() -> None:
    digest = f"docker.io/marmos91c/dittofs@{DIGEST}"
    known = ServerStatus.model_validate({"image": LATEST, "imageID": digest})
    change = replace(Change.read(server(image=LATEST)), running=known)

    [finding] = judge(change, QUIET)

    assert finding.message == f'image "{LATEST}" may be a different one at each restart; pin what runs now: {digest}'


def test_an_image_change_names_the_database_to_back_up() -> None:
    database = {"type": "postgres", "postgresSecretRef": {"name": "s3", "key": "accessKeyId"}}

    [message] = warned(server(image=RELEASE, database=database), server(database=database))

    assert message.endswith("may fail or show no shares; back up the Postgres database first")


@pytest.mark.parametrize(
    ("endpoint", "warns"),
    [("https://s3.example.com", True), ("https://s3.eu-west-1.amazonaws.com", False), ("https://192.0.2.1", False)],
)
def test_an_endpoint_by_name_needs_a_bucket(endpoint: str, *, warns: bool) -> None:
    facts = secret(accessKeyId="AKIA", secretAccessKey="value", endpoint=endpoint)
    named = server(**s3())
    named["spec"]["s3"]["bucket"] = "media"
    complaint = "has a host name; without s3.bucket the server sends its requests to BUCKET.HOST"

    assert warned(named, facts=facts) == []
    assert warned(server(**s3()), facts=facts) == (
        [f'S3 credentials Secret "s3" key "endpoint" {complaint}'] if warns else []
    )
    # Without the bucket, the endpoint of before is another matter.
    assert bool(warned(server(**s3()), named, facts)) is warns


def test_a_good_server_gets_no_warning() -> None:
    assert warned(server(**s3())) == []


def test_rejections_are_sorted_and_precede_warnings() -> None:
    broken = server(nfsPort=0, controlPlane={"port": 80}, replicas=2, **storage(cacheSize="x"))

    findings = judge(Change.read(broken), QUIET)

    assert [finding.path for finding in findings] == [
        "spec.nfsPort",
        "spec.replicas",
        "spec.storage.cacheSize",
        "spec.controlPlane.port",
    ]
    assert [finding.rejects for finding in findings] == [True, True, True, False]


@pytest.mark.parametrize(("prefix", "fits"), [("a" * 47, True), ("a" * 48, False), ("files-", True), ("files.", False)])
def test_a_generated_name_counts_with_its_suffix(prefix: str, fits: bool) -> None:
    manifest = server() | {"metadata": {"generateName": prefix}}

    assert (rejected(manifest) == []) is fits


def test_a_server_without_a_name_is_rejected() -> None:
    assert "metadata.name must have" in rejected(server() | {"metadata": {}})[0]


def test_all_classes_are_listed_up_to_twenty() -> None:
    many = StorageClasses(tuple(StorageClass(f"class-{number:02}") for number in range(23)))

    [message] = rejected(server(), facts=Facts(storage_classes=many))

    assert message.endswith("class-18, class-19, and 3 more")


def test_a_cluster_without_classes_says_so() -> None:
    assert rejected(server(), facts=Facts(storage_classes=StorageClasses()))[0].endswith("there are: none")


@pytest.mark.parametrize(
    "value", ["AKIA\nX", "\ufeffAKIA", "AK IA", "AKIA\0", "AKIA\u00e4", "AK\tIA", "AKIA\x7f", "AK\u200bIA"]
)
@pytest.mark.parametrize("key", ["accessKeyId", "secretAccessKey"])
def test_a_key_that_no_header_carries_is_a_warning(key: str, value: str) -> None:
    whole = {"accessKeyId": "AKIA", "secretAccessKey": "s3cr3t", key: value}

    assert warned(server(**s3()), facts=secret(**whole)) == [
        f'S3 credentials Secret "s3" key "{key}" has characters that no HTTP header can carry; '
        "look for a line break, a byte order mark or a space inside it"
    ]


@pytest.mark.parametrize(
    "value", ["\ufeffhttps://s3.example.com", "https://s3.exa mple.com", "https://s3\n.example.com"]
)
def test_an_endpoint_has_one_warning_per_cause(value: str) -> None:
    facts = secret(accessKeyId="AKIA", secretAccessKey="s3cr3t", endpoint=value)

    [message] = warned(server(**s3()), facts=facts)

    assert message.startswith('S3 credentials Secret "s3" key "endpoint" has characters that no HTTP header can carry')


def test_white_space_around_a_key_is_one_warning() -> None:
    [message] = warned(server(**s3()), facts=secret(accessKeyId=" AKIA\n", secretAccessKey="s3cr3t"))

    assert message.endswith('key "accessKeyId" has white space around its value')


@pytest.mark.parametrize("characters", [53, 240, 253, 5000])
def test_a_long_name_is_no_error_beside_sections(characters: int) -> None:
    manifest = server("a" * characters, resources={"limits": {"memory": "1Gi"}})

    assert needs(Change.read(manifest)).stateful_set
    assert rejected(manifest) == [
        "metadata.name must have at most 52 lower-case letters, digits and dashes, beginning with a letter, "
        "to name Services and pods"
    ]


def test_a_generated_name_collides_with_no_secret() -> None:
    database = {"type": "postgres", "postgresSecretRef": {"name": "-postgres", "key": "dsn"}}

    messages = rejected(server(database=database) | {"metadata": {"generateName": "files-"}})

    assert not [message for message in messages if "must not be" in message]


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
    assert needs(Change.read(server())).storage_class == "fast"
    assert needs(Change.read(server(storage={"metadataSize": "1Gi"}))).storage_class is None


@pytest.mark.parametrize("row", [*ABOUT_THE_OBJECT, *ABOUT_REFERENCES], ids=lambda row: row.title)
def test_a_server_rejected_by_itself_is_invalid(row: Row) -> None:
    messages = [finding.message for finding in invalid_findings(read(row.manifest))]

    assert len(messages) == len(row.errors)

    for text in row.errors:
        assert any(text in message for message in messages), messages


@pytest.mark.parametrize("row", ABOUT_THE_CLUSTER, ids=lambda row: row.title)
def test_a_gap_in_the_cluster_makes_no_server_invalid(row: Row) -> None:
    assert invalid_findings(read(row.manifest)) == []


def test_volumes_bound_by_hand_need_no_class() -> None:
    manifest = server(**storage(storageClassName=""))
    nameless = {**manifest, "metadata": {"generateName": "files-"}}

    assert not needs(Change.read(nameless))

    assert needs(Change.read({**nameless, "spec": {**manifest["spec"], **s3()}}))
    assert needs(Change.read(manifest)).storage_classes
    assert warned(manifest, facts=Facts(storage_classes=StorageClasses())) == []


class TestTransitions:
    @pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.title)
    def test_the_table_of_changes_is_judged_as_it_says(self, edit: Edit) -> None:
        messages = rejected(edit.new, edit.old)

        assert len(messages) == len(edit.errors)

        for text, message in zip(edit.errors, messages, strict=True):
            assert text in message

    def test_an_unreadable_size_is_not_a_removed_one(self) -> None:
        [message] = rejected(server(**storage(contentSize="x")), server(**storage(contentSize="50Gi")))
        assert "must match" in message

    @pytest.mark.parametrize("size", ["6Gi", "8Gi", "20Gi"])
    def test_a_size_can_be_anything_above_the_volume(self, size: str) -> None:
        assert rejected(*self.resized(size), facts=self.live(capacity="6Gi")) == []

    def test_a_size_below_the_volume_names_the_minimum(self) -> None:
        [message] = rejected(*self.resized("5Gi"), facts=self.live(capacity="6Gi"))
        assert message == (
            "storage.cacheSize must be at least 6Gi, which volume claim cache-files-0 has; volumes cannot shrink"
        )

    def test_sizes_are_compared_as_amounts_not_as_text(self) -> None:
        assert rejected(*self.resized("6Gi"), facts=self.live(capacity="6G")) == []
        assert rejected(*self.resized("5722Mi"), facts=self.live(capacity="6G")) != []
        assert rejected(*self.resized("6144Mi"), facts=self.live(capacity="6Gi")) == []

    def test_the_same_amount_in_other_words_is_no_change(self) -> None:
        change = Change.read(server(**storage(cacheSize="1Gi")), server(**storage(cacheSize="1024Mi")))
        assert needs(change).claims == frozenset()

    def test_a_size_left_out_again_is_the_default_one(self) -> None:
        [message] = rejected(server(), server(**storage(cacheSize="7Gi")), facts=self.live(capacity="6Gi"))
        assert message.startswith("storage.cacheSize must be at least 6Gi")

    @pytest.mark.parametrize(
        ("size", "says"),
        [("5Gi", "must be at least 6Gi, which volume claim content-files-0 has"), ("6Gi", ""), ("7Gi", "cannot grow")],
    )
    def test_an_added_volume_has_to_suit_its_leftover_claim(self, size: str, says: str) -> None:
        new, old = server(**storage(contentSize=size)), server()

        assert needs(Change.read(new, old)).claims == {"content-files-0"}

        facts = Facts(CLASSES, claims={"content-files-0": Claim("content-files-0", "slow", "6Gi")})
        messages = rejected(new, old, facts)

        assert len(messages) == bool(says)
        assert says in "".join(messages)

    def test_a_fixed_class_is_named_with_expandable_ones(self) -> None:
        [message] = rejected(*self.resized("20Gi"), facts=self.live(capacity="6Gi", storage_class="slow"))
        assert 'StorageClass "slow" of volume claim cache-files-0 cannot expand volumes' in message
        assert message.endswith("classes that can: fast")

    def test_growth_in_a_class_that_was_deleted_is_refused(self) -> None:
        [message] = rejected(*self.resized("20Gi"), facts=self.live(capacity="6Gi", storage_class="gone"))
        assert 'StorageClass "gone" of volume claim cache-files-0 does not exist' in message

    def test_growth_without_a_class_is_refused(self) -> None:
        [message] = rejected(*self.resized("20Gi"), facts=self.live(capacity="6Gi", storage_class=None))
        assert "without a StorageClass" in message

    def test_growth_is_admitted_while_the_classes_are_unknown(self) -> None:
        facts = self.live(capacity="6Gi", storage_class="gone", classes=StorageClasses(gap="no answer"))

        assert rejected(*self.resized("20Gi"), facts=facts) == []
        assert warned(*self.resized("20Gi"), facts=facts) == [
            'Could not verify that StorageClass "gone" of volume claim cache-files-0 can expand volumes: no answer'
        ]

    def test_what_needs_no_growth_needs_no_class(self) -> None:
        facts = self.live(capacity="6Gi", storage_class="gone", classes=StorageClasses(gap="no answer"))
        assert warned(*self.resized("6Gi"), facts=facts) == []

    def test_a_claim_unbound_or_absent_forbids_nothing(self) -> None:
        assert rejected(*self.resized("1Gi"), facts=self.live(capacity=None)) == []
        assert rejected(*self.resized("1Gi"), facts=Facts(CLASSES, claims={"cache-files-0": None})) == []

    def test_an_unknown_claim_is_a_warning(self) -> None:
        facts = Facts(CLASSES, claims={"cache-files-0": Unknown("no answer within 2 s")})
        assert warned(*self.resized("1Gi"), facts=facts) == [
            "Could not verify volume claim cache-files-0: no answer within 2 s"
        ]

    @staticmethod
    def resized(size: str) -> tuple[Manifest, Manifest]:
        return server(**storage(cacheSize=size)), server(**storage(cacheSize="7Gi"))

    @staticmethod
    def live(capacity: str | None, storage_class: str | None = "fast", classes: StorageClasses = CLASSES) -> Facts:
        return Facts(classes, claims={"cache-files-0": Claim("cache-files-0", storage_class, capacity)})


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

    return Facts(classes, claims={name: existing.get(name) for name in names})


def messages_of(findings: Sequence[Finding]) -> list[str]:
    return [finding.message for finding in findings]


class TestAnUpdateThatLeavesTheSpec:
    @pytest.mark.parametrize("row", ABOUT_THE_OBJECT, ids=lambda row: row.title)
    def test_is_admitted_whatever_the_spec_says(self, row: Row) -> None:
        deleting = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []}
        change = Change.read(row.manifest | {"metadata": {**row.manifest["metadata"], **deleting}}, row.manifest)

        assert needs(change) == Needs()
        assert judge(change, Facts()) == []

    def test_looks_up_nothing_that_another_field_asks_for(self) -> None:
        old = server(**s3())
        change = Change.read(server(nfsPort=2050, **s3()), old)

        assert needs(change) == Needs(storage_class="fast")
        assert judge(change, Facts(storage_classes=StorageClasses())) == []


class TestAnUpdateThatChangesSomethingElse:
    """An edit is not rejected for a field that it does not touch."""

    @pytest.mark.parametrize("row", VERBATIM, ids=lambda row: row.title)
    def test_is_admitted_whatever_goes_verbatim(self, row: Row) -> None:
        changed = {**row.manifest, "spec": {**row.manifest["spec"], "nfsPort": 2050}}
        change = Change.read(changed, row.manifest)

        assert needs(change) == Needs(storage_class="fast")
        assert judge(change, Facts()) == []

    def test_may_touch_the_neighbour_of_a_bad_key(self) -> None:
        old = s3(accessKeyIdKey="a b", secretName="A b")

        assert rejected(server(**s3(accessKeyIdKey="a b", secretName="A b", endpointKey="url")), server(**old)) == []
        assert len(rejected(server(**s3(accessKeyIdKey="a b", secretName="A c")), server(**old))) == 1

    def test_may_touch_the_neighbour_of_a_bad_annotation(self) -> None:
        old = server(service={"annotations": {"a b": "1"}})

        assert rejected(server(service={"annotations": {"a b": "2", "c": "3"}}), old) == []
        assert len(rejected(server(service={"annotations": {"a b": "1", "c d": "3"}}), old)) == 1


class TestADryRunOfANewSection:
    def test_is_asked_for_when_a_section_is_new(self) -> None:
        manifest = server(resources={"limits": {"memory": "1Gi"}})
        manifest["metadata"]["namespace"] = "media"

        stateful_set = needs(Change.read(manifest)).stateful_set

        assert stateful_set
        assert (stateful_set["kind"], stateful_set["metadata"]["name"]) == ("StatefulSet", "files")
        assert stateful_set["metadata"]["namespace"] == "media"
        assert "ownerReferences" not in stateful_set["metadata"]

    def test_is_not_asked_for_without_a_section(self) -> None:
        assert needs(Change.read(server(image="a:1", **s3()))).stateful_set is None

    @pytest.mark.parametrize("section", ["resources", "securityContext", "podSecurityContext"])
    def test_is_asked_for_when_a_section_changes(self, section: str) -> None:
        old, new = server(**{section: {"a": 1}}), server(**{section: {"a": 2}})

        assert needs(Change.read(new, old)).stateful_set
        assert needs(Change.read(server(image="a:1", **{section: {"a": 1}}), old)).stateful_set is None
        assert needs(Change.read(server(), old)).stateful_set is None

    def test_of_a_generated_name_has_its_suffix(self) -> None:
        manifest = {**server(resources={"limits": {"cpu": 1}}), "metadata": {"generateName": "files-"}}

        stateful_set = needs(Change.read(manifest)).stateful_set

        assert stateful_set
        assert stateful_set["metadata"]["name"] == "files-xxxxx"

    def test_rejects_and_warns(self) -> None:
        cause = Cause("spec.template.spec.containers[0].securityContext.runAsUser", "Invalid value: -1")
        facts = replace(QUIET, dry_run=DryRun((cause,), ("would violate PodSecurity",)))
        manifest = server(securityContext={"runAsUser": -1})

        assert rejected(manifest, facts=facts) == ["securityContext.runAsUser: Invalid value: -1"]
        assert warned(manifest, facts=facts) == ["the API server warns: would violate PodSecurity"]

    def test_that_failed_rejects_nothing(self) -> None:
        facts = replace(QUIET, dry_run=Unknown("forbidden: you may not"))
        manifest = server(securityContext={"runAsUser": -1})

        assert rejected(manifest, facts=facts) == []
        assert warned(manifest, facts=facts) == [
            "Could not verify securityContext with the API server: forbidden: you may not"
        ]

    @pytest.mark.parametrize("row", VERBATIM, ids=lambda row: row.title)
    def test_never_makes_an_existing_server_invalid(self, row: Row) -> None:
        assert invalid_findings(read(row.manifest)) == []


class TestSecrets:
    def test_one_that_is_absent_is_a_warning(self) -> None:
        assert warned(server(**s3()), facts=Facts(CLASSES, secrets={"s3": None})) == [
            'S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts'
        ]

    def test_missing_keys_are_named_access_key_first(self) -> None:
        assert warned(server(**s3(accessKeyIdKey="z")), facts=secret()) == [
            'S3 credentials Secret "s3" missing key "z"',
            'S3 credentials Secret "s3" missing key "secretAccessKey"',
        ]

    def test_one_that_could_not_be_looked_up_is_a_warning(self) -> None:
        assert warned(server(**s3()), facts=Facts(CLASSES, secrets={"s3": Unknown("forbidden")})) == [
            'Could not verify S3 credentials Secret "s3": forbidden'
        ]

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            ({"accessKeyId": ""}, 'key "accessKeyId" is empty'),
            ({"accessKeyId": " \n"}, 'key "accessKeyId" is empty'),
            ({"secretAccessKey": "value\n"}, 'key "secretAccessKey" has white space around its value'),
            ({"endpoint": "s3.example.com"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "https://"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "https://[x"}, 'key "endpoint" is not a URL that starts with https:// or http://'),
            ({"endpoint": "http://[2001:db8::1]:9000"}, 'key "endpoint" is plain http; data travels unencrypted'),
        ],
    )
    def test_a_questionable_value_is_named_by_its_key(self, data: Mapping[str, str], complaint: str) -> None:
        good = {"accessKeyId": "AKIA", "secretAccessKey": "value", "endpoint": "https://192.0.2.1"}
        assert warned(server(**s3()), facts=secret(**{**good, **data})) == [f'S3 credentials Secret "s3" {complaint}']

    def test_a_short_signing_secret_will_not_start_the_server(self) -> None:
        manifest = server(**jwt(name="s3", key="k"))
        [message] = warned(manifest, facts=secret(k="x" * 31))

        assert message == 'JWT Secret "s3" key "k" has fewer than 32 characters; the server will not start'
        assert warned(manifest, facts=secret(k="x" * 32)) == []

    def test_a_password_that_looks_like_a_hash_is_a_warning(self) -> None:
        reference = {"passwordSecretRef": {"name": "s3", "key": "k"}}
        manifest = server(identity={"admin": reference})
        [message] = warned(manifest, facts=secret(k="$2b$12$abcdefghijklmnopqrstuv"))

        assert 'admin password Secret "s3" key "k" looks like a bcrypt hash' in message

    @pytest.mark.parametrize("optional", [True, False])
    def test_an_optional_reference_may_lead_nowhere(self, optional: bool) -> None:
        database = {"type": "postgres", "postgresSecretRef": {"name": "s3", "key": "dsn", "optional": optional}}
        absent = warned(server(database=database), facts=Facts(CLASSES, secrets={"s3": None}))
        incomplete = warned(server(database=database), facts=secret())

        assert bool(absent) is bool(incomplete) is not optional

    def test_a_reference_without_a_name_is_a_warning(self) -> None:
        [message] = warned(server(**jwt(key="k")))
        assert message == "identity.jwt.secretRef.name is not set; there is no Secret to read"

    def test_a_changed_reference_is_looked_up_again(self) -> None:
        change = Change.read(server(**s3(endpointKey="url")), server(**s3()))
        assert needs(change).secrets == {"s3"}

    def test_every_reference_is_looked_up_for_a_new_server(self) -> None:
        reference = {"key": "k"}
        manifest = server(
            database={"type": "postgres", "postgresSecretRef": {"name": "dsn", **reference}},
            identity={
                "jwt": {"secretRef": {"name": "jwt", **reference}},
                "admin": {"passwordSecretRef": {"name": "admin", **reference}},
            },
            **s3(),
        )
        manifest["metadata"]["namespace"] = "files"
        secrets = frozenset({"dsn", "jwt", "admin", "s3"})
        claims = frozenset({"metadata-files-0", "cache-files-0"})
        wanted = Needs("files", storage_classes=True, storage_class="fast", secrets=secrets, leftovers=claims)

        assert needs(Change.read(manifest)) == wanted


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"database": {"postgresSecretRef": {"name": "s3", "key": "endpoint"}}},
            "database.postgresSecretRef is set but database.type is 'sqlite' - PostgreSQL will take precedence",
        ),
        (
            storage(cachSize="5Gi"),
            "storage.cachSize is not a field of a DittoServer and is ignored; is it misspelt?",
        ),
        (
            {"database": {"type": "postgres"}},
            "database.type is 'postgres' but database.postgresSecretRef is not set; name the Secret",
        ),
        (
            {"controlPlane": {"port": 80}},
            "api port 80 is privileged; may require CAP_NET_BIND_SERVICE capability",
        ),
        (
            {"metrics": {"enabled": True, "port": 1023}},
            "metrics port 1023 is privileged; may require CAP_NET_BIND_SERVICE capability",
        ),
        (
            {"cache": {"size": "6GB"}},
            "cache.size 6GB is above storage.cacheSize 5Gi; the cache may fill its volume",
        ),
        ({"cache": {"size": "big"}}, 'cache.size "big" is not a size that DittoFS reads, such as 1GB'),
        (
            {"cache": {"path": "/var/cache"}},
            f"cache.path /var/cache is on no volume and is lost with the pod; volumes: {MOUNTS}",
        ),
        (
            {"database": {"sqlite": {"path": "/data/cache/../db"}}},
            f"database.sqlite.path /data/cache/../db is on no volume and is lost with the pod; volumes: {MOUNTS}",
        ),
    ],
)
def test_what_works_but_may_surprise_is_a_warning(spec: dict[str, Any], message: str) -> None:
    assert warned(server(**spec)) == [message]


def test_either_path_of_a_volume_is_on_it() -> None:
    assert warned(server(database={"sqlite": {"path": "/data/store/metadata/a.db"}})) == []
    assert warned(server(database={"sqlite": {"path": "/data/store/block/a.db"}}))
    assert warned(server(database={"sqlite": {"path": "/data/store/block/a.db"}}, **storage(contentSize="1Gi"))) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"nfsPort": 111},
        {"smb": {"enabled": True}},
        {"cache": {"size": "5GB", "path": "/data/cache/blocks"}},
        {"database": {"sqlite": {"path": "/data/metadata/x.db"}}},
        {"database": {"type": "postgres", "postgresSecretRef": {"name": "s3", "key": "endpoint"}}},
    ],
)
def test_what_is_fine_is_not_warned_about(spec: dict[str, Any]) -> None:
    assert warned(server(**spec)) == []
