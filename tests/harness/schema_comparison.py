"""Compares two CustomResourceDefinitions: what the second one refuses or drops that the first one accepted."""

import re
from collections.abc import Iterator
from math import inf
from typing import Any

from app.storage.schema import Schema
from app.storage.unstructured import Manifest

# A lower limit may not rise, an upper one not fall.
LOWER_LENGTHS = ("minLength", "minItems", "minProperties")
UPPER_LIMITS = ("maximum", "maxLength", "maxItems", "maxProperties")
# These may go, but not come or change.
LOOSENED_BY_ABSENCE = ("type", "format", "pattern", "multipleOf", "not", "allOf", "anyOf", "oneOf")
# These may come, but not go.
LOOSENED_BY_PRESENCE = ("nullable", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
# Another one merges lists differently, or refuses items that are alike.
MERGING = ("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")
RULES = "x-kubernetes-validations"
COMPARED = {
    *LOWER_LENGTHS,
    *UPPER_LIMITS,
    *LOOSENED_BY_ABSENCE,
    *LOOSENED_BY_PRESENCE,
    *MERGING,
    *("minimum", "enum", "required", "default", "properties", "items", "additionalProperties", RULES),
}
# Nobody is refused for these.
DESCRIBING = {"description", "title", "example"}


def differences(old: Manifest, new: Manifest) -> Iterator[str]:
    """Yields what of the first definition the second one lacks, and what it refuses that the first one accepted."""
    for name in ("group", "scope"):
        if old["spec"][name] != new["spec"][name]:
            yield f"{name} was {old['spec'][name]}"
    for name in ("kind", "listKind", "plural", "singular"):
        if old["spec"]["names"][name] != new["spec"]["names"][name]:
            yield f"{name} was {old['spec']['names'][name]}"
    for name in set(old["spec"]["names"].get("shortNames", ())) - set(new["spec"]["names"].get("shortNames", ())):
        yield f"short name {name} is gone"

    versions = {version["name"]: version for version in new["spec"]["versions"]}
    for version in old["spec"]["versions"]:
        name = version["name"]
        if version["served"] and not versions.get(name, {}).get("served"):
            yield f"version {name} is no longer served"
            continue

        for subresource in set(version.get("subresources", ())) - set(versions[name].get("subresources", ())):
            yield f"subresource {subresource} of {name} is gone"
        yield from schema_differences(
            version["schema"]["openAPIV3Schema"], versions[name]["schema"]["openAPIV3Schema"], name
        )


def schema_differences(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Yields what values of the first schema the second one refuses, drops or completes differently."""
    unknown = {*old, *new} - COMPARED - DESCRIBING
    assert not unknown, f"{path} has {', '.join(sorted(unknown))}, which nothing here compares"

    yield from (f"{path}: {difference}" for difference in _keyword_differences(old, new))
    yield from (f"{path}: {difference}" for difference in _new_rules(old, new))

    for name, schema in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from schema_differences(schema, new["properties"][name], f"{path}.{name}")
        elif not new.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: the field is gone"

    for keyword in ("items", "additionalProperties"):
        old_inner, new_inner = old.get(keyword), new.get(keyword)
        if isinstance(old_inner, dict) and isinstance(new_inner, dict):
            yield from schema_differences(old_inner, new_inner, f"{path}[]")
        elif old_inner != new_inner:
            yield f"{path}: {keyword} was {_shown(old_inner)}"


def _keyword_differences(old: Schema, new: Schema) -> Iterator[str]:
    # A length is never below 0.
    higher = [name for name in LOWER_LENGTHS if new.get(name, 0) > old.get(name, 0)]
    lower = [name for name in UPPER_LIMITS if new.get(name, inf) < old.get(name, inf)]
    narrower = [name for name in LOOSENED_BY_ABSENCE if name in new and new[name] != old.get(name)]
    other = [name for name in (*MERGING, "default") if new.get(name) != old.get(name)]
    if new.get("minimum", -inf) > old.get("minimum", -inf):
        higher.append("minimum")
    if "enum" in new and "enum" not in old:
        narrower.append("enum")

    for name in (*higher, *lower, *narrower, *other):
        yield f"{name} {_shown(new.get(name))} was {_shown(old.get(name))}"
    for name in LOOSENED_BY_PRESENCE:
        if old.get(name) and not new.get(name):
            yield f"{name} is gone"
    for value in old.get("enum", ()):
        if value not in new.get("enum", [value]):
            yield f"{value} is gone from enum"
    for name in new.get("required", ()):
        if name not in old.get("required", ()) and "default" not in new["properties"][name]:
            yield f"{name} is required"


def _new_rules(old: Schema, new: Schema) -> Iterator[str]:
    """Yields the messages of rules that the first schema lacks; those about fields that it lacks refuse nothing."""
    known = {rule["rule"] for rule in old.get(RULES, ())}
    for rule in new.get(RULES, ()):
        if rule["rule"] not in known and not holds_without_new_fields(rule["rule"], old):
            yield f"rule: {rule.get('message', rule['rule'])}"


def holds_without_new_fields(rule: str, old: Schema) -> bool:
    """Says whether one side of an "or" is true for every value that has only fields of this schema.

    It takes `!has(self.a)`, `!has(oldSelf.a)` and `!(has(self.a) && ...)` for true where the schema has no field `a`.
    """
    for side in _split(rule, "||"):
        negated = side.removeprefix("!")
        if negated == side:
            continue

        inner = negated[1:-1] if negated.startswith("(") and _closes_at_end(negated) else negated
        for part in _split(inner, "&&"):
            path = re.fullmatch(r"has\((?:self|oldSelf)\.([\w.]+)\)", part)
            if path and not _has_field(old, path[1].split(".")):
                return True

    return False


def _has_field(schema: Schema, path: list[str]) -> bool:
    for name in path:
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return True
        if name not in schema.get("properties", {}):
            return False
        schema = schema["properties"][name]
    return True


def _split(expression: str, operator: str) -> list[str]:
    """Splits at an operator outside of all brackets; an expression with a conditional there stays whole."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(expression):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif not depth and character == "?":
            return [expression]
        elif not depth and expression.startswith(operator, index):
            parts.append(expression[start:index].strip())
            start = index + len(operator)
    return [*parts, expression[start:].strip()]


def _closes_at_end(expression: str) -> bool:
    """Says whether the bracket that opens the expression is closed by its last character."""
    depth = 0
    for index, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index == len(expression) - 1
    return False


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
