from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.change import Change
from app.storage.facts import Cause, DryRun, Unknown
from app.storage.finding import Finding, rejection, warning
from app.storage.objects import Owner
from app.storage.reading import read
from app.storage.sections import (
    SECTIONS,
    changed_sections,
    rejected_sections,
    section_findings,
    stateful_set_for_dry_run,
)
from app.storage.spec import Spec
from tests.harness.json_strategies import ANY_JSON
from tests.harness.server_table import server

OWNER = Owner("files", "default")
CONTAINER = "spec.template.spec.containers[0]"
BAD = {"limit": {"memory": "1Gi"}}
IS_NO_FIELD = "resources.limit is not a field of a ResourceRequirements in Kubernetes 1.36; did you mean limits?"
RESOURCES, SECURITY, POD_SECURITY = SECTIONS[:3]


def spec(**sections: Any) -> Spec:
    return read(server(**sections)).server.spec


def fields(new: Spec, old: Spec | None = None) -> list[str]:
    return [section.field for section in changed_sections(new, old)]


def findings(new: Spec, dry_run: DryRun | Unknown | None, old: Spec | None = None) -> list[Finding]:
    return list(section_findings(new, changed_sections(new, old), dry_run))


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


class TestASectionIsJudged:
    def test_when_a_new_server_has_it(self) -> None:
        assert fields(spec(resources=BAD, podSecurityContext={"fsGroup": 1})) == [
            "spec.resources",
            "spec.podSecurityContext",
        ]

    @pytest.mark.parametrize("empty", [None, {}, {"limits": None}])
    def test_not_when_it_says_nothing(self, empty: Any) -> None:
        assert fields(spec(resources=empty)) == []
        assert fields(spec(resources=empty), spec(resources=BAD)) == []

    def test_not_when_it_stays_as_it_is(self) -> None:
        assert fields(spec(resources=BAD, nfsPort=2050), spec(resources={**BAD, "claims": None})) == []

    @pytest.mark.parametrize(("new", "old"), [(1, True), (1, 2), ("1", 1), ([1], [2])])
    def test_when_a_value_changes(self, new: Any, old: Any) -> None:
        assert fields(spec(securityContext={"a": new}), spec(securityContext={"a": old})) == ["spec.securityContext"]

    def test_unless_it_was_nested_too_deep_before(self) -> None:
        assert fields(spec(resources=nested(500)), spec(resources=nested(400))) == []
        assert fields(spec(resources=nested(500)), spec(resources=nested(1))) == ["spec.resources"]
        assert fields(spec(resources=nested(1)), spec(resources=nested(500))) == ["spec.resources"]


class TestAPodTemplateIsJudged:
    REMOVES: ClassVar[Any] = {"spec": {"securityContext": {"runAsUser": None}}}

    def test_when_it_removes_something(self) -> None:
        assert fields(spec(podTemplate=self.REMOVES)) == ["spec.podTemplate"]
        assert fields(spec(podTemplate=self.REMOVES), spec(podTemplate=self.REMOVES)) == []
        assert fields(spec(podTemplate=self.REMOVES), spec(podTemplate={"spec": {"securityContext": {}}})) != []

    def test_when_its_labels_change(self) -> None:
        new, old = ({"metadata": {"labels": {"team": value}}} for value in ("a", "b"))

        assert fields(spec(podTemplate=new), spec(podTemplate=old)) == ["spec.podTemplate"]

    def test_not_when_it_cannot_be_merged(self) -> None:
        """Another rule rejects it, and the API server would not understand what is left of it."""
        change = Change.read(server(podTemplate={"spec": {"restartPolicy": "Never"}}, resources=BAD))

        assert [section.field for section in change.sections] == ["spec.resources"]
        tried = stateful_set_for_dry_run(OWNER, change.spec, change.sections)
        assert "restartPolicy" not in tried["spec"]["template"]["spec"]


class TestTheStatefulSetForADryRun:
    def try_out(self, new: Spec, old: Spec | None = None) -> Any:
        return stateful_set_for_dry_run(OWNER, new, changed_sections(new, old))["spec"]["template"]["spec"]

    def test_has_the_sections_and_the_rest_of_the_server(self) -> None:
        tried = self.try_out(spec(resources=BAD, securityContext={"runAsUser": -1}, image="a:1"))

        [container] = tried["containers"]

        assert (container["resources"], container["image"]) == (BAD, "a:1")
        assert container["securityContext"]["runAsUser"] == -1

    def test_has_a_section_that_did_not_change(self) -> None:
        """A policy may insist on it."""
        old = spec(resources={"limits": {"cpu": 1}})

        tried = self.try_out(old.model_copy(update={"security_context": {"runAsUser": 1}}), old)

        assert tried["containers"][0]["resources"] == {"limits": {"cpu": 1}}

    def test_lacks_an_unchanged_one_that_cannot_be_read(self) -> None:
        """The API server would say nothing of the others."""
        old = spec(resources=BAD)

        tried = self.try_out(old.model_copy(update={"security_context": {"runAsUser": -1}}), old)

        assert "resources" not in tried["containers"][0]

    def test_lacks_one_that_is_nested_too_deep(self) -> None:
        assert "resources" not in self.try_out(spec(resources=nested(500)))["containers"][0]


class TestWithoutADryRun:
    def test_the_types_of_core_v1_decide(self) -> None:
        assert findings(spec(resources=BAD), None) == [rejection("spec.resources.limit", IS_NO_FIELD)]

    def test_one_that_failed_is_a_warning_as_well(self) -> None:
        unknown = Unknown("no answer within 2 s")

        assert findings(spec(resources=BAD, securityContext={"runAsUser": 1}), unknown) == [
            warning("spec", "Could not verify resources and securityContext with the API server: no answer within 2 s"),
            rejection("spec.resources.limit", IS_NO_FIELD),
        ]

    def test_a_section_nested_too_deep_is_rejected(self) -> None:
        deep = rejection("spec.resources", "resources is nested more than 16 deep")

        assert findings(spec(resources=nested(500)), None) == [deep]
        assert findings(spec(resources=nested(500)), DryRun()) == [deep]


class TestTheDryRun:
    def test_overrules_what_is_known_of_core_v1(self) -> None:
        """A newer API server has more fields."""
        assert findings(spec(resources=BAD), DryRun()) == []

    @pytest.mark.parametrize(
        ("sections", "field", "path"),
        [
            ({"resources": {"a": 1}}, f"{CONTAINER}.resources.limits[cpu]", "spec.resources.limits[cpu]"),
            ({"securityContext": {"a": 1}}, f"{CONTAINER}.securityContext", "spec.securityContext"),
            ({"podSecurityContext": {"a": 1}}, "spec.template.spec.securityContext.b", "spec.podSecurityContext.b"),
            ({"podSecurityContext": {"a": 1}}, "spec.template.spec.hostNetwork", "spec.podSecurityContext"),
            ({"podSecurityContext": {"a": 1}, "securityContext": {"a": 1}}, "spec.template.spec", "spec"),
        ],
    )
    def test_rejects_a_field_of_the_server(self, sections: Any, field: str, path: str) -> None:
        [finding] = findings(spec(**sections), DryRun((Cause(field, "Invalid value: 1"),)))

        assert finding == rejection(path, f"{path.removeprefix('spec.')}: Invalid value: 1")

    @pytest.mark.parametrize(
        "field",
        [
            f"{CONTAINER}.securityContext.runAsUser",
            "spec.template.spec.securityContext",
            f"{CONTAINER}.image",
            f"{CONTAINER}.env[2].valueFrom.secretKeyRef.key",
            "spec.template.spec.volumes[0].configMap.name",
            "spec.template.metadata.labels",
            "spec.volumeClaimTemplates[0].spec.storageClassName",
            "metadata.name",
        ],
    )
    def test_rejects_nothing_for_a_field_that_did_not_change(self, field: str) -> None:
        old = spec(securityContext={"runAsUser": -1})
        new = old.model_copy(update={"resources": {"limits": {"cpu": 1}}})

        assert findings(new, DryRun((Cause(field, "Invalid value"),)), old) == []

    def test_speaks_in_our_words_where_there_are_some(self) -> None:
        above = {"requests": {"cpu": 2, "memory": 2}, "limits": {"cpu": 1, "memory": 1}}
        cause = Cause(f"{CONTAINER}.resources.requests", "Invalid value: must be less than or equal to the limit")

        assert [finding.message for finding in findings(spec(resources=above), DryRun((cause, cause)))] == [
            "resources.requests has 2 of cpu, which is above its limit of 1",
            "resources.requests has 2 of memory, which is above its limit of 1",
        ]

    @pytest.mark.parametrize(
        ("path", "field"),
        [
            (f"{CONTAINER}.securityContext.runAsUser", "spec.podTemplate.spec.containers[1].securityContext.runAsUser"),
            (f"{CONTAINER}.resources.limits[cpu]", "spec.resources.limits[cpu]"),
            (f"{CONTAINER}.resources.limits[memory]", "spec.podTemplate.spec.containers[1].resources.limits[memory]"),
            (f"{CONTAINER}.env[2].valueFrom", "spec.podTemplate.spec.containers[1].env[0].valueFrom"),
            (f"{CONTAINER}.livenessProbe", "spec"),
            ("spec.template.spec.containers[1].image", "spec.podTemplate.spec.containers[0].image"),
            ("spec.template.spec.containers[1]", "spec.podTemplate.spec.containers[0]"),
            ("spec.template.spec.containers[7].image", "spec"),
            ("spec.template.spec.tolerations[0].key", "spec.tolerations[0].key"),
            ("spec.template.spec.tolerations[1].key", "spec.podTemplate.spec.tolerations[0].key"),
            ("spec.template.spec.volumes[5].emptyDir.medium", "spec.podTemplate.spec.volumes[0].emptyDir.medium"),
            ("spec.template.spec.volumes[3]", "spec"),
            ("spec.template.spec.hostPID", "spec.podTemplate.spec.hostPID"),
            ("spec.template.labels", "spec.podTemplate.metadata.labels"),
            ("spec.template.annotations[a]", "spec.podTemplate.metadata.annotations[a]"),
            ("spec.template.spec", "spec"),
        ],
    )
    def test_rejects_a_field_of_a_pod_template(self, path: str, field: str) -> None:
        own = {"name": "dittofs", "securityContext": {"runAsUser": -1}, "env": [{"name": "A"}]}
        pod = {
            "containers": [{"name": "sidecar"}, {**own, "resources": {"limits": {"memory": 1}}}],
            "tolerations": [{"key": "b"}],
            "volumes": [{"name": "a", "emptyDir": {"medium": "a"}}],
            "hostPID": True,
        }
        new = spec(podTemplate={"spec": pod}, resources={"limits": {"cpu": 1}}, tolerations=[{"key": "a"}])

        [finding] = findings(new, DryRun((Cause(path, "Invalid value"),)))

        assert finding.path == field

    def test_says_a_thing_once(self) -> None:
        cause = Cause("spec.template.labels", "Invalid value")

        assert len(findings(spec(podTemplate={"metadata": {"labels": {"a b": "c"}}}), DryRun((cause, cause)))) == 1

    def test_does_not_show_gos_form_of_a_section(self) -> None:
        cause = Cause(f"{CONTAINER}.securityContext", 'Invalid value: {"Privileged":true}: cannot\nset both')

        [finding] = findings(spec(securityContext={"privileged": True}), DryRun((cause,)))

        assert finding.message == "securityContext: cannot set both"

    def test_that_cannot_read_the_object_leaves_it_to_core_v1(self) -> None:
        unreadable = DryRun((Cause("", "json: cannot unmarshal string into Go struct field"),), decoded=False)
        sections = {"resources": BAD, "securityContext": {"runAsNonRoot": "yes"}}

        assert [finding.path for finding in findings(spec(**sections), unreadable)] == [
            "spec.resources.limit",
            "spec.securityContext.runAsNonRoot",
        ]

    def test_of_an_older_api_server_rejects_new_fields(self) -> None:
        unknown = DryRun((Cause(f"{CONTAINER}.resources.claims", "unknown field"),), decoded=False)
        unreadable = DryRun((Cause("", "json: cannot unmarshal"),), decoded=False)
        new = spec(resources={"claims": [{"name": "a"}]})

        assert findings(new, unknown) == [rejection("spec.resources.claims", "resources.claims: unknown field")]
        assert findings(new, unreadable) == [rejection("spec.resources", "resources: json: cannot unmarshal")]

    def test_that_stopped_at_another_section_is_no_answer(self) -> None:
        old = spec(securityContext={"procMount": "Default"})
        new = old.model_copy(update={"resources": {"limits": {"cpu": 1}}})
        unknown = DryRun((Cause(f"{CONTAINER}.securityContext.procMount", "unknown field"),), decoded=False)

        [finding] = findings(new, unknown, old)

        assert not finding.rejects
        assert finding.message.startswith("Could not verify resources with the API server: ")

    def test_warns_of_a_field_of_the_server(self) -> None:
        of_resources = f'{CONTAINER}.resources.limits[memory]: fractional byte value "500m" is invalid'
        of_others = f"{CONTAINER}.securityContext.a: deprecated"

        tried = DryRun(warnings=(of_resources, of_others))

        assert findings(spec(resources={"limits": {"memory": "500m"}}), tried) == [
            warning(
                "spec.resources.limits[memory]", 'resources.limits[memory]: fractional byte value "500m" is invalid'
            )
        ]

    def test_warns_of_pod_security(self) -> None:
        text = 'would violate PodSecurity "restricted:latest": runAsNonRoot != true'

        assert findings(spec(securityContext={"runAsNonRoot": False}), DryRun(warnings=(text,))) == [
            warning("spec.securityContext", f"the API server warns: {text}")
        ]

    def test_a_flood_of_causes_is_cut_off(self) -> None:
        flood = tuple(Cause(f"{CONTAINER}.resources.x{number}", "y" * 10_000) for number in range(1000))

        rejected = findings(spec(resources={"a": 1}), DryRun(flood))

        assert len(rejected) == 20
        assert max(len(finding.message) for finding in rejected) < 500


SECTION = st.none() | st.dictionaries(
    st.sampled_from(["limits", "requests", "runAsUser", "claims", "a"]) | st.text(), ANY_JSON
)
ANSWER = st.builds(
    DryRun,
    causes=st.lists(st.builds(Cause, st.text(), st.text()), max_size=3).map(tuple),
    warnings=st.lists(st.text(), max_size=3).map(tuple),
)


@given(resources=SECTION, security=SECTION, pod_security=SECTION, old=SECTION, answer=ANSWER)
def test_no_section_and_no_answer_breaks_a_rule(
    resources: Any, security: Any, pod_security: Any, old: Any, answer: DryRun
) -> None:
    new = spec(resources=resources, securityContext=security, podSecurityContext=pod_security)
    changed = changed_sections(new, spec(resources=old, securityContext=old))

    for tried in (None, Unknown("why"), answer):
        assert all(finding.path.startswith("spec") for finding in section_findings(new, changed, tried))

    assert stateful_set_for_dry_run(OWNER, new, changed)["kind"] == "StatefulSet"


@pytest.mark.parametrize(
    ("paths", "sections"),
    [
        ([], ()),
        (["spec.resources.limits"], (RESOURCES,)),
        (["spec.securityContext", "spec.resources"], (RESOURCES, SECURITY)),
        (["spec.podSecurityContext.fsGroup"], (POD_SECURITY,)),
        (["spec"], SECTIONS),
    ],
)
def test_findings_name_the_sections_to_keep(paths: list[str], sections: tuple[Any, ...]) -> None:
    assert rejected_sections([rejection(path, "bad") for path in paths]) == sections
    assert rejected_sections([warning(path, "odd") for path in paths]) == ()
