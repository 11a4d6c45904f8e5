import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.manifests import Document, UnusableInput, parse, read
from tests.controlplane.cluster import ControlPlane

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


# What `kubectl create --dry-run=client -o json` makes of a value.
SCALARS: dict[str, Any] = {
    "yes": True,
    "Yes": True,
    "y": True,
    "on": True,
    "true": True,
    "n": False,
    "OFF": False,
    "no": False,
    "yEs": "yEs",
    '"yes"': "yes",
    "!!str yes": "yes",
    "~": None,
    "Null": None,
    "''": "",
    "017": 15,
    "0o17": 15,
    "08": 8,
    "-017": -15,
    "0": 0,
    "00": 0,
    "0x1F": 31,
    "0b11": 3,
    "+5": 5,
    "1_000": 1000,
    "!!int '7'": 7,
    "!!float 7": 7,
    "9223372036854775807": 9223372036854775807,
    "1e3": 1000,
    "1.0": 1,
    "1.5": 1.5,
    ".5": 0.5,
    "1e999": "1e999",
    "5Gi": "5Gi",
    "-": "-",
    "0x": "0x",
    "12:30:45": "12:30:45",
    "2001-12-14": "2001-12-14",
    "2001-12-14T21:59:43Z": "2001-12-14T21:59:43Z",
    "!!timestamp 2001-12-14": "2001-12-14",
    "=": "=",
    "<<": "<<",
    "!vault text": "text",
    "!!python/object/apply:os.system [exit 1]": ["exit 1"],
    "!!set {a: 1}": {"a": 1},
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_value_is_what_kubectl_makes_of_it(text: str) -> None:
    assert repr(value(f"[{text}]")) == repr([SCALARS[text]])


def test_kubectl_makes_the_same_of_every_value(control_plane: ControlPlane) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nx:\n" + "".join(f"- [{text}]\n" for text in SCALARS)
    options = ("--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
    assert json.loads(control_plane.kubectl("create", *options, input=text).stdout)["x"] == one(text).object["x"]


def test_numbers_beyond_64_bits_are_floats_or_text_and_never_an_error() -> None:
    assert value("18446744073709551616") == 2.0**64
    assert value("9" * 5000) == "9" * 5000


def test_keys_are_the_strings_that_kubectl_makes_of_them() -> None:
    assert value("{8080: a, 0x10: b, yes: c, on-call: d}") == {"8080": "a", "16": "b", "true": "c", "on-call": "d"}


def test_merged_mappings_are_taken_over_and_can_be_overridden() -> None:
    text = f"{HEAD}a: &a {{k: 1, l: 1}}\nb: &b {{k: 2, m: 2}}\nx:\n  <<: [*a, *b]\n  l: 3\n"
    assert one(text).object["x"] == {"k": 1, "l": 3, "m": 2}


def test_an_aliased_value_is_a_copy() -> None:
    found = one(f"{HEAD}a: &a {{k: 1}}\nb: *a\n").object
    found["b"]["k"] = 2
    assert found["a"] == {"k": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}a: 1\nb: 2\na: 3\n", 'a.yaml:5: expected the key "a" once'),
        (f"{HEAD}x:\n\ta: 1\n", "a.yaml:4: expected spaces, found a tab"),
        (f"{HEAD}x: 'never closed\n", "a.yaml:"),
        (f"{HEAD}x: .nan\n", "a.yaml:3: expected a finite number"),
        (f"{HEAD}x: [1, -.inf]\n", "a.yaml:3: expected a finite number"),
        (f"{HEAD}x: &x\n- *x\n", "a.yaml:3: expected a value, found an alias of what it is in"),
        (f"{HEAD}x: *gone\n", "a.yaml:3: expected YAML: found undefined alias"),
        (f"{HEAD}1.5: x\n", "a.yaml:3: expected a string for a key"),
        (f"{HEAD}? [a]\n: x\n", "a.yaml:3: expected a string for a key"),
        (f"{HEAD}x: {{<<: 5}}\n", "a.yaml:3: expected a mapping, or a list of them, after <<"),
        (f"{HEAD}x: !!int five\n", "a.yaml:3: expected a value that fits its tag !!int"),
        (f"{HEAD}x: !!binary aGk=\n", "a.yaml:3: expected base64 as a string"),
        (f"{HEAD}x: \x01\n", "a.yaml:3: expected text, found a control character"),
        (f"{HEAD}x: {'[' * 100_000}", "a.yaml:3: expected YAML: it is nested more than 200 deep"),
        (f"{HEAD}x: {{{{ .Values.size }}}}\n", "a.yaml:3: expected a string for a key; if this is a Helm template"),
        ("{{- if .Values.on }}\n", "a.yaml:1: expected YAML: did not find expected node content; if this is a Helm"),
        ("- a\n", "a.yaml:1: expected a mapping with apiVersion and kind, found a list"),
        ("5", "a.yaml:1: expected a mapping with apiVersion and kind, found a number"),
        ("\n\nkind: A\n", "a.yaml:3: expected a Kubernetes object, but it has no apiVersion that is a string"),
        ("a: 1\n", "a.yaml:1: expected a Kubernetes object, but it has no apiVersion and no kind that is a string"),
        ("apiVersion: v1\nkind: 5\n", "a.yaml:1: expected a Kubernetes object, but it has no kind that is a string"),
        ("apiVersion: v1\nkind: List\nitems: 5\n", "a.yaml:3: expected a list in items of a List"),
        ("apiVersion: v1\nkind: List\nitems:\n- kind: A\n", "a.yaml:4: expected a Kubernetes object"),
        ('{"apiVersion": "v1",\n"kind": "A", "kind": "B"}', 'a.yaml:2: expected the key "kind" once'),
        ('{"apiVersion": "v1", "kind": "A", "x": "\\ud83d"}', "a.yaml:1: expected YAML: found invalid Unicode"),
        ('{"apiVersion": "v1",\n"kind": "A"', "a.yaml:"),
    ],
)
def test_unusable_input_is_refused_by_file_line_and_what_was_expected(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    levels = "".join(f"{level + 1}a: &a{level + 1} [{', '.join([f'*a{level}'] * 10)}]\n" for level in range(30))
    assert "expected fewer aliases" in refusal(f"{HEAD}0a: &a0 [x]\n{levels}")


def test_a_refusal_never_quotes_a_value() -> None:
    marker = "hunter2"
    texts = (f"x: *{marker}", f"x: !!int {marker}", f"x: '{marker}", f"{marker}: [", f"x: {{{marker}: 1.5: 2}}", marker)
    for text in texts:
        assert marker not in refusal(HEAD + text)


def test_documents_are_counted_and_empty_ones_left_out() -> None:
    found = parse(f"# first\n---\n---\n{HEAD}---\nnull\n--- # last\n{HEAD}...\n", "a.yaml")
    assert [(document.index, document.line_of()) for document in found] == [(2, 4), (4, 9)]


def test_the_items_of_a_list_are_documents_of_their_own() -> None:
    text = "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: A\n  x: 1\n- apiVersion: v1\n  kind: Pod\n"
    first, second = parse(text, "a.yaml")
    assert (first.object["x"], first.line_of("x"), first.line_of("gone")) == (1, 6, 4)
    assert (second.object["kind"], second.line_of(), second.index) == ("Pod", 7, 1)


def test_the_items_of_a_typed_list_inherit_their_kind() -> None:
    [found] = parse("apiVersion: v1\nkind: SecretList\nitems: [{metadata: {name: a}}]\n", "a.yaml")
    assert found.object == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}


def test_a_list_without_items_holds_nothing_and_an_object_called_a_list_is_one() -> None:
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
def test_a_field_has_the_line_of_its_key_or_of_its_nearest_parent(path: str, line: int) -> None:
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
    found = one('\n{"apiVersion": "v1",\n"kind": "A", "x": "\\ud83d\\ude00", "n": 18446744073709551616}')
    assert (found.object["x"], found.object["n"], found.line_of("kind")) == ("\N{GRINNING FACE}", 2.0**64, 2)


def test_braces_that_are_no_json_are_yaml() -> None:
    assert one("{apiVersion: v1, kind: A, x: yes}").object["x"] is True


def manifest(path: Path, text: str = HEAD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_read_in_order_with_all_below_it_but_nothing_hidden(tmp_path: Path) -> None:
    for name in ("b.yml", "a/z.yaml", "c.json", ".hidden.yaml", ".git/x.yaml", "note.txt", "a/.y/x.yaml"):
        manifest(tmp_path / name, json.dumps({"apiVersion": "v1", "kind": "A"}))
    found = [Path(document.file).relative_to(tmp_path).as_posix() for document in read([tmp_path])]
    assert found == ["a/z.yaml", "b.yml", "c.json"]


def test_what_is_not_for_kubernetes_is_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    values = manifest(tmp_path / "values.yaml", "kind: DaemonSet\nreplicas: 1\n")
    manifest(tmp_path / "kustomization.yaml", "resources: [a.yaml]\n")
    manifest(tmp_path / "patch.yaml", "- op: remove\n  path: /spec\n")
    manifest(tmp_path / "Chart.yaml", "apiVersion: v2\nname: x\n")
    manifest(tmp_path / "a.yaml")
    assert [Path(document.file).name for document in read([tmp_path])] == ["a.yaml"]
    with pytest.raises(UnusableInput, match=r"values\.yaml:1: expected a Kubernetes object"):
        read([values])


def test_a_manifest_that_lacks_its_version_is_not_passed_over(tmp_path: Path) -> None:
    manifest(tmp_path / "a.yaml", "apiversion: v1\nkind: DittoServer\nmetadata: {name: a}\n")
    with pytest.raises(UnusableInput, match=r"a\.yaml:1: expected a Kubernetes object, but it has no apiVersion"):
        read([tmp_path])


def test_standard_input_is_read_for_a_dash() -> None:
    [found] = read(["-"], io.BytesIO(b"\xef\xbb\xbf" + HEAD.encode()))
    assert (found.file, found.line_of("kind")) == ("stdin", 2)


def test_text_that_is_not_utf_8_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(HEAD.encode() + b"x: \xff\n")
    with pytest.raises(UnusableInput, match=r"a\.yaml:3: expected text in UTF-8"):
        read([path])


def test_a_path_with_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"gone\.yaml: cannot be read: No such file or directory"):
        read([tmp_path / "gone.yaml"])
    with pytest.raises(UnusableInput, match=r"expected a file that ends in \.yaml, \.yml, \.json in this folder"):
        read([tmp_path])


def test_a_pipe_can_be_named() -> None:
    out, into = os.pipe()
    os.write(into, HEAD.encode())
    os.close(into)
    assert len(read([f"/dev/fd/{out}"])) == 1
    os.close(out)


def test_a_document_does_not_show_its_object() -> None:
    assert "hunter2" not in repr(one(f"{HEAD}data: {{a: hunter2}}\n"))
