"""The reference of the log has every message of the code, with its level and its fields, and no other."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.logs import FIELD_NAMES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reference/logs.md").read_text()
OFTEN = "logs.log_often"
METHODS = ("debug", "info", "warning", "error", "exception", "log")


@dataclass(frozen=True)
class Message:
    """One call in the code. `level` is None where it depends, and `is_open` says that a caller may add fields."""

    text: str
    level: str | None
    fields: frozenset[str]
    is_open: bool = False


def messages() -> Iterator[Message]:
    for path in sorted((ROOT / "app").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and is_log(node.func):
                        yield read_call(node, function)


def is_log(node: ast.expr) -> bool:
    return ast.unparse(node) in (*(f"log.{method}" for method in METHODS), OFTEN)


def read_call(call: ast.Call, function: ast.AST) -> Message:
    if ast.unparse(call.func) == OFTEN:
        return read_call(as_method(call), function)

    assert isinstance(call.func, ast.Attribute)
    method = call.func.attr
    text = call.args[1 if method == "log" else 0]
    assert isinstance(text, ast.Constant), f"a message is a constant: {ast.unparse(call)}"
    assert isinstance(text.value, str)
    assert len(call.args) == (2 if method == "log" else 1), f"what varies is a field: {ast.unparse(call)}"

    options = {keyword.arg: keyword.value for keyword in call.keywords}
    names, is_open = read_fields(options.get("extra"), function)
    if method == "exception" or "exc_info" in options:
        names.add("exception")
    level = {"log": None, "exception": "ERROR"}.get(method, method.upper())
    return Message(text.value, level, frozenset(names), is_open)


def as_method(call: ast.Call) -> ast.Call:
    """Returns the call of the logger's own method for one of log_often."""
    log, message, fields = call.args
    return ast.Call(ast.Attribute(log, "info"), [message], [ast.keyword("extra", fields)])


def read_fields(node: ast.expr | None, function: ast.AST) -> tuple[set[str], bool]:
    """Returns the names of the fields, and whether there may be others from outside of the function."""
    if node is None:
        return set(), False
    if isinstance(node, ast.Name):
        for statement in ast.walk(function):
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == node.id:
                return read_fields(statement.value, function)
        return set(), True

    assert isinstance(node, ast.Dict), ast.unparse(node)
    names, is_open = set[str](), False
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            inner, is_inner_open = read_fields(value, function)
            names |= inner
            is_open |= is_inner_open
        else:
            name: str = ast.literal_eval(key)
            names.add(FIELD_NAMES.get(name, name))
    return names, is_open


def documented() -> dict[str, tuple[str, set[str]]]:
    """Returns the level and the fields of each message in the page."""
    rows = re.findall(r"^\| `([^`|]+)` \| ([A-Z][^|]+) \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert len({message for message, _, _ in rows}) == len(rows)
    return {message: (level, set(re.findall(r"`(\w+)`", fields))) for message, level, fields in rows}


def test_every_message_is_documented_and_no_other() -> None:
    assert {message.text for message in messages()} == documented().keys()


def test_levels_and_fields_are_documented() -> None:
    page = documented()
    for message in messages():
        level, fields = page[message.text]
        assert level == message.level if message.level else " " in level, message
        assert message.fields <= fields if message.is_open else message.fields == fields, message


def test_the_fields_that_correlate_lines_are_documented() -> None:
    names = set[str]()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logs.correlate":
                names |= {keyword.arg or "" for keyword in node.keywords}

    section = PAGE.partition("## Fields of every line")[2].partition("\n## ")[0]
    assert names == {"reconcile_id", "namespace", "server", "trigger", "generation", "review_id"}
    assert names <= set(re.findall(r"`(\w+)`", section))
