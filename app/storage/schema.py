"""The structural OpenAPI schema of the models, as a CustomResourceDefinition wants it.

Source of the rules: Kubernetes' "Specifying a structural schema"; the API server is the judge, in the tests.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from app.storage.spec import Spec

Schema = dict[str, Any]

_NOT_STRUCTURAL = ("title", "$ref", "anyOf", "const")


def structural(model: type[BaseModel]) -> Schema:
    """References put in place, null taken out of unions and defaults, titles dropped."""
    schema = model.model_json_schema()
    return _structural(schema, schema.get("$defs", {}))


@cache
def spec_schema() -> Schema:
    """The schema of `spec`; shared, so not to be changed."""
    return structural(Spec)


def _structural(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    kept = {key: value for key, value in node.items() if key not in _NOT_STRUCTURAL and key != "$defs"}
    if kept.get("default", ...) is None:
        del kept["default"]
    if "const" in node:
        kept["enum"] = [node["const"]]
    if isinstance(kept.get("additionalProperties"), bool):
        del kept["additionalProperties"]
    if "required" in kept:
        kept["required"] = list(kept["required"])
    return kept | _children(kept, definitions)


def _resolved(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """What is said beside a reference, such as a field's own description, wins over what it refers to."""
    if "anyOf" in node:
        [other] = [each for each in node["anyOf"] if each.get("type") != "null"]
        return _resolved(other, definitions) | node
    if "$ref" in node:
        return definitions[node["$ref"].rpartition("/")[2]] | node
    return node


def _children(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    children: Schema = {}
    if "properties" in node:
        children["properties"] = {name: _structural(each, definitions) for name, each in node["properties"].items()}
    for key in ("additionalProperties", "items"):
        if key in node:
            children[key] = _structural(node[key], definitions)
    return children
