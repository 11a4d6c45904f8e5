"""Fills in what was left out: the schema's defaults, which `spec` declares, inside the sections that were written."""

from collections.abc import Mapping
from typing import Any

from app.storage.reading import is_readable
from app.storage.schema import Schema, spec_schema


def set_defaults(manifest: Any) -> Any:
    """Returns the object with its defaults; what is already there, unknown fields included, stays as it is."""
    # A broken object is returned as it came, for validation to say what is wrong.
    if not is_readable(manifest):
        return manifest
    return {**manifest, "spec": _fill_section(manifest["spec"], spec_schema())}


def _fill_section(section: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    filled = dict(section)
    for name, field in schema["properties"].items():
        value = section.get(name)
        if value is None and "default" in field:
            filled[name] = field["default"]
        elif value is not None and "properties" in field:
            filled[name] = _fill_section(value, field)
        elif value is not None and "properties" in field.get("items", {}):
            filled[name] = [_fill_section(item, field["items"]) for item in value]
    return filled
