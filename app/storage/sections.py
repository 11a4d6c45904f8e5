"""The sections of a spec that go into the pod verbatim: which changed, and whether the API server accepts them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from app.storage.core_types import violations
from app.storage.facts import DryRun, Unknown
from app.storage.finding import Finding, rejection, warning
from app.storage.objects import Owner, stateful_set
from app.storage.pod import CONTAINER, without_nulls
from app.storage.reading import field_name
from app.storage.spec import Spec
from app.storage.unstructured import Manifest

# No type of core/v1 is nested as deep, and what recurses into a value could not follow it any further.
MAX_LEVELS = 16

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
    """`field` is its path in a DittoServer, `path` the one in the StatefulSet, `kind` its type in core/v1."""

    field: str
    path: str
    kind: str
    attribute: str

    def value(self, spec: Spec) -> Mapping[str, Any]:
        """Returns what the user wrote; empty when it was left out."""
        return getattr(spec, self.attribute) or {}


SECTIONS = (
    Section("spec.resources", f"{_CONTAINER}.resources", "ResourceRequirements", "resources"),
    Section("spec.securityContext", f"{_CONTAINER}.securityContext", "SecurityContext", "security_context"),
    Section("spec.podSecurityContext", f"{_POD}.securityContext", "PodSecurityContext", "pod_security_context"),
)


def changed_sections(new: Spec, old: Spec | None) -> tuple[Section, ...]:
    """Returns the sections that are not empty and differ from before; for a new server, all that are not empty."""
    # A section that did not change is never judged: somebody else's mistake must not hold up an edit.
    changed = []
    for section in SECTIONS:
        text, old_text = _as_json(section.value(new)), _as_json(section.value(old) if old else {})
        if text not in ("{}", old_text):
            changed.append(section)
    return tuple(changed)


def _as_json(value: Mapping[str, Any]) -> str | None:
    """Returns None for what is nested too deep. JSON tells apart what Python holds equal: True and 1, or 1 and 1.0."""
    return None if _is_too_deep(value) else json.dumps(without_nulls(value), sort_keys=True)


def stateful_set_for_dry_run(owner: Owner, spec: Spec, changed: Sequence[Section]) -> Manifest:
    """Renders the server's StatefulSet without what would keep the API server from checking the changed sections."""
    # The API server stops at a section that it cannot read.
    unreadable = [
        section
        for section in SECTIONS
        if _is_too_deep(section.value(spec)) or (section not in changed and _violations(section, spec))
    ]
    return stateful_set(owner, spec.model_copy(update={section.attribute: None for section in unreadable}), None)


def with_live_sections(wanted: Manifest, live: Mapping[str, Any], kept: Sequence[Section]) -> Manifest:
    """Returns the StatefulSet with some sections as the live one has them; those that it lacks are left out."""
    template = deepcopy(wanted["spec"]["template"])

    for section in kept:
        # The path continues from the pod template, and the server's container is the only one that it leads into.
        path = section.path.removeprefix("spec.template.").replace("containers[0]", "containers")
        *parents, name = path.split(".")

        target, source = _follow(template, parents), _follow(live["spec"]["template"], parents)
        target.pop(name, None)
        if name in source:
            target[name] = source[name]
    return {**wanted, "spec": {**wanted["spec"], "template": template}}


def _follow(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) or {}
        if isinstance(value, list):
            value = next((container for container in value if container["name"] == CONTAINER), {})
    return value


def rejected_sections(findings: Sequence[Finding]) -> tuple[Section, ...]:
    """Returns the sections that findings reject; all of them where one finding is about no section in particular."""
    paths = [finding.path for finding in findings if finding.rejects]
    named = tuple(section for section in SECTIONS if any(_is_within(path, section.field) for path in paths))
    is_vague = any(not any(_is_within(path, section.field) for section in SECTIONS) for path in paths)
    return SECTIONS if is_vague else named


def section_findings(spec: Spec, changed: Sequence[Section], dry_run: DryRun | Unknown | None) -> Iterator[Finding]:
    """Judges the changed sections by the dry run, or by the types of core/v1 where there was none."""
    too_deep = [section for section in changed if _is_too_deep(section.value(spec))]
    for section in too_deep:
        yield rejection(section.field, f"{field_name(section.field)} is nested more than {MAX_LEVELS} deep")

    judged = [section for section in changed if section not in too_deep]
    known = [violation for section in judged for violation in _violations(section, spec)]

    if judged and isinstance(dry_run, DryRun):
        yield from _dry_run_findings(judged, known, dry_run)
        return

    if judged and isinstance(dry_run, Unknown):
        yield _unverified(judged, dry_run.why)
    yield from known


def _dry_run_findings(changed: Sequence[Section], known: Sequence[Finding], dry_run: DryRun) -> Iterator[Finding]:
    for text in dry_run.warnings:
        # A warning names a changed field, or is about the whole pod, such as those of Pod Security.
        path, colon, rest = text.partition(": ")
        section = _section_at(path)
        if section is None or not colon:
            yield warning(_common_field(changed), f"the API server warns: {text}")
        elif section in changed:
            path = section.field + path.removeprefix(section.path)
            yield warning(path, f"{field_name(path)}: {rest}")

    # The API server stops at the first value that it cannot read, and often does not say where that is.
    if not dry_run.decoded and known:
        yield from known
        return

    messages: dict[str, list[str]] = {}
    for cause in dry_run.causes[:_MAX_CAUSES]:
        section = _section_at(cause.field)
        is_unrelated = any(_is_within(cause.field, path) for path in _UNRELATED_FIELDS)
        if section and section in changed:
            field = section.field + cause.field.removeprefix(section.path)
        elif not section and not is_unrelated and (not cause.field or _is_within(cause.field, _POD)):
            field = _common_field(changed)
        else:
            continue

        message = " ".join(_DUMP.sub("", cause.message).split())[:_MAX_CAUSE_CHARACTERS]
        messages.setdefault(field, []).append(message)

    for field, texts in messages.items():
        ours = [violation for violation in known if violation.path == field]
        yield from ours or [rejection(field, f"{field_name(field)}: {text}") for text in texts]

    if not dry_run.decoded and not messages:
        yield _unverified(changed, f"{dry_run.causes[0].field}: {dry_run.causes[0].message}")


def _unverified(changed: Sequence[Section], why: str) -> Finding:
    names = " and ".join(field_name(section.field) for section in changed)
    return warning(_common_field(changed), f"Could not verify {names} with the API server: {why}")


def _section_at(path: str) -> Section | None:
    return next((section for section in SECTIONS if _is_within(path, section.path)), None)


def _is_within(path: str, parent: str) -> bool:
    return path == parent or path.startswith((f"{parent}.", f"{parent}["))


def _common_field(changed: Sequence[Section]) -> str:
    return changed[0].field if len(changed) == 1 else "spec"


def _violations(section: Section, spec: Spec) -> list[Finding]:
    return violations({"$ref": section.kind}, without_nulls(section.value(spec)), section.field)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_LEVELS):
        children: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                children += item.values()
            elif isinstance(item, list):
                children += item
        level = children
    return bool(level)
