"""The sections of a spec that go into the pod verbatim: which changed, and whether the API server accepts them."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.storage.core_types import MAX_LEVELS, is_too_deep, violations
from app.storage.facts import DryRun, Unknown
from app.storage.finding import Finding, rejection, warning
from app.storage.object_defaults import with_defaults
from app.storage.objects import Owner, stateful_set
from app.storage.pod import PodRevision, without_nulls
from app.storage.pod_conflicts import pod_conflicts
from app.storage.pod_paths import path_in_patch
from app.storage.reading import field_name
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.schema import Schema
from app.storage.spec import PodTemplate, Spec
from app.storage.unstructured import Manifest

_POD = "spec.template.spec"
_CONTAINER = f"{_POD}.containers[0]"

# Other rules judge these fields, or the operator alone decides on them.
_UNRELATED_FIELDS = (f"{_CONTAINER}.image", f"{_CONTAINER}.env", f"{_POD}.volumes")
_MAX_CAUSES = 20
_MAX_CAUSE_CHARACTERS = 400

# Go's dump of a whole section tells a user nothing.
_DUMP = re.compile(r"^Invalid value: \{.*\}: ", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """`field` is its path in a DittoServer, `path` the one in the StatefulSet, `type` its type in core/v1."""

    field: str
    path: str
    type: Schema
    attribute: str

    def value(self, spec: Spec) -> Any:
        """Returns what the user wrote, of a podTemplate its spec; empty when it was left out."""
        value = getattr(spec, self.attribute)
        return (value.spec if isinstance(value, PodTemplate) else value) or {}

    def text(self, spec: Spec) -> str | None:
        """Returns JSON, which tells apart what Python holds equal: True and 1. None for what is nested too deep."""
        value, template = self.value(spec), spec.pod_template
        if is_too_deep(value):
            return None
        if self == POD_TEMPLATE and template:
            # In it, a null says something.
            metadata = {"labels": template.metadata.labels, "annotations": template.metadata.annotations}
            value = {**metadata, "removeDefaults": template.remove_defaults, "spec": value}
            return json.dumps({name: item for name, item in value.items() if item}, sort_keys=True)
        return json.dumps(_without_nulls(value), sort_keys=True)


POD_TEMPLATE = Section("spec.podTemplate", _POD, {"$ref": "PodSpec"}, "pod_template")
SECTIONS = (
    Section("spec.resources", f"{_CONTAINER}.resources", {"$ref": "ResourceRequirements"}, "resources"),
    Section("spec.securityContext", f"{_CONTAINER}.securityContext", {"$ref": "SecurityContext"}, "security_context"),
    Section(
        "spec.podSecurityContext", f"{_POD}.securityContext", {"$ref": "PodSecurityContext"}, "pod_security_context"
    ),
    Section(
        "spec.nodeSelector",
        f"{_POD}.nodeSelector",
        {"type": "object", "additionalProperties": {"type": "string"}},
        "node_selector",
    ),
    Section(
        "spec.tolerations", f"{_POD}.tolerations", {"type": "array", "items": {"$ref": "Toleration"}}, "tolerations"
    ),
    Section("spec.affinity", f"{_POD}.affinity", {"$ref": "Affinity"}, "affinity"),
    POD_TEMPLATE,
)
_ATTRIBUTES = tuple(section.attribute for section in SECTIONS)


def changed_sections(new: Spec, old: Spec | None) -> tuple[Section, ...]:
    """Returns the sections that are not empty and differ from before; for a new server, all that are not empty."""
    if new.model_fields_set.isdisjoint(_ATTRIBUTES):
        return ()

    # A section that did not change is never judged: somebody else's mistake must not hold up an edit.
    changed = []
    for section in SECTIONS:
        if getattr(new, section.attribute) is None:
            continue
        text, old_text = section.text(new), section.text(old) if old else "{}"
        if text not in ("{}", "[]", old_text):
            changed.append(section)
    return tuple(changed)


def stateful_set_for_dry_run(
    owner: Owner, spec: Spec, changed: Sequence[Section], defaults: ObjectDefaults = NO_DEFAULTS
) -> Manifest:
    """Renders the server's StatefulSet without what would keep the API server from checking the changed sections."""
    # The API server stops at a section that it cannot read.
    unreadable = [
        section
        for section in SECTIONS
        if is_too_deep(section.value(spec)) or (section not in changed and _is_unreadable(section, spec))
    ]

    readable = spec.model_copy(update={section.attribute: None for section in unreadable})
    return with_defaults(stateful_set(owner, readable, PodRevision(defaults=defaults)), defaults)


def _is_unreadable(section: Section, spec: Spec) -> bool:
    if getattr(spec, section.attribute) is None:
        return False
    return bool((section == POD_TEMPLATE and pod_conflicts(spec)) or _violations(section, spec))


def rejected_sections(findings: Sequence[Finding]) -> tuple[Section, ...]:
    """Returns the sections that findings reject; all of them where one finding is about no section in particular."""
    paths = [finding.path for finding in findings if finding.rejects]
    named = tuple(section for section in SECTIONS if any(_is_within(path, section.field) for path in paths))
    is_vague = any(not any(_is_within(path, section.field) for section in SECTIONS) for path in paths)
    return SECTIONS if is_vague else named


def too_deep(section: Section) -> Finding:
    return rejection(section.field, f"{field_name(section.field)} is nested more than {MAX_LEVELS} deep")


def section_findings(spec: Spec, changed: Sequence[Section], dry_run: DryRun | Unknown | None) -> Iterator[Finding]:
    """Judges the changed sections by the dry run, or by the types of core/v1 where there was none."""
    nested = [section for section in changed if is_too_deep(section.value(spec))]
    yield from map(too_deep, nested)

    judged = [section for section in changed if section not in nested]
    known = [violation for section in judged for violation in _violations(section, spec)]

    if judged and isinstance(dry_run, DryRun):
        yield from _dry_run_findings(spec, judged, known, dry_run)
        return

    if judged and isinstance(dry_run, Unknown):
        yield _unverified(judged, dry_run.why)
    yield from known


def _dry_run_findings(
    spec: Spec, changed: Sequence[Section], known: Sequence[Finding], dry_run: DryRun
) -> Iterator[Finding]:
    fields = _Fields(spec, changed)
    for text in dry_run.warnings:
        # A warning names a changed field, or is about the whole pod, such as those of Pod Security.
        path, colon, rest = text.partition(": ")
        field = fields.field_at(path) if colon else None
        if field:
            yield warning(field, f"{field_name(field)}: {rest}")
        elif not colon or _section_at(path) is None:
            yield warning(_common_field(changed), f"the API server warns: {text}")

    # The API server stops at the first value that it cannot read, and often does not say where that is.
    if not dry_run.decoded and known:
        yield from known
        return

    messages: dict[str, list[str]] = {}
    for cause in dry_run.causes[:_MAX_CAUSES]:
        path = cause.field
        field = fields.field_at(path)
        if field is None and (not path or _is_within(path, _POD)) and not fields.is_unrelated(path):
            field = _common_field(changed)
        if field:
            message = " ".join(_DUMP.sub("", cause.message).split())[:_MAX_CAUSE_CHARACTERS]
            messages.setdefault(field, []).append(message)

    for field, texts in messages.items():
        ours = [violation for violation in known if violation.path == field]
        yield from ours or [rejection(field, f"{field_name(field)}: {text}") for text in dict.fromkeys(texts)]

    if not dry_run.decoded and not messages:
        yield _unverified(changed, f"{dry_run.causes[0].field}: {dry_run.causes[0].message}")


@dataclass(frozen=True)
class _Fields:
    """Leads from paths in the StatefulSet of a dry run to the fields of the changed sections that they come from."""

    spec: Spec
    changed: Sequence[Section]

    @cached_property
    def pod(self) -> Manifest:
        """The pod as the API server counts its volumes: it puts those of the claim templates first."""
        manifest = stateful_set_for_dry_run(Owner("", ""), self.spec, self.changed)["spec"]
        pod: Manifest = manifest["template"]["spec"]
        volumes = pod.get("volumes")
        claims = [{"name": claim["metadata"]["name"]} for claim in manifest["volumeClaimTemplates"]]
        return {**pod, "volumes": [*claims, *(volumes if isinstance(volumes, list) else ())]}

    def field_at(self, path: str) -> str | None:
        """Returns the field of a changed section; None where the path is of none of them."""
        section = _section_at(path)
        in_section = section.field + path.removeprefix(section.path) if section in self.changed and section else None
        if POD_TEMPLATE not in self.changed:
            return in_section

        for name in ("labels", "annotations"):
            if _is_within(path, f"spec.template.{name}"):
                return f"{POD_TEMPLATE.field}.metadata.{path.removeprefix('spec.template.')}"

        # It is merged last, so that it has the last word about what several sections set.
        in_patch = path_in_patch(path.removeprefix(f"{_POD}."), self.pod, POD_TEMPLATE.value(self.spec))
        if not _is_within(path, _POD) or in_patch is None or (in_section and not in_patch[1]):
            return in_section
        return f"{POD_TEMPLATE.field}.spec.{in_patch[0]}"

    def is_unrelated(self, path: str) -> bool:
        """Tells whether a path is of a section that did not change, or of a field that other rules judge."""
        others = () if POD_TEMPLATE in self.changed else _UNRELATED_FIELDS
        return _section_at(path) is not None or any(_is_within(path, other) for other in others)


def _unverified(changed: Sequence[Section], why: str) -> Finding:
    names = " and ".join(field_name(section.field) for section in changed)
    return warning(_common_field(changed), f"Could not verify {names} with the API server: {why}")


def _section_at(path: str) -> Section | None:
    sections = (section for section in SECTIONS if section != POD_TEMPLATE)
    return next((section for section in sections if _is_within(path, section.path)), None)


def _is_within(path: str, parent: str) -> bool:
    return path == parent or path.startswith((f"{parent}.", f"{parent}["))


def _common_field(changed: Sequence[Section]) -> str:
    return changed[0].field if len(changed) == 1 else "spec"


def _violations(section: Section, spec: Spec) -> list[Finding]:
    field = f"{section.field}.spec" if section == POD_TEMPLATE else section.field
    return violations(section.type, _without_nulls(section.value(spec)), field)


def _without_nulls(value: Any) -> Any:
    return without_nulls({"": value})[""]
