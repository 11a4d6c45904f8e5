"""Reads manifests in YAML and JSON as kubectl does, and knows the lines of their fields. It changes and sends nothing.

An error names the file, the line and what was expected, but never a value, which could be a Secret's.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml

from app.storage.unusable_input import UnusableInput
from app.syntax import Text, is_plain, parse_documents

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
        """Returns the line of a field such as `metadata.annotations[a.b/c]`, or of its nearest parent in the text."""
        steps = [bracketed or name for bracketed, name in re.findall(r"\[([^\]]*)\]|([^.\[]+)", path)]
        return self._text.line((*self._within, *steps))

    def item(self, position: int, value: dict[str, Any]) -> "Document":
        """Returns the object at a position of this List, counted from 0."""
        return Document(self.file, self.index, value, self._text, (*self._within, "items", str(position)))


def read(paths: Sequence[str | os.PathLike[str]], stdin: BinaryIO | None = None) -> list[Document]:
    """Reads files, folders with all below them, and standard input where a path is `-`. Raises UnusableInput."""
    documents = []
    for path in paths:
        if path == STDIN:
            documents += parse(_decode((stdin or sys.stdin.buffer).read(), "stdin"), "stdin")
            continue

        files = list_files(Path(path))
        if not files:
            suffixes = " or ".join(SUFFIXES)
            raise UnusableInput(os.fspath(path), None, f"expected a file in this folder that ends in {suffixes}")
        for file in files:
            try:
                raw = file.read_bytes()
            except OSError as error:
                _refuse(error)

            # The name of a file may hold bytes that are no text. What is no Kubernetes object, such as Helm values, is
            # skipped in a folder and refused where it is named.
            name = os.fsencode(file).decode(errors="replace")
            documents += parse(_decode(raw, name), name, named=file == Path(path))

    return documents


def list_files(path: Path) -> list[Path]:
    """Returns the file itself, or the manifests in and below a folder, sorted, without names that begin with a dot."""
    if not path.is_dir():
        return [path]

    files = []
    for folder, folders, names in os.walk(path, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(files)


def _refuse(error: OSError) -> NoReturn:
    raise UnusableInput(str(error.filename), None, f"cannot be read: {error.strerror}") from error


def _decode(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Without `from None` the error would carry the whole file along.
        raise UnusableInput(file, raw.count(b"\n", 0, error.start) + 1, "expected text in UTF-8") from None


def parse(text: str, file: str, *, named: bool = True) -> list[Document]:
    """Parses the documents of a text. Raises UnusableInput for no Kubernetes object if the file was named."""
    documents: list[Document] = []
    for index, (source, value) in enumerate(parse_documents(text, file), start=1):
        if value is None:
            continue

        complaint = _why_no_object(value)
        if not complaint:
            documents += _expand(Document(file, index, value, source))
            continue

        # Helm values may have a `kind` and a Chart.yaml has an `apiVersion`, but two of the three are no accident.
        is_meant_as_object = isinstance(value, dict) and len({"apiVersion", "kind", "metadata"} & value.keys()) > 1
        if named or is_meant_as_object:
            raise UnusableInput(file, source.line(()), complaint)

    return documents


def _why_no_object(value: Any) -> str | None:
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
        return f"expected a mapping with apiVersion and kind, found {kind}"

    missing = [key for key in ("apiVersion", "kind") if not isinstance(value.get(key), str) or not value[key]]
    if not missing:
        return None

    misspelt = [
        f'; write "{name}" instead of "{key}"'
        for name in missing
        for key in value
        if key != name and key.lower() == name.lower()
    ]
    fields = " and no ".join(missing)
    return f"expected a Kubernetes object, but it has no {fields} that is a string{''.join(misspelt)}"


def _expand(document: Document) -> Iterator[Document]:
    """Yields the items of a List, as `kubectl get -o yaml` prints one, or the document itself if it is none."""
    kind, items = document.object["kind"], document.object.get("items")
    if kind != "List" and not (kind.endswith("List") and isinstance(items, list)):
        yield document
        return

    if not isinstance(items or [], list):
        raise UnusableInput(document.file, document.line_of("items"), f"expected a list in items of a {kind}")

    # The items of a typed list, such as a SecretList, need no version and kind of their own.
    typed = {"apiVersion": document.object["apiVersion"], "kind": kind.removesuffix("List")} if kind != "List" else {}
    for position, item in enumerate(items or []):
        value = {**typed, **item} if isinstance(item, dict) else item
        if complaint := _why_no_object(value):
            raise UnusableInput(document.file, document.line_of(f"items[{position}]"), complaint)
        yield from _expand(document.item(position, value))


_TEXT_TAG = "tag:yaml.org,2002:str"


def dump(manifest: Any) -> str:
    """Returns YAML with the keys in their order, without aliases, which are hard to read."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        """Writes text of several lines, such as a file in a ConfigMap, as a block, so that people can read it."""
        if not isinstance(value, str) or tag != _TEXT_TAG:
            return super().represent_scalar(tag, value, style)

        # Between other quotes, PyYAML leaves some line breaks of Unicode as they are, and readers take them for spaces.
        if not value.replace("\n", "").replace("\t", "").isprintable():
            return super().represent_scalar(tag, value, '"')
        if "\n" in value:
            return super().represent_scalar(tag, value, "|")
        # To kubectl, y and 1e3 are no text without quotes.
        return super().represent_scalar(tag, value, style if is_plain(value) else "'")
