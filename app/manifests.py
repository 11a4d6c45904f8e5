"""Manifests in YAML and JSON, read as kubectl reads them, each with its file and lines. Nothing is changed or sent.

An error names file, line and what was expected, never a value: that could be a Secret's.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from app.syntax import Text, UnusableInput, texts

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


@dataclass(frozen=True)
class Document:
    """One Kubernetes object; `index` counts the documents of the file from 1, the items of a List share theirs."""

    file: str
    index: int
    object: dict[str, Any] = field(repr=False)
    _text: Text = field(repr=False, compare=False)
    _within: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def line_of(self, path: str = "") -> int:
        """The line of a field such as `metadata.annotations[a.b/c]`, or of the nearest parent that is there."""
        steps = [bracketed or name for bracketed, name in re.findall(r"\[([^\]]*)\]|([^.\[]+)", path)]
        return self._text.line((*self._within, *steps))

    def item(self, position: int, value: dict[str, Any]) -> "Document":
        """The object at a position of this List, from 0."""
        return Document(self.file, self.index, value, self._text, (*self._within, "items", str(position)))


def read(paths: Sequence[str | os.PathLike[str]], stdin: BinaryIO | None = None) -> list[Document]:
    """The documents of files, of folders with everything below them, and of standard input where a path is `-`.

    What is no Kubernetes object, such as Helm values, is passed over in a folder and refused where it is named.
    """
    return [document for path in paths for document in _read(path, stdin or sys.stdin.buffer)]


def files(path: Path) -> list[Path]:
    """The file itself, or the manifests in and below a folder, sorted; nothing whose name begins with a dot."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, folders, names in os.walk(path, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)


def parse(text: str, file: str, *, named: bool = True) -> list[Document]:
    """The documents of a text; one that is no Kubernetes object is refused if the file was named, else left out."""
    documents: list[Document] = []
    for index, (source, value) in enumerate(texts(text, file), start=1):
        if value is None:
            continue
        complaint = _complaint(value)
        if complaint and (named or _is_meant_for_kubernetes(value)):
            raise UnusableInput(file, source.line(()), complaint)
        if not complaint:
            documents += _expanded(Document(file, index, value, source))
    return documents


def dump(manifest: dict[str, Any]) -> str:
    """YAML in the order of the keys and without aliases, which nobody likes to read."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A file within a manifest as a block: it is to be read."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _string)


def _read(path: str | os.PathLike[str], stdin: BinaryIO) -> list[Document]:
    if path == STDIN:
        return parse(_decoded(stdin.read(), "stdin"), "stdin")
    found = files(Path(path))
    if not found:
        suffixes = " or ".join(SUFFIXES)
        raise UnusableInput(os.fspath(path), None, f"expected a file in this folder that ends in {suffixes}")
    return [document for file in found for document in _read_file(file, named=file == Path(path))]


def _read_file(path: Path, *, named: bool) -> list[Document]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        _refuse(error)
    file = _printable(path)
    return parse(_decoded(raw, file), file, named=named)


def _printable(path: Path) -> str:
    """The path for messages: a file's name may hold bytes that are no text."""
    return os.fsencode(path).decode(errors="replace")


def _refuse(error: OSError) -> Any:
    raise UnusableInput(str(error.filename), None, f"cannot be read: {error.strerror}") from error


def _decoded(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Without `from None` the error would carry the whole file along.
        raise UnusableInput(file, raw.count(b"\n", 0, error.start) + 1, "expected text in UTF-8") from None


def _complaint(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"expected a mapping with apiVersion and kind, found a {_type(value)}"
    wrong = [key for key in ("apiVersion", "kind") if not isinstance(value.get(key), str) or not value[key]]
    if not wrong:
        return None
    misspelt = [
        f'; write "{name}" instead of "{key}"'
        for name in wrong
        for key in value
        if key != name and key.lower() == name.lower()
    ]
    lacking = " and no ".join(wrong)
    return f"expected a Kubernetes object, but it has no {lacking} that is a string{''.join(misspelt)}"


def _is_meant_for_kubernetes(value: Any) -> bool:
    """Helm values may have a `kind`, a Chart.yaml has an `apiVersion`; two of the three are no accident."""
    return isinstance(value, dict) and len({"apiVersion", "kind", "metadata"} & value.keys()) > 1


def _type(value: Any) -> str:
    return {list: "list", dict: "mapping", str: "string", bool: "boolean"}.get(type(value), "number")


def _expanded(document: Document) -> Iterator[Document]:
    """The items of a List, as `kubectl get -o yaml` prints one; those of a typed list inherit version and kind."""
    kind, items = document.object["kind"], document.object.get("items")
    if kind != "List" and not (kind.endswith("List") and isinstance(items, list)):
        yield document
        return
    if not isinstance(items or [], list):
        raise UnusableInput(document.file, document.line_of("items"), f"expected a list in items of a {kind}")
    for position, item in enumerate(items or []):
        value = _typed(item, document.object)
        if complaint := _complaint(value):
            raise UnusableInput(document.file, document.line_of(f"items[{position}]"), complaint)
        yield from _expanded(document.item(position, value))


def _typed(item: Any, of: dict[str, Any]) -> Any:
    if of["kind"] == "List" or not isinstance(item, dict):
        return item
    return {"apiVersion": of["apiVersion"], "kind": of["kind"].removesuffix("List"), **item}
