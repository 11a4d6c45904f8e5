"""Parses YAML and JSON as kubectl does: the values that go-yaml gives, and the line of each field. Reads no files."""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from app.storage.unusable_input import UnusableInput

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

# Recursion, here and in libyaml, ends the process on a document that is nested deeply enough.
MAX_DEPTH = 200
# Aliases may expand a document by so much; without them, no document is larger than its text.
MAX_ALIASED_CHARACTERS = 1_000_000
TEMPLATE_HINT = "if this is a Helm template, use what `helm template` prints"

_TAG = "tag:yaml.org,2002:"
# The tag of a scalar that has neither quotes nor a tag.
_PLAIN = ""

_NOT_BLANK = re.compile(r"[^ \t\r\n]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# A directive at the beginning of the text, with nothing but blank lines and comments before it.
_DIRECTIVE = re.compile(r"\ufeff?(?:[ \t]*(?:#[^\n]*)?\r?\n)*%")


def parse_documents(text: str, file: str) -> Iterator[tuple["Text", Any]]:
    """Yields each document with its value, None if it is empty. Raises UnusableInput, which names `file`."""
    documents = _parse_json(text)
    if documents is not None:
        yield from documents
        return

    if directive := _DIRECTIVE.match(text):
        line = text.count("\n", 0, directive.end()) + 1
        raise UnusableInput(file, line, "expected no YAML directive, because kubectl reads it as a document")

    constructor = _Constructor(file, 2 * len(text) + MAX_ALIASED_CHARACTERS)
    try:
        for node in _compose(text):
            yield Text(text, root=node), constructor.construct(node)
    except yaml.YAMLError as error:
        # The text is never quoted: it may be a Secret's.
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            line, column = error.problem_mark.line, error.problem_mark.column
            written = (text.split("\n")[line : line + 1] or [""])[0]
            if written[column : column + 1] == "\t":
                raise UnusableInput(file, line + 1, "expected spaces for indentation, found a tab") from None

            hint = f"; {TEMPLATE_HINT}" if "{{" in written else ""
            raise UnusableInput(file, line + 1, f"expected YAML: {error.problem}{hint}") from None

        if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
            line = text.count("\n", 0, unprintable.start()) + 1
            raise UnusableInput(file, line, "expected text, found a control character") from None
        raise UnusableInput(file, None, "expected YAML") from None


class Text:
    """The text of one document. It is parsed for the lines of fields only when someone asks for one."""

    def __init__(self, text: str, first_line: int = 0, root: Node | None = None) -> None:
        self._text = text
        self._first_line = first_line
        self._root = root

    def line(self, steps: Iterable[str]) -> int:
        """Returns the line of the field, counted from 1, or that of its nearest parent in the text."""
        node = self._node
        line = node.start_mark.line if node else 0

        for step in steps:
            # An item of a list is both its key and its value.
            key: Node | None = None
            if isinstance(node, MappingNode):
                key, node = next((entry for entry in node.value if entry[0].value == step), (None, None))
            elif isinstance(node, SequenceNode) and step.isdecimal() and int(step) < len(node.value):
                key = node = node.value[int(step)]

            if key is None:
                break
            line = key.start_mark.line

        return self._first_line + line + 1

    @cached_property
    def _node(self) -> Node | None:
        """Is None for JSON that is no YAML, such as a surrogate pair: then only the line of the document is known."""
        if self._root:
            return self._root

        try:
            return next(_compose(self._text), None)
        except yaml.YAMLError:
            return None


def _parse_json(text: str) -> list[tuple[Text, Any]] | None:
    """Parses JSON documents one after the other. Returns None for text that has to be parsed, or refused, as YAML."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique_keys, parse_int=_parse_integer, parse_float=_parse_float, parse_constant=_parse_float
    )
    documents: list[tuple[Text, Any]] = []
    begin = _NOT_BLANK.search(text)
    if not begin or begin[0] != "{":
        return None

    try:
        while begin:
            value, end = decoder.raw_decode(text, begin.start())
            if _SURROGATE.search(text):
                json.dumps(value, ensure_ascii=False).encode()  # Fails on half of a pair, which is no character.

            documents.append((Text(text[begin.start() : end], text.count("\n", 0, begin.start())), value))
            begin = _NOT_BLANK.search(text, end)
    except (ValueError, OverflowError, RecursionError):
        return None

    return documents


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key occurs twice")
    return mapping


def _compose(text: str) -> Iterator[Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node:
                yield node
    finally:
        loader.dispose()


class _Loader(SafeLoader):
    """Leaves plain scalars without a tag, because `_resolve` gives them the meaning that they have in go-yaml."""

    _depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}map" if kind is MappingNode else f"{_TAG}seq"

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = current_node.start_mark
            raise yaml.MarkedYAMLError(problem=f"it is nested more than {MAX_DEPTH} levels deep", problem_mark=mark)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Constructor:
    """Constructs the values that go-yaml would. `budget` is how many characters they may have with aliases expanded."""

    def __init__(self, file: str, budget: int) -> None:
        self._file = file
        self._budget = budget
        self._open: set[int] = set()

    def construct(self, node: Node) -> Any:
        self._budget -= 1 + (len(node.value) if isinstance(node, ScalarNode) else 0)
        if self._budget < 0:
            raise self._unusable(node, "expected fewer aliases; they make the document far larger than its text")

        if isinstance(node, ScalarNode):
            return self._scalar(node)

        if id(node) in self._open:
            raise self._unusable(node, "expected a value, found an alias of the value that contains it")
        self._open.add(id(node))
        value = self._mapping(node) if isinstance(node, MappingNode) else [self.construct(item) for item in node.value]
        self._open.discard(id(node))

        return value

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        keys: set[str] = set()

        for key_node, value_node in node.value:
            if key_node.value == "<<" and key_node.tag in (_PLAIN, f"{_TAG}merge"):
                # Of several mappings the first one wins.
                merged = value_node.value[::-1] if isinstance(value_node, SequenceNode) else [value_node]
                if not all(isinstance(source, MappingNode) for source in merged):
                    raise self._unusable(value_node, "expected a mapping or a list of mappings after <<")
                for source in merged:
                    mapping.update(self.construct(source))
                continue

            key = self._key(key_node)
            if key in keys:
                raise self._unusable(key_node, f'expected the key "{key}" once, found it twice')
            keys.add(key)
            mapping[key] = self.construct(value_node)

        return mapping

    def _key(self, node: Node) -> str:
        """Takes `8080` and `yes` for "8080" and "true" as kubectl does, but no fraction: its digits might change."""
        if not isinstance(node, ScalarNode):
            raise self._unusable(node, f"expected a string for a key; {TEMPLATE_HINT}")

        key = self._scalar(node)
        if isinstance(key, bool):
            return "true" if key else "false"
        if not isinstance(key, str | int):
            raise self._unusable(node, "expected a string for a key; put it in quotes")
        return str(key)

    def _scalar(self, node: ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)

        if kind == "binary":
            # The value is the text, as in go-yaml: kubectl converts it to JSON.
            try:
                return base64.b64decode(node.value.replace("\n", ""), validate=True).decode()
            except ValueError:
                raise self._unusable(node, "expected text in base64 after !!binary") from None

        if kind != _PLAIN and kind not in _TYPES:
            return node.value

        value = _resolve(node.value)
        if kind in _TYPES and not isinstance(value, _TYPES[kind]):
            raise self._unusable(node, f"expected a value that fits its tag !!{kind}")
        if not isinstance(value, float):
            return value
        if not math.isfinite(value):
            raise self._unusable(node, "expected a finite number")
        return _narrow(value)

    def _unusable(self, node: Node, expected: str) -> UnusableInput:
        return UnusableInput(self._file, node.start_mark.line + 1, expected)


# What `resolve` of go.yaml.in/yaml/v2 makes of plain scalars; sigs.k8s.io/yaml, and so kubectl, builds on it.
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_TYPES: dict[str, Any] = {"bool": bool, "int": int, "float": int | float, "null": type(None)}
_MAX_DIGITS = 100  # More fit no number that Kubernetes knows, and Python refuses to parse thousands of them.
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"^([-+]?)0(?=[0-7])")


def is_plain(text: str) -> bool:
    """Tells whether kubectl reads the text as itself when it stands in YAML without quotes."""
    return isinstance(_resolve(text), str)


def _resolve(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text

    number = text.replace("_", "")
    if _INTEGER.fullmatch(number) and len(number) < _MAX_DIGITS:
        return _parse_integer(_OCTAL.sub(r"\g<1>0o", number))
    if _FLOAT.fullmatch(number) and math.isfinite(value := float(number)):
        return value
    return text


def _parse_integer(number: str) -> int | float:
    """Parses a larger integer than the 64 bits of the API server as a float, as the API server does."""
    value = int(number, 0)
    return value if -(2**63) <= value < 2**63 else float(value)


def _parse_float(number: str) -> int | float:
    """Raises ValueError for NaN and for what is infinite or too large, which JSON does not have."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not finite")
    return _narrow(value)


def _narrow(value: float) -> int | float:
    """Turns 1.0 into 1: the JSON that kubectl sends does not tell them apart."""
    return int(value) if value.is_integer() and abs(value) < 2**63 else value
