"""Reads a manifest as a DittoServer. That never fails: what cannot be read is reported as a problem and left out."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.storage.schema import Schema, spec_schema
from app.storage.spec import KIND, DittoServer

Location = tuple[str | int, ...]

LONGEST_NAME = 253
MOST_UNKNOWN = 10
_ROOT: Schema = {"properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "status": {}, "spec": spec_schema()}}


@dataclass(frozen=True, order=True)
class ReadingProblem:
    """A field that cannot be read, by its path from the object's root, and what was expected of it."""

    path: str
    message: str


@dataclass(frozen=True)
class Reading:
    """A DittoServer without the fields that could not be read; each of those is a problem.

    `unknown` are paths of fields that a DittoServer does not have, the first ten of them.
    """

    server: DittoServer
    problems: tuple[ReadingProblem, ...] = ()
    unknown: tuple[str, ...] = ()


def read(manifest: Any) -> Reading:
    unknown = tuple(islice(_unknown_fields(manifest, _ROOT, ""), MOST_UNKNOWN))
    problems: tuple[ReadingProblem, ...] = ()
    while isinstance(result := _validated(manifest), list):
        # What a section lacks once a field was cut out of it is not another problem of the person who wrote it.
        problems = problems or tuple(_problem(error) for error in result)
        manifest = _without(manifest, [_unreadable(error) for error in result])
    return Reading(result, tuple(sorted({*problems, *_missing_size(result, problems)})), unknown)


def closest_field(name: str, fields: Iterable[str]) -> str | None:
    """The field that was meant by a misspelt name, whatever its case; None when none is close."""
    folded = {field.lower(): field for field in fields}
    close = get_close_matches(name.lower(), folded, n=1)
    return folded[close[0]] if close else None


def field_name(path: str) -> str:
    """How messages name a field: `controlPlane.port` for spec.controlPlane.port."""
    return path.removeprefix("spec.")


def _unknown_fields(section: Any, schema: Schema, at: str) -> Iterator[str]:
    for name, value in section.items() if isinstance(section, Mapping) else ():
        path = f"{at}{name[:LONGEST_NAME]}"
        field = schema["properties"].get(name)
        if field is None:
            yield path
        elif "properties" in field:
            yield from _unknown_fields(value, field, f"{path}.")


def _validated(manifest: Any) -> DittoServer | list[ErrorDetails]:
    try:
        return DittoServer.model_validate(manifest)
    except ValidationError as error:
        return error.errors(include_url=False)


def _missing_size(server: DittoServer, problems: Iterable[ReadingProblem]) -> Iterable[ReadingProblem]:
    """The model lets this one required size be None, so that the other rules can judge a server without it."""
    path = "spec.storage.metadataSize"
    if server.spec.storage.metadata_size is None and not any(path.startswith(each.path) for each in problems):
        yield ReadingProblem(path, f"{field_name(path)} is required")


_EXPECTED = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
}


def _problem(error: ErrorDetails) -> ReadingProblem:
    path = _path(error["loc"])
    template = _EXPECTED.get(error["type"])
    # Only our own texts are templates: pydantic's message is complete, and quotes what the user wrote.
    expected = error["msg"] if template is None else template.format_map(error.get("ctx", {}))
    return ReadingProblem(path, f"{field_name(path) or KIND} {expected}")


def _path(location: Iterable[str | int]) -> str:
    # The key of an annotation can be of any length.
    steps = [str(step)[:LONGEST_NAME] for step in location if step != "[key]"]
    return "".join(f".{step}" if re.fullmatch("[A-Za-z0-9]+", step) else f"[{step}]" for step in steps).lstrip(".")


def _unreadable(error: ErrorDetails) -> Location:
    """Where to cut: the field itself, or the section that cannot be without the field it lacks."""
    location = tuple(step for step in error["loc"] if step != "[key]")
    return location[:-1] if error["type"] == "missing" else location


def _without(value: Any, locations: Iterable[Location]) -> Any:
    """Copies only what something is cut out of; an empty location cuts out the value itself."""
    inner: dict[str | int, list[Location]] = {}
    for location in locations:
        if not location:
            return {}
        inner.setdefault(location[0], []).append(location[1:])
    if not isinstance(value, Mapping):
        return value
    whole = {head for head, rests in inner.items() if () in rests}
    return {
        key: _without(item, inner[key]) if key in inner else item for key, item in value.items() if key not in whole
    }
