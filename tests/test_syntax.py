import json
from typing import Any

import pytest

from app.storage.unusable_input import UnusableInput
from app.syntax import parse_documents
from tests.controlplane.cluster import ControlPlane

HEAD = "apiVersion: v1\nkind: ConfigMap\n"


def read(text: str) -> Any:
    [(_, parsed)] = parse_documents(text, "a.yaml")
    return parsed


def value(text: str) -> Any:
    return read(f"x: {text}\n")["x"]


def refusal(text: str) -> str:
    with pytest.raises(UnusableInput) as caught:
        list(parse_documents(text, "a.yaml"))
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
    "!!binary aGk=": "hi",
    "!!python/object/apply:os.system [exit 1]": ["exit 1"],
    "!!set {a: 1}": {"a": 1},
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_value_is_what_kubectl_makes_of_it(text: str) -> None:
    assert repr(value(f"[{text}]")) == repr([SCALARS[text]])


def test_kubectl_makes_the_same_of_every_value(control_plane: ControlPlane) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nx:\n" + "".join(f"- [{text}]\n" for text in SCALARS)
    options = ("--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
    assert json.loads(control_plane.kubectl("create", *options, input=text).stdout)["x"] == read(text)["x"]


def test_whole_numbers_in_json_are_integers() -> None:
    parsed = read('{"apiVersion": "v1", "kind": "A", "x": [2049.0, 2e3, -0.0, 2.5, 1e300]}')

    assert repr(parsed["x"]) == "[2049, 2000, 0, 2.5, 1e+300]"


def test_numbers_beyond_64_bits_are_floats_or_text() -> None:
    assert value("18446744073709551616") == 2.0**64
    assert value("9" * 5000) == "9" * 5000
    assert read(f'{{"x": {"9" * 400}}}')["x"] == "9" * 400


def test_keys_become_strings_as_in_kubectl() -> None:
    assert value("{8080: a, 0x10: b, yes: c, on-call: d}") == {"8080": "a", "16": "b", "true": "c", "on-call": "d"}


def test_merged_mappings_can_be_overridden() -> None:
    text = "a: &a {k: 1, l: 1}\nb: &b {k: 2, m: 2}\nx:\n  <<: [*a, *b]\n  l: 3\n"
    assert read(text)["x"] == {"k": 1, "l": 3, "m": 2}


def test_an_aliased_value_is_a_copy() -> None:
    parsed = read("a: &a {k: 1}\nb: *a\n")
    parsed["b"]["k"] = 2
    assert parsed["a"] == {"k": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}a: 1\nb: 2\na: 3\n", 'a.yaml:5: expected the key "a" once'),
        (f"{HEAD}x:\n\ta: 1\n", "a.yaml:4: expected spaces for indentation, found a tab"),
        (f"{HEAD}x: 'never closed\n", "a.yaml:"),
        (f"{HEAD}x: .nan\n", "a.yaml:3: expected a finite number"),
        (f"{HEAD}x: [1, -.inf]\n", "a.yaml:3: expected a finite number"),
        (f"{HEAD}x: &x\n- *x\n", "a.yaml:3: expected a value, found an alias of the value that contains it"),
        (f"{HEAD}x: *gone\n", "a.yaml:3: expected YAML: found undefined alias"),
        (f"{HEAD}1.5: x\n", "a.yaml:3: expected a string for a key"),
        (f"{HEAD}? [a]\n: x\n", "a.yaml:3: expected a string for a key"),
        (f"{HEAD}x: {{<<: 5}}\n", "a.yaml:3: expected a mapping or a list of mappings after <<"),
        (f"{HEAD}x: !!int five\n", "a.yaml:3: expected a value that fits its tag !!int"),
        (f"{HEAD}x: !!binary aG\n", "a.yaml:3: expected text in base64"),
        (f"{HEAD}x: !!binary /w==\n", "a.yaml:3: expected text in base64"),
        (f"# x\n\n%YAML 1.1\n---\n{HEAD}", "a.yaml:3: expected no YAML directive"),
        (f"{HEAD}x: \x01\n", "a.yaml:3: expected text, found a control character"),
        (f"{HEAD}x: {'[' * 100_000}", "a.yaml:3: expected YAML: it is nested more than 200 levels deep"),
        (f"{HEAD}x: {{{{ .Values.size }}}}\n", "a.yaml:3: expected a string for a key; if this is a Helm template"),
        ("{{- if .Values.on }}\n", "a.yaml:1: expected YAML: did not find expected node content; if this is a Helm"),
        ('{"apiVersion": "v1",\n"kind": "A", "kind": "B"}', 'a.yaml:2: expected the key "kind" once'),
        ('{"apiVersion": "v1", "kind": "A", "x": "\\ud83d"}', "a.yaml:1: expected YAML: found invalid Unicode"),
        ('{"apiVersion": "v1",\n"kind": "A"', "a.yaml:"),
    ],
)
def test_an_error_names_file_line_and_what_was_expected(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_aliases_cannot_fill_the_memory() -> None:
    levels = "".join(f"{level + 1}a: &a{level + 1} [{', '.join([f'*a{level}'] * 10)}]\n" for level in range(30))
    assert "expected fewer aliases" in refusal(f"{HEAD}0a: &a0 [x]\n{levels}")


def test_a_refusal_never_quotes_a_value() -> None:
    marker = "hunter2"
    texts = (f"x: *{marker}", f"x: !!int {marker}", f"x: '{marker}", f"{marker}: [", f"x: {{{marker}: 1.5: 2}}", marker)
    for text in texts:
        assert marker not in refusal(HEAD + text)
