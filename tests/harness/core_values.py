"""Hypothesis strategies for values of the types of core/v1."""

from typing import Any

from hypothesis import strategies as st

from app.storage.core_types import fields_of
from app.storage.schema import Schema

_WORDS = st.sampled_from(["a", "b", "c"])
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": _WORDS,
    "boolean": st.booleans(),
    "integer": st.integers(1, 3),
    "intOrString": st.integers(1, 3) | _WORDS,
    "quantity": st.sampled_from(["1Gi", "1024Mi", "500m", "0.5"]),
    "object": st.just({}),
}


def core_values(kind: str, nulls: st.SearchStrategy[Any] | None = None, levels: int = 4) -> st.SearchStrategy[Any]:
    """Generates values with up to six fields at each level; with `nulls`, a field may be one of these instead.

    Lists that are merged by a key are none of these.
    """
    return _field_values({"$ref": kind}, nulls, levels)


def _field_values(field: Schema, nulls: st.SearchStrategy[Any] | None, levels: int) -> st.SearchStrategy[Any]:
    if "$ref" in field:
        return st.deferred(lambda: _objects(field["$ref"], nulls, levels))
    if "additionalProperties" in field:
        return st.dictionaries(_WORDS, _field_values(field["additionalProperties"], None, levels), max_size=2)
    if "items" not in field:
        return st.sampled_from(field["enum"]) if "enum" in field else _SCALARS[field["type"]]

    items = _field_values(field["items"], nulls, levels)
    if key := field.get("mergeKey"):
        keys = _field_values(fields_of(field["items"]["$ref"])[key], None, levels)
        keyed = st.builds(lambda item, value: {**item, key: value}, items, keys)
        return st.lists(keyed, max_size=3, unique_by=lambda item: item[key])
    return st.lists(items, max_size=2)


def _objects(kind: str, nulls: st.SearchStrategy[Any] | None, levels: int) -> st.SearchStrategy[Any]:
    if not levels:
        return st.just({})
    fields = fields_of(kind)
    values = {name: _field_values(field, nulls, levels - 1) for name, field in fields.items()}
    if nulls is not None:
        values = {name: value if "mergeKey" in fields[name] else nulls | value for name, value in values.items()}
    # Most fields are scalars: what is merged has to be there more often.
    merged = [name for name, field in fields.items() if "mergeKey" in field or "$ref" in field]
    names = st.lists(st.sampled_from([*sorted(fields), *merged, *merged]), max_size=6, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: values[name] for name in chosen}))
