"""The page of what users ask for is true: its fields exist, and its samples use them and are tested in a cluster."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from manifests.wishes import WISHES, Wish

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "manifests/samples"
TESTS = ast.parse((ROOT / "tests/e2e/test_wishes.py").read_text())
every_wish = pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish.sample)


def sample(wish: Wish) -> Manifest:
    """Returns the one DittoServer in the sample."""
    documents = yaml.safe_load_all((SAMPLES / f"{wish.sample}.yaml").read_text())
    [server] = [document for document in documents if document["kind"] == KIND]
    return dict(server)


def schema_at(path: str) -> Any:
    """Returns the schema of a field of the spec, or None where there is no such field."""
    [version] = custom_resource_definition()["spec"]["versions"]
    node = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path.split("."):
        node = node.get("properties", {}).get(name)
        if node is None:
            return None
    return node


def value_at(path: str, node: Any) -> Any:
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return ...
        node = node[name]
    return node


@every_wish
def test_every_field_of_a_wish_exists(wish: Wish) -> None:
    assert [path for path in wish.fields if schema_at(path) is None] == []


@every_wish
def test_a_sample_uses_the_first_field_of_its_wish(wish: Wish) -> None:
    server = sample(wish)

    assert server["metadata"]["name"] == wish.sample
    assert value_at(wish.fields[0], server["spec"]) is not ...


@every_wish
def test_a_sample_starts_with_what_it_is_for(wish: Wish) -> None:
    assert (SAMPLES / f"{wish.sample}.yaml").read_text().startswith("# ")


@every_wish
def test_a_sample_is_tested_in_a_real_cluster(wish: Wish) -> None:
    functions = [node for node in TESTS.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    constants = [
        {constant.value for constant in ast.walk(function) if isinstance(constant, ast.Constant)}
        for function in functions
    ]
    assert any(wish.sample in names for names in constants)
