"""Reads a manifest as a DittoServer. It never fails: fields that cannot be read are reported as errors and left out."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.storage.finding import Finding, rejection
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.schema import Schema, spec_schema
from app.storage.spec import KIND, DittoServer

Location = tuple[str | int, ...]

MAX_UNKNOWN_FIELDS = 10

_ROOT: Schema = {"properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "status": {}, "spec": spec_schema()}}
_METADATA_SIZE = "spec.storage.metadataSize"

# By pydantic's type of the error; for all others pydantic's own message is used.
_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
}


@dataclass(frozen=True)
class Reading:
    """A DittoServer without the fields that could not be read; `errors` has a rejection for each of those."""

    server: DittoServer
    errors: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()  # The paths of the first ten fields that a DittoServer does not have.


def read(manifest: Any) -> Reading:
    unknown = tuple(islice(_unknown_fields(manifest, _ROOT, ""), MAX_UNKNOWN_FIELDS))
    errors: set[Finding] = set()

    while True:
        try:
            server = DittoServer.model_validate(manifest)
            break
        except ValidationError as error:
            failures = error.errors(include_url=False)

        # Once a field is cut out, its section may lack it; that is no second error of the person who wrote it.
        errors = errors or {_rejection(failure) for failure in failures}

        # Cut out the field itself, or the section that cannot be without the field it lacks.
        locations: list[Location] = []
        for failure in failures:
            location = tuple(step for step in failure["loc"] if step != "[key]")
            locations.append(location[:-1] if failure["type"] == "missing" else location)
        manifest = _without(manifest, locations)

    # The model lets this one required size be None, so that the other rules can judge a server without it.
    is_reported = any(_METADATA_SIZE.startswith(error.path) for error in errors)
    if server.spec.storage.metadata_size is None and not is_reported:
        errors.add(rejection(_METADATA_SIZE, f"{field_name(_METADATA_SIZE)} is required"))

    return Reading(server, tuple(sorted(errors, key=lambda error: (error.path, error.message))), unknown)


def closest_field(name: str, fields: Iterable[str]) -> str | None:
    """Returns the field that a misspelt name probably means, ignoring case; None when none is close."""
    folded = {field.lower(): field for field in fields}
    close = get_close_matches(name.lower(), folded, n=1)
    return folded[close[0]] if close else None


def field_name(path: str) -> str:
    """Returns the name that messages use for a field: `controlPlane.port` for spec.controlPlane.port."""
    return path.removeprefix("spec.")


def _unknown_fields(section: Any, schema: Schema, prefix: str) -> Iterator[str]:
    if not isinstance(section, Mapping):
        return

    for name, value in section.items():
        path = f"{prefix}{name[:MAX_NAME_CHARACTERS]}"
        field = schema["properties"].get(name)
        if field is None:
            yield path
        elif "properties" in field:
            yield from _unknown_fields(value, field, f"{path}.")
        elif "properties" in field.get("items", {}) and isinstance(value, list):
            for position, item in enumerate(value):
                yield from _unknown_fields(item, field["items"], f"{path}[{position}].")


def _rejection(failure: ErrorDetails) -> Finding:
    # The key of an annotation can be of any length.
    steps = [str(step)[:MAX_NAME_CHARACTERS] for step in failure["loc"] if step != "[key]"]
    words = (f".{step}" if re.fullmatch("[A-Za-z][A-Za-z0-9]*", step) else f"[{step}]" for step in steps)
    path = "".join(words).lstrip(".")

    # Only our own texts are templates: pydantic's message is complete, and quotes what the user wrote.
    template = _MESSAGES.get(failure["type"])
    message = failure["msg"] if template is None else template.format_map(failure.get("ctx", {}))
    return rejection(path, f"{field_name(path) or KIND} {message}")


def _without(value: Any, locations: Iterable[Location]) -> Any:
    """Cuts out what is at these locations, an empty one being the value itself; copies only what contains one."""
    inner: dict[str | int, list[Location]] = {}
    for location in locations:
        if not location:
            return {}
        inner.setdefault(location[0], []).append(location[1:])

    removed = {key for key, rests in inner.items() if () in rests}
    if isinstance(value, list):
        return [
            _without(item, inner[position]) if position in inner else item
            for position, item in enumerate(value)
            if position not in removed
        ]
    if not isinstance(value, Mapping):
        return value

    return {
        key: _without(item, inner[key]) if key in inner else item for key, item in value.items() if key not in removed
    }
