"""YAML and JSON as kubectl reads them: values as go-yaml makes them, and the line of each field. Reads no files."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

# Recursion, here and in libyaml, ends the process on a document nested deeply enough.
_DEPTH = 200
# What aliases may add to a document, in characters; without them no document is larger than its text.
_ALIASED_CHARACTERS = 1_000_000
_TEMPLATE = "if this is a Helm template, use what `helm template` prints"
_TAG = "tag:yaml.org,2002:"
# The tag of a scalar that was given neither quotes nor a tag.
_PLAIN = ""


class UnusableInput(ValueError):
    """The message is for the person who wrote the file: file, line and what was expected."""

    def __init__(self, file: str, line: int | None, expected: str) -> None:
        super().__init__(f"{file}:{line}: {expected}" if line else f"{file}: {expected}")


def texts(text: str, file: str) -> Iterator[tuple["Text", Any]]:
    """Each document of a text, and its value; None for an empty one. `file` is for errors: UnusableInput."""
    found = _json_texts(text)
    yield from _yaml_texts(text, file) if found is None else found


class Text:
    """The text of one document; where its fields are is worked out when somebody asks."""

    def __init__(self, text: str, first_line: int = 0, root: Node | None = None) -> None:
        self._text = text
        self._first_line = first_line
        self._root = root

    def line(self, steps: Iterable[str]) -> int:
        node = self._node
        line = node.start_mark.line if node else 0
        for step in steps:
            key, node = _entry(node, step)
            if key is None:
                break
            line = key.start_mark.line
        return self._first_line + line + 1

    @cached_property
    def _node(self) -> Node | None:
        """None for the JSON that is no YAML, such as a surrogate pair: the line of the document has to do."""
        if self._root:
            return self._root
        try:
            return next(_nodes(self._text), None)
        except yaml.YAMLError:
            return None


def _entry(node: Node | None, step: str) -> tuple[Node, Node] | tuple[None, None]:
    if isinstance(node, MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), (None, None))
    if isinstance(node, SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        return node.value[int(step)], node.value[int(step)]
    return None, None


def _json_texts(text: str) -> list[tuple[Text, Any]] | None:
    """One JSON document after the other; None for text that is to be read, or complained about, as YAML."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_once_each, parse_int=_whole, parse_float=_fraction, parse_constant=_refuse_constant
    )
    found: list[tuple[Text, Any]] = []
    begin = _BLACK.search(text)
    if not begin or begin[0] != "{":
        return None
    try:
        while begin:
            value, end = decoder.raw_decode(text, begin.start())
            if _SURROGATE.search(text):
                json.dumps(value, ensure_ascii=False).encode()  # Fails on half of a pair, which is no character.
            found.append((Text(text[begin.start() : end], text.count("\n", 0, begin.start())), value))
            begin = _BLACK.search(text, end)
    except (ValueError, OverflowError, RecursionError):
        return None
    return found


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BLACK = re.compile(r"[^ \t\r\n]")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _yaml_texts(text: str, file: str) -> Iterator[tuple[Text, Any]]:
    if directive := _DIRECTIVE.match(text):
        line = text.count("\n", 0, directive.end()) + 1
        raise UnusableInput(file, line, "expected no YAML directive, because kubectl reads it as a document")
    values = _Values(file, 2 * len(text) + _ALIASED_CHARACTERS)
    try:
        for node in _nodes(text):
            yield Text(text, root=node), values.read(node)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None


# At the beginning of the text, after nothing but blank lines and comments.
_DIRECTIVE = re.compile(r"\ufeff?(?:[ \t]*(?:#[^\n]*)?\r?\n)*%")


def _nodes(text: str) -> Iterator[Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node:
                yield node
    finally:
        loader.dispose()


class _Loader(SafeLoader):
    """Leaves plain scalars without a tag: what they mean is go-yaml's to say (`_plain`), and PyYAML says otherwise."""

    _depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}map" if kind is MappingNode else f"{_TAG}seq"

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            mark = current_node.start_mark
            raise yaml.MarkedYAMLError(problem=f"it is nested more than {_DEPTH} levels deep", problem_mark=mark)

    def ascend_resolver(self) -> None:
        self._depth -= 1


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> UnusableInput:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line, error.problem_mark.column
        written = (text.split("\n")[line : line + 1] or [""])[0]
        if written[column : column + 1] == "\t":
            return UnusableInput(file, line + 1, "expected spaces for indentation, found a tab")
        template = f"; {_TEMPLATE}" if "{{" in written else ""
        return UnusableInput(file, line + 1, f"expected YAML: {error.problem}{template}")
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable:
        line = text.count("\n", 0, unprintable.start()) + 1
        return UnusableInput(file, line, "expected text, found a control character")
    return UnusableInput(file, None, "expected YAML")


class _Values:
    """Makes of nodes what go-yaml makes of them; `budget` bounds what aliases can blow a text up to."""

    def __init__(self, file: str, budget: int) -> None:
        self._file = file
        self._budget = budget
        self._open: set[int] = set()

    def read(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            self._spend(node, 1 + len(node.value))
            return self._scalar(node)
        self._spend(node, 1)
        if id(node) in self._open:
            raise self._unusable(node, "expected a value, found an alias of the value that contains it")
        self._open.add(id(node))
        found = self._mapping(node) if isinstance(node, MappingNode) else [self.read(item) for item in node.value]
        self._open.discard(id(node))
        return found

    def _spend(self, node: Node, characters: int) -> None:
        self._budget -= characters
        if self._budget < 0:
            raise self._unusable(node, "expected fewer aliases; they make the document far larger than its text")

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        found: dict[str, Any] = {}
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.value == "<<" and key_node.tag in (_PLAIN, f"{_TAG}merge"):
                for merged in self._merged(value_node):
                    found.update(self.read(merged))
                continue
            key = self._key(key_node)
            if key in own:
                raise self._unusable(key_node, f'expected the key "{key}" once, found it twice')
            own.add(key)
            found[key] = self.read(value_node)
        return found

    def _merged(self, node: Node) -> list[Node]:
        """The mappings to take over, those that win last."""
        given: list[Node] = node.value[::-1] if isinstance(node, SequenceNode) else [node]
        if not all(isinstance(each, MappingNode) for each in given):
            raise self._unusable(node, "expected a mapping or a list of mappings after <<")
        return given

    def _key(self, node: Node) -> str:
        """As kubectl does, takes `8080` and `yes` for "8080" and "true"; a fraction could come out otherwise."""
        if not isinstance(node, ScalarNode):
            raise self._unusable(node, f"expected a string for a key; {_TEMPLATE}")
        key = self._scalar(node)
        if isinstance(key, bool):
            return "true" if key else "false"
        if not isinstance(key, str | int):
            raise self._unusable(node, "expected a string for a key; put it in quotes")
        return str(key)

    def _scalar(self, node: ScalarNode) -> Any:
        if node.tag == _PLAIN:
            return self._finite(node, _plain(node.value))
        kind = node.tag.removeprefix(_TAG)
        if kind == "binary":
            return self._binary(node)
        if kind not in _TAGGED:
            return node.value
        value = _plain(node.value)
        if not isinstance(value, _TAGGED[kind]):
            raise self._unusable(node, f"expected a value that fits its tag !!{kind}")
        return self._finite(node, value)

    def _binary(self, node: ScalarNode) -> str:
        """The text that the base64 stands for; as go-yaml, of which kubectl makes JSON."""
        try:
            return base64.b64decode(node.value.replace("\n", ""), validate=True).decode()
        except ValueError:
            raise self._unusable(node, "expected text in base64 after !!binary") from None

    def _finite(self, node: ScalarNode, value: Any) -> Any:
        if not isinstance(value, float):
            return value
        if value != value or value in (float("inf"), -float("inf")):
            raise self._unusable(node, "expected a finite number")
        return _narrowed(value)

    def _unusable(self, node: Node, expected: str) -> UnusableInput:
        return UnusableInput(self._file, node.start_mark.line + 1, expected)


# What `resolve` of go.yaml.in/yaml/v2 makes of plain scalars; sigs.k8s.io/yaml, and so kubectl, stands on it.
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -float("inf")),
}
_TAGGED: dict[str, Any] = {"bool": bool, "int": int, "float": int | float, "null": type(None)}
_DIGITS = 100  # More fit no number that Kubernetes knows, and Python refuses to read thousands of them.
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"^([-+]?)0(?=[0-7])")


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    number = text.replace("_", "")
    if _INTEGER.fullmatch(number) and len(number) < _DIGITS:
        return _whole(_OCTAL.sub(r"\g<1>0o", number))
    if _FLOAT.fullmatch(number) and abs(value := float(number)) != float("inf"):
        return value
    return text


def _fraction(number: str) -> int | float:
    value = float(number)
    if value in (float("inf"), -float("inf")):
        raise ValueError(f"{number} is beyond all floats")
    return _narrowed(value)


def _narrowed(value: float) -> int | float:
    """JSON, which kubectl sends, does not tell 1.0 from 1."""
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def _whole(number: str) -> int | float:
    """The API server keeps an integer of 64 bits and takes any larger one for a float."""
    value = int(number, 0)
    return value if -(2**63) <= value < 2**63 else float(value)
