"""Hypothesis strategies for the values that a schema of a CustomResourceDefinition describes."""

from typing import Any

from hypothesis import strategies as st

from app.storage.schema import Schema
from tests.harness.json_strategies import ANY_OBJECT

MAX_ITEMS = 3
MAX_CHARACTERS = 24
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"])
_KEYS = st.from_regex(r"[a-z]([a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Returns values that keep to everything in the schema but its rules in CEL; text, lists and maps are short."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])

    match schema.get("type"):
        case "object":
            return _objects(schema)
        case "array":
            return _arrays(schema)
        case "string":
            return _strings(schema)
        case "integer":
            low, high = (-(2**31), 2**31 - 1) if schema.get("format") == "int32" else (-(2**53), 2**53)
            return st.integers(max(low, schema.get("minimum", low)), min(high, schema.get("maximum", high)))
        case "boolean":
            return st.booleans()

    return ANY_OBJECT


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        inner = schema.get("additionalProperties")
        if not isinstance(inner, dict):
            return ANY_OBJECT if schema.get("x-kubernetes-preserve-unknown-fields") else st.just({})
        return st.dictionaries(_KEYS, values(inner), max_size=min(schema.get("maxProperties", MAX_ITEMS), MAX_ITEMS))

    required = set(schema.get("required", ()))
    fields = {name: values(inner) for name, inner in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


def _arrays(schema: Schema) -> st.SearchStrategy[Any]:
    smallest = schema.get("minItems", 0)
    largest = max(smallest, min(schema.get("maxItems", MAX_ITEMS), MAX_ITEMS))
    keys = schema.get("x-kubernetes-list-map-keys", ())
    unique_by = (lambda item: tuple(item.get(key) for key in keys)) if keys else None
    return st.lists(values(schema["items"]), min_size=smallest, max_size=largest, unique_by=unique_by)


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    smallest, largest = schema.get("minLength", 0), schema.get("maxLength", MAX_CHARACTERS)
    if "pattern" in schema:
        # In Python, `$` also matches before a last newline.
        pattern = schema["pattern"].removeprefix("^").removesuffix("$")
        texts = st.from_regex(pattern, fullmatch=True)
        return texts.filter(lambda text: smallest <= len(text) <= largest)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda time: time.isoformat(timespec="seconds") + "Z")

    # The longest one as well: a shorter limit refuses it.
    longest = st.just("x" * largest) if "maxLength" in schema else st.nothing()
    return st.text(_CHARACTERS, min_size=smallest, max_size=max(smallest, min(largest, MAX_CHARACTERS))) | longest
