"""Writes `app/storage/core_v1.py` from the OpenAPI document of core/v1 on standard input; `make schema` runs it.

An API server publishes the document at /openapi/v3/api/v1.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "app/storage/core_v1.py"
# The types of the sections of a DittoServer that go into the pod; the types of their fields are added.
TYPES = ("PodSpec",)

Schema = Mapping[str, Any]

_PREFIXES = (
    "io.k8s.api.core.v1.",
    "io.k8s.apimachinery.pkg.api.resource.",
    "io.k8s.apimachinery.pkg.apis.meta.v1.",
    "io.k8s.apimachinery.pkg.util.intstr.",
)
_MERGE_KEY = "x-kubernetes-patch-merge-key"
# Types without fields: what their values may be.
_SCALARS = {"Quantity": "quantity", "IntOrString": "intOrString", "Time": "string", "FieldsV1": "object"}
_HEADER = '''"""Types of core/v1 as Kubernetes {version} publishes them, by name and field. Written by `make schema`.

They take a megabyte, and are imported only once a server has a section to judge or to merge.
"""

from typing import Any

# ruff: noqa: E501
# fmt: off
KUBERNETES = "{version}"
CORE_V1: dict[str, dict[str, dict[str, Any]]] = {{
'''


def module(document: Schema) -> str:
    """Renders the module from the OpenAPI document of core/v1."""
    schemas = {_short(name): schema for name, schema in document["components"]["schemas"].items()}
    types = {name: schemas[name]["properties"] for name in sorted(_needed(schemas))}

    lines = [_HEADER.format(version=document["info"]["version"])]
    for name, fields in types.items():
        lines.append(f'    "{name}": {{\n')
        lines += [f'        "{field}": {json.dumps(_field(schema))},\n' for field, schema in sorted(fields.items())]
        lines.append("    },\n")
    return "".join([*lines, "}\n"])


def _needed(schemas: Mapping[str, Schema]) -> set[str]:
    """Returns the names of TYPES and of all types that their fields refer to, directly or not."""
    needed: set[str] = set()
    pending = [*TYPES]

    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        pending += [ref for field in schemas[name]["properties"].values() for ref in _references(_field(field))]

    return needed


def _field(schema: Schema) -> dict[str, Any]:
    """Returns what a value may be. Every integer has 64 bits. Required fields are not marked: the API server reads an
    object that lacks one.
    """
    [schema] = schema.get("allOf") or [schema]
    if "$ref" in schema:
        name = _short(schema["$ref"].rpartition("/")[2])
        return {"type": _SCALARS[name]} if name in _SCALARS else {"$ref": name}

    kept = {key: schema[key] for key in ("type", "enum") if key in schema}
    nested = {key: _field(schema[key]) for key in ("items", "additionalProperties") if key in schema}
    merged = {"mergeKey": schema[_MERGE_KEY]} if _MERGE_KEY in schema else {}
    return kept | nested | merged


def _references(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"]
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _references(schema[key])


def _short(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


if __name__ == "__main__":
    FILE.write_text(module(json.load(sys.stdin)))
