"""Reads what values.yaml of the chart says about each value, in the comment above it, and makes a table of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_HEAD = "| value | default | meaning |\n|---|---|---|\n"
_KEY = re.compile(r"( *)([A-Za-z]\w*):")


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
    whole = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []

    for line in text.splitlines():
        if match := _KEY.match(line):
            indent, key = match.groups()
            path[len(indent) // 2 :] = [key]
            if comment:
                yield Value(".".join(path), _at(whole, path), " ".join(comment))

        comment = [*comment, line.strip().removeprefix("# ")] if line.strip().startswith("#") else []


def with_table(readme: str, values: str) -> str:
    """Returns the README of the chart with its table replaced."""
    before, head, after = readme.partition(_HEAD)
    rest = re.sub(r"\A(\|.*\n)*", "", after)
    return before + head + "".join(value.row for value in documented(values)) + rest


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value
