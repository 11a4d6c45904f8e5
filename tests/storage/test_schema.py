from collections.abc import Iterator
from typing import Any

import pytest

from app.storage.schema import spec_schema, structural
from app.storage.status_schema import Status


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key])


EVERYTHING = [*nodes(spec_schema()), *nodes(structural(Status))]


@pytest.mark.parametrize("word", ["$ref", "$defs", "anyOf", "const", "title", "propertyNames"])
def test_the_schema_has_nothing_that_is_not_structural(word: str) -> None:
    assert not [node for node in EVERYTHING if word in node]


def test_every_string_list_and_map_is_bounded() -> None:
    bounds = {"string": {"maxLength", "enum"}, "array": {"maxItems"}}

    assert not [node for node in EVERYTHING if node["type"] in bounds and not bounds[node["type"]] & node.keys()]
    assert not [node for node in EVERYTHING if "additionalProperties" in node and "maxProperties" not in node]


def test_every_integer_is_bounded() -> None:
    unbounded = [node for node in nodes(spec_schema()) if node["type"] == "integer" and "maximum" not in node]

    assert not unbounded


def test_every_field_says_what_it_is() -> None:
    fields = [field for node in EVERYTHING for field in node.get("properties", {}).items()]

    assert not [name for name, field in fields if not field.get("description")]


def test_a_default_is_never_null() -> None:
    assert not [node for node in EVERYTHING if node.get("default", ...) is None]
