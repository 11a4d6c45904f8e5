"""`make schema`: writes `app/storage/core_v1.py` from what the API server of the tests publishes at /openapi/v3."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane

FILE = Path(__file__).parent.parent / "app/storage/core_v1.py"
# The types of a DittoServer's sections that go into the pod verbatim; the types of their fields come along.
TYPES = ("PodSecurityContext", "ResourceRequirements", "SecurityContext")

Schema = Mapping[str, Any]

_PREFIXES = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.api.resource.")
_HEADER = '''"""Types of core/v1 as Kubernetes {version} publishes them, by name and field. Written by `make schema`."""

from typing import Any

KUBERNETES = "{version}"
CORE_V1: dict[str, dict[str, dict[str, Any]]] = {{
'''


def module(document: Schema) -> str:
    """Renders the module from the OpenAPI document of core/v1, in the form that `make format` leaves alone."""
    schemas = {_short(name): schema for name, schema in document["components"]["schemas"].items()}
    types = {name: schemas[name]["properties"] for name in sorted(_needed(schemas))}

    lines = [_HEADER.format(version=document["info"]["version"])]
    for name, fields in types.items():
        lines.append(f'    "{name}": {{\n')
        lines += [f'        "{field}": {json.dumps(_field(schema))},\n' for field, schema in sorted(fields.items())]
        lines.append("    },\n")
    return "".join([*lines, "}\n"])


def published(control_plane: ControlPlane) -> str:
    """The module as it should be, by the word of a running API server."""
    return module(control_plane.get("/openapi/v3/api/v1"))


def _needed(schemas: Mapping[str, Schema]) -> set[str]:
    needed: set[str] = set()
    left = [*TYPES]
    while left:
        name = left.pop()
        if name in needed:
            continue
        needed.add(name)
        left += [ref for field in schemas[name]["properties"].values() for ref in _references(_field(field))]
    return needed


def _field(schema: Schema) -> dict[str, Any]:
    """What a value may be. Every integer has 64 bits; what is required is left out: the API server does not insist."""
    [schema] = schema.get("allOf") or [schema]
    if "$ref" in schema:
        name = _short(schema["$ref"].rpartition("/")[2])
        # Published as a string or a number.
        return {"type": "quantity"} if name == "Quantity" else {"$ref": name}

    kept = {key: schema[key] for key in ("type", "enum") if key in schema}
    nested = {key: _field(schema[key]) for key in ("items", "additionalProperties") if key in schema}
    return kept | nested


def _references(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"]
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _references(schema[key])


def _short(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


if __name__ == "__main__":
    with TemporaryDirectory() as folder, ControlPlane(programs(os.environ), Path(folder)) as control_plane:
        FILE.write_text(published(control_plane))
