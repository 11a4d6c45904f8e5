import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from app.manifests import Document, dump, parse, read
from app.storage.unusable_input import UnusableInput

HEAD = "apiVersion: v1\nkind: ConfigMap\n"


def one(text: str) -> Document:
    [document] = parse(text, "a.yaml")
    return document


def value(text: str) -> Any:
    return one(f"{HEAD}x: {text}\n").object["x"]


def refusal(text: str, *, named: bool = True) -> str:
    with pytest.raises(UnusableInput) as caught:
        parse(text, "a.yaml", named=named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "a.yaml:1: expected a mapping with apiVersion and kind, found a list"),
        ("5", "a.yaml:1: expected a mapping with apiVersion and kind, found a number"),
        ("true", "a.yaml:1: expected a mapping with apiVersion and kind, found a boolean"),
        (
            "apiVersion: v1\nkind: List\nitems: [null]",
            "a.yaml:3: expected a mapping with apiVersion and kind, found null",
        ),
        ("\n\nkind: A\n", "a.yaml:3: expected a Kubernetes object, but it has no apiVersion that is a string"),
        ("a: 1\n", "a.yaml:1: expected a Kubernetes object, but it has no apiVersion and no kind that is a string"),
        ("apiVersion: v1\nkind: 5\n", "a.yaml:1: expected a Kubernetes object, but it has no kind that is a string"),
        (
            "ApiVersion: v1\nKind: A\n",
            "a.yaml:1: expected a Kubernetes object, but it has no apiVersion and no kind that is a string; "
            'write "apiVersion" instead of "ApiVersion"; write "kind" instead of "Kind"',
        ),
        ("apiVersion: v1\nkind: List\nitems: 5\n", "a.yaml:3: expected a list in items of a List"),
        ("apiVersion: v1\nkind: List\nitems:\n- kind: A\n", "a.yaml:4: expected a Kubernetes object"),
    ],
)
def test_a_refused_object_is_named_by_file_and_line(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_empty_documents_are_counted_but_left_out() -> None:
    documents = parse(f"# first\n---\n---\n{HEAD}---\nnull\n--- # last\n{HEAD}...\n", "a.yaml")
    assert [(document.index, document.line_of()) for document in documents] == [(2, 4), (4, 9)]


def test_the_items_of_a_list_are_documents() -> None:
    text = "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: A\n  x: 1\n- apiVersion: v1\n  kind: Pod\n"
    first, second = parse(text, "a.yaml")
    assert (first.object["x"], first.line_of("x"), first.line_of("gone")) == (1, 6, 4)
    assert (second.object["kind"], second.line_of(), second.index) == ("Pod", 7, 1)


def test_the_items_of_a_typed_list_inherit_their_kind() -> None:
    [document] = parse("apiVersion: v1\nkind: SecretList\nitems: [{metadata: {name: a}}]\n", "a.yaml")
    assert document.object == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}


def test_a_list_may_be_empty_or_an_object_called_so() -> None:
    assert parse("apiVersion: v1\nkind: List\nitems:\n", "a.yaml") == []
    assert one("apiVersion: example.com/v1\nkind: AllowList\nspec: {}\n").object["kind"] == "AllowList"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 2),
        ("kind", 3),
        ("metadata.annotations[a.b/c]", 6),
        ("metadata.annotations[gone]", 5),
        ("spec.storage.cacheSize", 9),
        ("spec.storage.metadataSize", 8),
        ("spec.ports[1].name", 13),
        ("spec.ports.1.name", 13),
        ("spec.ports[2].name", 10),
        ("kind.of.nothing", 3),
        ("status", 2),
    ],
)
def test_a_field_has_its_line_or_that_of_its_parent(path: str, line: int) -> None:
    text = (
        "---\napiVersion: v1\nkind: A\nmetadata:\n  annotations:\n    a.b/c: x\nspec:\n  storage:\n    cacheSize: 1Gi\n"
        "  ports:\n  - name: a\n  - port: 1\n    name: b\n"
    )

    assert one(text).line_of(path) == line


def test_json_has_lines_too_and_may_be_a_stream() -> None:
    first, second = parse(
        '\n{"apiVersion": "v1", "kind": "A"}\n{"apiVersion": "v1",\n"kind": "B", "x": 1.5}\n', "a.json"
    )

    assert (first.index, first.line_of("kind")) == (1, 2)
    assert (second.index, second.line_of("kind"), second.object["x"]) == (2, 4, 1.5)


def test_json_that_is_no_yaml_is_read_all_the_same() -> None:
    document = one('\n{"apiVersion": "v1",\n"kind": "A", "x": "\\ud83d\\ude00", "n": 18446744073709551616}')
    assert (document.object["x"], document.object["n"], document.line_of("kind")) == ("\N{GRINNING FACE}", 2.0**64, 2)


def test_braces_that_are_no_json_are_yaml() -> None:
    assert one("{apiVersion: v1, kind: A, x: yes}").object["x"] is True


def manifest(path: Path, text: str = HEAD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_read_in_order_but_not_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.yml", "a/z.yaml", "c.json", ".hidden.yaml", ".git/x.yaml", "note.txt", "a/.y/x.yaml"):
        manifest(tmp_path / name, json.dumps({"apiVersion": "v1", "kind": "A"}))
    files = [Path(document.file).relative_to(tmp_path).as_posix() for document in read([tmp_path])]
    assert files == ["a/z.yaml", "b.yml", "c.json"]


def test_other_yaml_is_skipped_unless_it_is_named(tmp_path: Path) -> None:
    values = manifest(tmp_path / "values.yaml", "kind: DaemonSet\nreplicas: 1\n")
    manifest(tmp_path / "kustomization.yaml", "resources: [a.yaml]\n")
    manifest(tmp_path / "patch.yaml", "- op: remove\n  path: /spec\n")
    manifest(tmp_path / "Chart.yaml", "apiVersion: v2\nname: x\n")
    manifest(tmp_path / "a.yaml")

    assert [Path(document.file).name for document in read([tmp_path])] == ["a.yaml"]
    with pytest.raises(UnusableInput, match=r"values\.yaml:1: expected a Kubernetes object"):
        read([values])


def test_a_manifest_without_a_version_is_not_skipped(tmp_path: Path) -> None:
    manifest(tmp_path / "a.yaml", "apiversion: v1\nkind: DittoServer\nmetadata: {name: a}\n")
    with pytest.raises(UnusableInput, match=r"a\.yaml:1: expected a Kubernetes object, but it has no apiVersion"):
        read([tmp_path])


def test_standard_input_is_read_for_a_dash() -> None:
    [document] = read(["-"], io.BytesIO(b"\xef\xbb\xbf" + HEAD.encode()))
    assert (document.file, document.line_of("kind")) == ("stdin", 2)


def test_text_that_is_not_utf_8_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(HEAD.encode() + b"x: \xff\n")
    with pytest.raises(UnusableInput, match=r"a\.yaml:3: expected text in UTF-8"):
        read([path])


def test_a_path_with_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"gone\.yaml: cannot be read: No such file or directory"):
        read([tmp_path / "gone.yaml"])
    with pytest.raises(UnusableInput, match=r"expected a file in this folder that ends in \.yaml or \.yml or \.json"):
        read([tmp_path])


def test_a_pipe_can_be_named() -> None:
    out, into = os.pipe()
    os.write(into, HEAD.encode())
    os.close(into)

    assert len(read([f"/dev/fd/{out}"])) == 1

    os.close(out)


def test_a_document_does_not_show_its_object() -> None:
    assert "hunter2" not in repr(one(f"{HEAD}data: {{a: hunter2}}\n"))


def test_a_file_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path / "a") + b"\xff.yaml")
    manifest(Path(path))

    [document] = read([path])

    assert document.file.encode().decode().endswith("a\N{REPLACEMENT CHARACTER}.yaml")


@pytest.mark.parametrize(
    "text", ["y", "N", "1e3", "12e4", "0o14", "+1", "1_0", ".5", "on", "~", "", "=", "a: b", "- a"]
)
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    written = {"apiVersion": "v1", "kind": "A", text: [text]}
    assert one(dump(written)).object == written


@given(strategies.text())
def test_what_is_written_is_read_as_the_same(text: str) -> None:
    assert one(dump({"apiVersion": "v1", "kind": "A", "x": text})).object["x"] == text
