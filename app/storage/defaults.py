"""What is filled in when left out: the schema's defaults, on the raw object, inside the sections that were written."""

from collections.abc import Mapping
from typing import Any

from app.storage.reading import read
from app.storage.schema import Schema, spec_schema


def fill(manifest: Any) -> Any:
    """The object with its defaults; what is already there, unknown fields included, stays as it is.

    A broken object is returned as it came, for validation to say what is wrong. Filling twice changes nothing.
    """
    if read(manifest).problems:
        return manifest
    return {**manifest, "spec": _filled(manifest["spec"], spec_schema())}


def _filled(section: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    filled = dict(section)
    for name, field in schema["properties"].items():
        given = section.get(name)
        if given is None and "default" in field:
            filled[name] = field["default"]
        elif given is not None and "properties" in field:
            filled[name] = _filled(given, field)
    return filled
