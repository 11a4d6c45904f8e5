"""Judges a DittoServer in a manifest as strictly as `kubectl apply`, which rejects some before a webhook is called."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from app.storage.change import Change
from app.storage.facts import Facts
from app.storage.finding import Finding, rejection, rejections, sort_findings
from app.storage.metadata import METADATA_SCHEMA, field_path, metadata_errors
from app.storage.reading import MAX_UNKNOWN_FIELDS, closest_field
from app.storage.rules import RULES, fields_are_known, judge
from app.storage.schema import Schema, spec_schema, structural
from app.storage.spec import API_VERSION
from app.storage.status_schema import Status

_ROOT: Schema = {
    "properties": {
        "apiVersion": {},
        "kind": {},
        "metadata": METADATA_SCHEMA,
        "spec": spec_schema(),
        "status": structural(Status),
    }
}
# In a review an unknown field is a warning at most: by then the API server has rejected it or dropped it, as the client
# wished (fieldValidation). A manifest has not been through that, and kubectl asks for unknown fields to be rejected.
_RULES = tuple(rule for rule in RULES if rule is not fields_are_known)


def judge_manifest(manifest: Mapping[str, Any], change: Change, facts: Facts) -> list[Finding]:
    """Returns all findings, rejections first; the change leads from the live server to what the manifest says."""
    # An API server calls no webhook about any other version.
    if manifest.get("apiVersion") != API_VERSION:
        return [rejection("apiVersion", f"apiVersion must be {API_VERSION}")]

    findings = judge(change, facts, _RULES)
    paths = {finding.path for finding in rejections(findings)}

    # Unlike a review, these can reject a manifest with an unchanged spec.
    strict = [*unknown_fields(manifest), *metadata_errors(manifest.get("metadata"))]
    return sort_findings([*findings, *(finding for finding in strict if finding.path not in paths)])


def unknown_fields(manifest: Mapping[str, Any]) -> list[Finding]:
    """Returns a rejection for each of the first ten fields that a DittoServer does not have, with a suggestion."""
    return list(islice(_unknown_fields(manifest, _ROOT, ""), MAX_UNKNOWN_FIELDS))


def _unknown_fields(value: Any, schema: Schema, parent: str) -> Iterator[Finding]:
    if isinstance(value, list) and "items" in schema:
        for position, item in enumerate(value):
            yield from _unknown_fields(item, schema["items"], f"{parent}[{position}]")
        return

    if not isinstance(value, Mapping) or "properties" not in schema:
        return

    for name, item in value.items():
        path = field_path(parent, name).removeprefix(".")
        if name in schema["properties"]:
            yield from _unknown_fields(item, schema["properties"][name], path)
        # kubectl drops a null before anybody could complain about it.
        elif item is not None:
            # The one field of this name nearest to the root, or else the closest field of the same section.
            namesakes = list(_paths_of(name, _ROOT, ""))
            levels = min((namesake.count(".") for namesake in namesakes), default=0)
            nearest = [namesake for namesake in namesakes if namesake.count(".") == levels]
            closest = closest_field(name, schema["properties"])
            meant = field_path(parent, closest).removeprefix(".") if closest else ""
            meant = nearest[0] if len(nearest) == 1 else meant

            advice = f'; did you mean "{meant}"?' if meant else ""
            yield rejection(path, f'unknown field "{path}"{advice}')


def _paths_of(name: str, schema: Schema, parent: str) -> Iterator[str]:
    for known, field in schema.get("properties", {}).items():
        path = field_path(parent, known).removeprefix(".")
        if known == name:
            yield path
        yield from _paths_of(name, field, path)
