from random import Random
from typing import Any

import pytest

from app.admission.review import WARNING_CHARACTERS
from app.storage.change import Change
from app.storage.facts import (
    PRIORITY_CLASS,
    SERVICE_ACCOUNT,
    Claim,
    Facts,
    Needs,
    ObjectReference,
    StorageClasses,
    Unknown,
)
from app.storage.reading import read
from app.storage.rules import RULES, invalid_findings, judge, needs
from app.storage.spec import Spec, Storage
from app.storage.unstructured import Manifest
from tests.harness.judgements import CLASSES, MOUNTS, QUIET, rejected, warned
from tests.harness.pod_table import ABOUT_PODS, BEYOND_THE_SCHEMA, MORE_PODS, VERBATIM_PODS
from tests.harness.random_servers import random_server
from tests.harness.server_table import (
    ABOUT_REFERENCES,
    ABOUT_THE_CLUSTER,
    ABOUT_THE_OBJECT,
    DOUBTFUL,
    EDITS,
    VERBATIM,
    Doubtful,
    Edit,
    Row,
    s3,
    server,
    storage,
)


@pytest.mark.parametrize(
    "row",
    [*ABOUT_THE_OBJECT, *ABOUT_PODS, *ABOUT_REFERENCES, *ABOUT_THE_CLUSTER, *VERBATIM, *MORE_PODS],
    ids=lambda row: row.title,
)
def test_the_table_of_servers_is_judged_as_it_says(row: Row) -> None:
    messages = rejected(row.manifest)
    says = () if row.only_a_cluster_knows else row.errors

    assert len(messages) == len(says)

    for text in says:
        assert any(text in message for message in messages), messages


@pytest.mark.parametrize("row", DOUBTFUL, ids=lambda row: row.title)
def test_the_table_of_doubts_is_judged_as_it_says(row: Doubtful) -> None:
    absent = [ObjectReference(kind, "gone") for kind in (PRIORITY_CLASS, SERVICE_ACCOUNT)]
    facts = Facts(CLASSES, {"s3-credentials": None, "gone": None}, objects=dict.fromkeys(absent))

    messages = warned(row.manifest, row.old, facts)

    assert rejected(row.manifest, row.old, facts) == []
    assert len(messages) == len(row.warnings)
    for message, text in zip(messages, row.warnings, strict=True):
        assert text in message
        assert len(message) <= WARNING_CHARACTERS


def test_a_rule_that_is_left_out_would_find_nothing() -> None:
    random = Random(19)
    rows = [*ABOUT_THE_OBJECT, *ABOUT_PODS, *ABOUT_REFERENCES, *ABOUT_THE_CLUSTER, *VERBATIM, *MORE_PODS]
    servers = [*(row.manifest for row in rows), *(random_server(random) for _ in range(200))]
    edits = [*((edit.new, edit.old) for edit in EDITS), *zip(servers, reversed(servers), strict=True)]
    changes = [*(Change.read(server) for server in servers), *(Change.read(new, old) for new, old in edits)]

    for change in changes:
        assert judge(change, QUIET) == judge(change, QUIET, tuple(RULES))


def test_each_rule_is_about_fields_that_exist() -> None:
    assert {field for fields in RULES.values() for field in fields} <= {*Spec.model_fields, *Storage.model_fields}


def test_a_pod_without_a_volume_for_metadata_is_not_tried() -> None:
    resources = {"limits": {"memory": "1Gi"}}

    assert needs(Change.read(server(resources=resources))).stateful_set
    assert needs(Change.read(server(resources=resources, **storage(metadataSize=7)))).stateful_set is None


def test_only_objects_that_were_not_named_before_are_looked_up() -> None:
    def naming(**pod: Any) -> Manifest:
        return server(podTemplate={"spec": pod}, nfsPort=2049 + len(pod))

    class_and_secret = naming(priorityClassName="high", imagePullSecrets=[{"name": "a"}])
    more = naming(priorityClassName="high", serviceAccountName="sa", imagePullSecrets=[{"name": "b"}, {"name": "a"}])

    new, changed = needs(Change.read(class_and_secret)), needs(Change.read(more, class_and_secret))

    assert new.objects == {ObjectReference(PRIORITY_CLASS, "high")}
    assert new.secrets == {"a"}
    assert changed.objects == {ObjectReference(SERVICE_ACCOUNT, "sa")}
    assert changed.secrets == {"b"}
    assert needs(Change.read(class_and_secret, more)).objects == frozenset()


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


@pytest.mark.parametrize(
    "row", [*ABOUT_THE_OBJECT, *ABOUT_PODS, *ABOUT_REFERENCES, *BEYOND_THE_SCHEMA], ids=lambda row: row.title
)
def test_a_server_rejected_by_itself_is_invalid(row: Row) -> None:
    messages = [finding.message for finding in invalid_findings(read(row.manifest))]

    assert len(messages) == len(row.errors)

    for text in row.errors:
        assert any(text in message for message in messages), messages


@pytest.mark.parametrize("row", ABOUT_THE_CLUSTER, ids=lambda row: row.title)
def test_a_gap_in_the_cluster_makes_no_server_invalid(row: Row) -> None:
    assert invalid_findings(read(row.manifest)) == []


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


class TestAnUpdateThatLeavesTheSpec:
    @pytest.mark.parametrize("row", [*ABOUT_THE_OBJECT, *ABOUT_PODS], ids=lambda row: row.title)
    def test_is_admitted_whatever_the_spec_says(self, row: Row) -> None:
        deleting = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []}
        change = Change.read(row.manifest | {"metadata": {**row.manifest["metadata"], **deleting}}, row.manifest)

        assert needs(change) == Needs()
        assert judge(change, Facts()) == []

    def test_looks_up_nothing_that_another_field_asks_for(self) -> None:
        old = server(**s3())
        change = Change.read(server(nfsPort=2050, **s3()), old)

        assert needs(change) == Needs()
        assert judge(change, Facts(storage_classes=StorageClasses())) == []


class TestAnUpdateThatChangesSomethingElse:
    """An edit is not rejected for a field that it does not touch."""

    @pytest.mark.parametrize("row", [*VERBATIM, *VERBATIM_PODS], ids=lambda row: row.title)
    def test_is_admitted_whatever_goes_verbatim(self, row: Row) -> None:
        changed = {**row.manifest, "spec": {**row.manifest["spec"], "nfsPort": 2050}}
        change = Change.read(changed, row.manifest)

        assert needs(change) == Needs()
        assert judge(change, Facts()) == []

    def test_may_touch_the_neighbour_of_a_bad_key(self) -> None:
        old = s3(accessKeyIdKey="a b", secretName="A b")

        assert rejected(server(**s3(accessKeyIdKey="a b", secretName="A b", endpointKey="url")), server(**old)) == []
        assert len(rejected(server(**s3(accessKeyIdKey="a b", secretName="A c")), server(**old))) == 1

    def test_may_touch_the_neighbour_of_a_bad_annotation(self) -> None:
        old = server(service={"annotations": {"a b": "1"}})

        assert rejected(server(service={"annotations": {"a b": "2", "c": "3"}}), old) == []
        assert len(rejected(server(service={"annotations": {"a b": "1", "c d": "3"}}), old)) == 1


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
