"""Turns the models into the structural OpenAPI schema that a CustomResourceDefinition needs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from app.storage.spec import Spec

Schema = dict[str, Any]

# Source of the rules: Kubernetes' "Specifying a structural schema"; the tests ask the API server.
_NOT_STRUCTURAL = ("title", "$defs", "$ref", "anyOf", "const")


def structural(model: type[BaseModel]) -> Schema:
    """Returns the schema with references resolved, null removed from unions and defaults, and titles dropped."""
    schema = model.model_json_schema()
    return _structural(schema, schema.get("$defs", {}))


@cache
def spec_schema() -> Schema:
    """Returns the schema of `spec`, which is shared and must not be changed."""
    return structural(Spec)


def _structural(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    node = _resolve(node, definitions)
    result = {key: value for key, value in node.items() if key not in _NOT_STRUCTURAL}

    if result.get("default", ...) is None:
        del result["default"]
    if "const" in node:
        result["enum"] = [node["const"]]
    if isinstance(result.get("additionalProperties"), bool):
        del result["additionalProperties"]

    # YAML would write a list that two nodes share as an alias.
    if "required" in result:
        result["required"] = list(result["required"])

    if "properties" in result:
        fields = result["properties"].items()
        result["properties"] = {name: _structural(field, definitions) for name, field in fields}
    for key in ("additionalProperties", "items"):
        if key in result:
            result[key] = _structural(result[key], definitions)
    return result


def _resolve(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Resolves a reference; what stands beside it, such as a field's own description, wins over its target."""
    if "anyOf" in node:
        [other] = [option for option in node["anyOf"] if option.get("type") != "null"]
        return _resolve(other, definitions) | node
    if "$ref" in node:
        return definitions[node["$ref"].rpartition("/")[2]] | node
    return node
