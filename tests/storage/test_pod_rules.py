from dataclasses import replace

import pytest

from app.storage.change import Change
from app.storage.facts import Cause, DryRun, Unknown
from app.storage.reading import read
from app.storage.rules import invalid_findings, judge, needs
from tests.harness.judgements import QUIET, rejected, warned
from tests.harness.pod_table import VERBATIM_PODS
from tests.harness.server_table import (
    DIGEST,
    LATEST,
    RELEASE,
    VERBATIM,
    Row,
    s3,
    server,
)


def test_a_moving_tag_is_pinned_to_what_runs() -> None:
    digest = f"docker.io/marmos91c/dittofs@{DIGEST}"
    live = server(image=LATEST) | {"status": {"server": {"image": LATEST, "imageID": digest}}}
    change = replace(Change.read(server(image=LATEST)), live=live, exists=True)

    [finding] = judge(change, QUIET)

    assert finding.message == f'image "{LATEST}" may be a different one at each restart; pin what runs now: {digest}'


def test_an_image_change_names_the_database_to_back_up() -> None:
    database = {"type": "postgres", "postgresSecretRef": {"name": "s3", "key": "accessKeyId"}}

    [message] = warned(server(image=RELEASE, database=database), server(database=database))

    assert message.endswith("may fail or show no shares; back up the Postgres database first")


@pytest.mark.parametrize("characters", [53, 240, 253, 5000])
def test_a_long_name_is_no_error_beside_sections(characters: int) -> None:
    manifest = server("a" * characters, resources={"limits": {"memory": "1Gi"}})

    assert needs(Change.read(manifest)).stateful_set
    assert rejected(manifest) == [
        "metadata.name must have at most 52 lower-case letters, digits and dashes, beginning with a letter, "
        "to name Services and pods"
    ]


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
        facts = QUIET._replace(dry_run=DryRun((cause,), ("would violate PodSecurity",)))
        manifest = server(securityContext={"runAsUser": -1})

        assert rejected(manifest, facts=facts) == ["securityContext.runAsUser: Invalid value: -1"]
        assert warned(manifest, facts=facts) == ["the API server warns: would violate PodSecurity"]

    def test_that_failed_rejects_nothing(self) -> None:
        facts = QUIET._replace(dry_run=Unknown("forbidden: you may not"))
        manifest = server(securityContext={"runAsUser": -1})

        assert rejected(manifest, facts=facts) == []
        assert warned(manifest, facts=facts) == [
            "Could not verify securityContext with the API server: forbidden: you may not"
        ]

    @pytest.mark.parametrize("row", [*VERBATIM, *VERBATIM_PODS], ids=lambda row: row.title)
    def test_never_makes_an_existing_server_invalid(self, row: Row) -> None:
        assert invalid_findings(read(row.manifest)) == []
