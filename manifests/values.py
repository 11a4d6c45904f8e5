"""Reads what values.yaml of the chart says about each value, in the comment above it, for tables and the schema."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_HEAD = "| value | default | meaning |\n|---|---|---|\n"
_KEY = re.compile(r"( *)([A-Za-z]\w*):")
# Of a value, and of a section of values.
_COMMENT, _SECTION = re.compile(r" *# (.*)"), re.compile(r"## (.*)")


@dataclass(frozen=True)
class Value:
    """A value of the chart; `name` is as for `--set`."""

    name: str
    default: Any
    meaning: str

    @property
    def row(self) -> str:
        meaning = self.meaning.replace("|", r"\|")
        return f"| `{self.name}` | `{json.dumps(self.default)}` | {meaning} |\n"


def documented(text: str) -> Iterator[Value]:
    """Yields every value with a comment above it; what is below such a value is part of it."""
    yield from _commented(text, _COMMENT)


def sections(text: str) -> Iterator[Value]:
    """Yields every section, which has a comment with two marks above it and values with comments below it."""
    yield from _commented(text, _SECTION)


def with_table(readme: str, values: str) -> str:
    """Returns the README of the chart with its table replaced."""
    before, head, after = readme.partition(_HEAD)
    rest = re.sub(r"\A(\|.*\n)*", "", after)
    return before + head + "".join(value.row for value in documented(values)) + rest


def with_descriptions(schema: str, values: str) -> str:
    """Returns the JSON schema of the values with the descriptions and defaults of values.yaml.

    The rest of the schema is written by hand: types, and the descriptions of what is below a value or only for Helm.
    """
    document = json.loads(schema)
    for section in sections(values):
        _describe(document, section.name, {"description": section.meaning})
    for value in documented(values):
        _describe(document, value.name, {"description": value.meaning, "default": value.default})

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _commented(text: str, comment_line: re.Pattern[str]) -> Iterator[Value]:
    whole = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []

    for line in text.splitlines():
        if match := _KEY.match(line):
            indent, key = match.groups()
            path[len(indent) // 2 :] = [key]
            if comment:
                yield Value(".".join(path), _at(whole, path), " ".join(comment))

        comment = [*comment, match[1]] if (match := comment_line.fullmatch(line)) else []


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def _describe(schema: Any, name: str, description: dict[str, Any]) -> None:
    """Puts the description in front of what the schema says about a value."""
    *path, key = name.split(".")
    for section in path:
        schema = schema["properties"][section]

    properties = schema["properties"]
    properties[key] = description | {name: text for name, text in properties[key].items() if name not in description}
