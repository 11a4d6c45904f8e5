"""Reads a manifest as a DittoServer. It never fails: fields that cannot be read are reported as errors and left out."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
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
# The fields of the models, in which a null stands for a field that was left out.
_MODELS: Schema = {"properties": {"metadata": {"properties": {}}, "spec": spec_schema()}}
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
    server, errors = _read_fields(manifest)
    unknown = _unknown_fields(manifest, _ROOT)
    if not (errors or unknown):
        return Reading(server)
    return Reading(server, tuple(sorted(errors, key=lambda error: (error.path, error.message))), tuple(unknown))


def read_server(manifest: Any) -> DittoServer:
    """Returns only the server, as of an object that was judged before."""
    return _read_fields(manifest)[0]


def is_readable(manifest: Any) -> bool:
    """Tells whether each field that a DittoServer has can be read, and none that it must have is missing."""
    return not _read_fields(manifest)[1]


def _read_fields(manifest: Any) -> tuple[DittoServer, set[Finding]]:
    """Returns the server without the fields that cannot be read, and a rejection for each of those."""
    errors: set[Finding] = set()
    try:
        server = DittoServer.model_validate(manifest)
    except ValidationError:
        # Nearly every field that may be null is null when it is left out, so that only now it makes a difference.
        server, errors = _read_readable(_without_nulls(manifest, _MODELS))

    # The model lets this one required size be None, so that the other rules can judge a server without it.
    if server.spec.storage.metadata_size is None and not any(_METADATA_SIZE.startswith(error.path) for error in errors):
        errors.add(rejection(_METADATA_SIZE, f"{field_name(_METADATA_SIZE)} is required"))
    return server, errors


def _read_readable(manifest: Any) -> tuple[DittoServer, set[Finding]]:
    errors: set[Finding] = set()

    while True:
        try:
            return DittoServer.model_validate(manifest), errors
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


def closest_field(name: str, fields: Iterable[str]) -> str | None:
    """Returns the field that a misspelt name probably means, ignoring case; None when none is close."""
    folded = {field.lower(): field for field in fields}
    close = get_close_matches(name.lower(), folded, n=1)
    return folded[close[0]] if close else None


def field_name(path: str) -> str:
    """Returns the name that messages use for a field: `controlPlane.port` for spec.controlPlane.port."""
    return path.removeprefix("spec.")


def _unknown_fields(section: Any, schema: Schema, prefix: str = "") -> list[str]:
    """Returns the paths of the first ten."""
    if not isinstance(section, dict):
        return []

    unknown: list[str] = []
    for name, value in section.items():
        field = schema["properties"].get(name)
        if field is None:
            unknown.append(f"{prefix}{name[:MAX_NAME_CHARACTERS]}")
        elif "properties" in field:
            unknown += _unknown_fields(value, field, f"{prefix}{name}.")
        elif "items" in field and "properties" in field["items"] and isinstance(value, list):
            for position, item in enumerate(value):
                unknown += _unknown_fields(item, field["items"], f"{prefix}{name}[{position}].")
                if len(unknown) >= MAX_UNKNOWN_FIELDS:
                    break

        if len(unknown) >= MAX_UNKNOWN_FIELDS:
            break
    return unknown[:MAX_UNKNOWN_FIELDS]


def _rejection(failure: ErrorDetails) -> Finding:
    # The key of an annotation can be of any length.
    steps = [str(step)[:MAX_NAME_CHARACTERS] for step in failure["loc"] if step != "[key]"]
    words = (f".{step}" if re.fullmatch("[A-Za-z][A-Za-z0-9]*", step) else f"[{step}]" for step in steps)
    path = "".join(words).lstrip(".")

    # Only our own texts are templates: pydantic's message is complete, and quotes what the user wrote.
    template = _MESSAGES.get(failure["type"])
    message = failure["msg"] if template is None else template.format_map(failure.get("ctx", {}))
    return rejection(path, f"{field_name(path) or KIND} {message}")


def _without_nulls(value: Any, schema: Schema) -> Any:
    """Leaves out the nulls in sections, as the API server does before it fills in defaults."""
    if isinstance(value, list) and "items" in schema:
        return [_without_nulls(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value

    fields = schema["properties"]
    return {name: _without_nulls(item, fields.get(name, {})) for name, item in value.items() if item is not None}


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
