"""Judges a DittoServer in a manifest as strictly as `kubectl apply`: what is rejected before a webhook is asked, too.

Through the webhook an unknown field is a warning at most: by then the API server has rejected it or dropped it, as the
client wished (fieldValidation). For a manifest nobody has decided yet, and kubectl wishes it to be rejected.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from app.storage.facts import Facts
from app.storage.finding import Finding, in_order, rejection, rejections
from app.storage.metadata import METADATA, member, metadata_problems
from app.storage.reading import MOST_UNKNOWN, closest_field
from app.storage.rules import RULES, Change, fields_are_known, judge, of_another_version
from app.storage.schema import Schema, spec_schema, structural
from app.storage.status import Status

_ANY: Schema = {}
_ROOT: Schema = {
    "properties": {
        "apiVersion": _ANY,
        "kind": _ANY,
        "metadata": METADATA,
        "spec": spec_schema(),
        "status": structural(Status),
    }
}
_RULES = tuple(rule for rule in RULES if rule is not fields_are_known)


def judge_manifest(manifest: Mapping[str, Any], change: Change, facts: Facts) -> list[Finding]:
    """All findings, rejections first; the change is to what the manifest says, from what there is.

    Unlike a review, a manifest with an unchanged spec can be rejected: for its metadata, or a field that is unknown.
    """
    if wrong := of_another_version(manifest):
        return wrong

    judged = judge(change, facts, _RULES)
    paths = {finding.path for finding in rejections(judged)}
    strict = [*unknown_fields(manifest), *_wrong_metadata(manifest)]
    return in_order([*judged, *(finding for finding in strict if finding.path not in paths)])


def unknown_fields(manifest: Mapping[str, Any]) -> list[Finding]:
    """A rejection for each of the first ten fields that a DittoServer does not have, with the one that was meant."""
    return list(islice(_unknown_fields(manifest, _ROOT, ""), MOST_UNKNOWN))


def _unknown_fields(value: Any, schema: Schema, at: str) -> Iterator[Finding]:
    if isinstance(value, list) and "items" in schema:
        for position, item in enumerate(value):
            yield from _unknown_fields(item, schema["items"], f"{at}[{position}]")
        return
    if not isinstance(value, Mapping) or "properties" not in schema:
        return

    for name, item in value.items():
        path = member(at, name).removeprefix(".")
        if name in schema["properties"]:
            yield from _unknown_fields(item, schema["properties"][name], path)
        # kubectl drops a null before anybody could complain about it.
        elif item is not None:
            yield rejection(path, f'unknown field "{path}"{_suggestion(name, schema, at)}')


def _suggestion(name: str, schema: Schema, at: str) -> str:
    """The field of this name of the only other section that has one, or else the closest field of the same section."""
    elsewhere = list(_paths_of(name, _ROOT, ""))
    if len(elsewhere) == 1:
        return f'; did you mean "{elsewhere[0]}"?'

    closest = closest_field(name, schema["properties"])
    return f'; did you mean "{member(at, closest).removeprefix(".")}"?' if closest else ""


def _paths_of(name: str, schema: Schema, at: str) -> Iterator[str]:
    for known, field in schema.get("properties", {}).items():
        path = member(at, known).removeprefix(".")
        if known == name:
            yield path
        yield from _paths_of(name, field, path)


def _wrong_metadata(manifest: Mapping[str, Any]) -> Iterator[Finding]:
    for problem in metadata_problems(manifest.get("metadata")):
        yield rejection(problem.path, problem.message)
