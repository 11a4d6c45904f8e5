"""The CustomResourceDefinition accepts every DittoServer, and every status, that a released one accepted.

What it refuses all the same is in a table, with the reason. Since 1.30 the API server lets an update pass that leaves a
wrong value as it was ("validation ratcheting"); nothing here counts on it.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from app.storage.crd import custom_resource_definition
from app.storage.schema import Schema
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.released_servers import CRD, FOLDER
from tests.harness.schema_comparison import differences, schema_differences
from tests.harness.schema_strategies import values
from tests.harness.server_table import server
from tests.harness.wait import until

EXAMPLES = 60
NAMES = sorted(file.parent.parent.parent.name for file in FOLDER.glob(f"*/{CRD}"))
RELEASED = pytest.mark.parametrize("name", NAMES)
NEW_CLASS_RULE = "its rule was about the only class that a server had, and is the same for a server that sets no other"
# What differs and may refuse something, with the reason why it must, or does not.
INTENDED = {
    **{
        f"v1alpha1.spec.storage: rule: storageClassName of the volume {volume} cannot change; "
        "make a new DittoServer with the other class and copy the data": NEW_CLASS_RULE
        for volume in ("metadata", "content", "cache")
    },
    "v1alpha1.spec: rule: a share in s3 needs s3.bucket and s3.credentialsSecretRef, or s3.serviceAccountName with "
    "DittoFS up to 0.12": "accepts more: another field may take the place of credentialsSecretRef",
    "v1alpha1.spec.service: rule: loadBalancerClass cannot change while the type is LoadBalancer; set the type to "
    "ClusterIP first, then back": "concerns a field that is new; without it, both sides of its comparison are empty",
}


def definition_of(name: str) -> Manifest:
    """Returns the CustomResourceDefinition of a released version."""
    manifest: Manifest = yaml.load((FOLDER / name / CRD).read_text(), yaml.CSafeLoader)
    return manifest


def test_a_released_version_has_a_definition() -> None:
    assert NAMES


@RELEASED
def test_it_refuses_nothing_but_what_is_intended(name: str) -> None:
    assert set(differences(definition_of(name), custom_resource_definition())) <= INTENDED.keys()


def test_what_is_intended_still_differs() -> None:
    current = custom_resource_definition()
    assert {text for name in NAMES for text in differences(definition_of(name), current)} >= INTENDED.keys()


TEXT: Schema = {"type": "string", "maxLength": 9, "minLength": 1, "pattern": "^a", "enum": ["a", "ab"]}
OBJECT: Schema = {"type": "object", "properties": {"a": TEXT, "b": {"type": "integer", "minimum": 0, "maximum": 5}}}
LIST: Schema = {"type": "array", "items": OBJECT, "x-kubernetes-list-type": "atomic", "maxItems": 4}


def with_rule(rule: str) -> Schema:
    return {**OBJECT, "x-kubernetes-validations": [{"rule": rule, "message": "never"}]}


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        (TEXT, {**TEXT, "type": "integer"}, "v: type integer was string"),
        (TEXT, {**TEXT, "enum": ["a", "c"]}, "v: ab is gone from enum"),
        ({"type": "string"}, {"type": "string", "enum": ["a"]}, "v: enum ['a'] was nothing"),
        (TEXT, {**TEXT, "pattern": "^b"}, "v: pattern ^b was ^a"),
        (TEXT, {**TEXT, "maxLength": 8}, "v: maxLength 8 was 9"),
        (TEXT, {**TEXT, "minLength": 2}, "v: minLength 2 was 1"),
        ({"type": "string"}, {"type": "string", "maxLength": 8}, "v: maxLength 8 was nothing"),
        ({"type": "integer"}, {"type": "integer", "format": "int32"}, "v: format int32 was nothing"),
        ({**TEXT, "nullable": True}, TEXT, "v: nullable is gone"),
        (TEXT, {**TEXT, "default": "a"}, "v: default a was nothing"),
        (OBJECT, {**OBJECT, "required": ["a"]}, "v: a is required"),
        (OBJECT, {"type": "object", "properties": {"b": OBJECT["properties"]["b"]}}, "v.a: the field is gone"),
        (OBJECT, {**OBJECT, "properties": {**OBJECT["properties"], "b": {"type": "string"}}}, "v.b: type string was"),
        ({**OBJECT, "x-kubernetes-preserve-unknown-fields": True}, OBJECT, "preserve-unknown-fields is gone"),
        (LIST, {**LIST, "maxItems": 3}, "v: maxItems 3 was 4"),
        (LIST, {**LIST, "x-kubernetes-list-type": "set"}, "v: x-kubernetes-list-type set was atomic"),
        (LIST, {**LIST, "items": {**OBJECT, "required": ["a"]}}, "v[]: a is required"),
        (OBJECT, with_rule("self.b > 3"), "v: rule: never"),
        (OBJECT, with_rule("!has(self.b) || self.b > 3"), "v: rule: never"),
        (OBJECT, with_rule("has(self.a) ? !has(self.c) || self.b > 3 : false"), "v: rule: never"),
        (OBJECT, with_rule("(!has(self.c) || self.b > 3) && self.b > 3"), "v: rule: never"),
    ],
)
def test_a_tightening_is_noticed(old: Schema, new: Schema, difference: str) -> None:
    [noticed] = schema_differences(old, new, "v")
    assert difference in noticed


@pytest.mark.parametrize(
    "new",
    [
        {"type": "object", "properties": OBJECT["properties"] | {"c": {"type": "string"}}},
        {**OBJECT, "properties": {**OBJECT["properties"], "a": {"type": "string"}}},
        {**OBJECT, "x-kubernetes-preserve-unknown-fields": True},
        {**OBJECT, "description": "Another one.", "minProperties": 0, "nullable": True},
        {**OBJECT, "properties": {**OBJECT["properties"], "c": {"default": "x"}}, "required": ["c"]},
        with_rule("!has(self.c) || self.c > self.b"),
        with_rule("self.b > 3 || !(has(self.b) && has(self.c.d))"),
        with_rule("!has(oldSelf.c) || has(self.c)"),
    ],
)
def test_what_accepts_more_is_no_tightening(new: Schema) -> None:
    assert list(schema_differences(OBJECT, new, "v")) == []


def test_an_unknown_keyword_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match="uniqueItems"):
        list(schema_differences(LIST, {**LIST, "uniqueItems": True}, "v"))


@dataclass(frozen=True)
class Definition:
    """A CustomResourceDefinition at the API server, and a namespace to try servers in."""

    client: httpx.Client
    group: str
    namespace: str
    schema: Schema

    def try_out(self, part: str, value: Any) -> httpx.Response:
        """Creates a server with this spec, or gives the server `files` this status, in a dry run.

        Fields that the definition does not know are an error, where kubectl only warns of them.
        """
        options = "?dryRun=All&fieldValidation=Strict"
        if part == "spec":
            return self.client.post(self._path + options, json=self._server(spec=value, metadata={"name": "another"}))

        live = self.client.get(f"{self._path}/files").raise_for_status().json()
        return self.client.put(f"{self._path}/files/status{options}", json={**live, "status": value})

    def create(self) -> None:
        # The API server begins to serve a definition a moment after it has reported that it does.
        until(lambda: self.client.get(self._path).is_success)
        self.client.post(self._path, json=self._server()).raise_for_status()

    def _server(self, **parts: Any) -> Manifest:
        return {**server(), "apiVersion": f"{self.group}/v1alpha1", **parts}

    @property
    def _path(self) -> str:
        return f"/apis/{self.group}/v1alpha1/namespaces/{self.namespace}/dittoservers"


@pytest.fixture
def client(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    headers = {"Authorization": f"Bearer {control_plane.token}"}
    with httpx.Client(base_url=control_plane.url, verify=trust, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def current(client: httpx.Client, crd: None, namespace: str) -> Definition:
    return _created(client, namespace, custom_resource_definition())


@pytest.fixture
def released(
    control_plane: ControlPlane, client: httpx.Client, namespace: str, request: pytest.FixtureRequest
) -> Iterator[Definition]:
    """Installs the definition of a released version under a group of its own, next to the current one."""
    definition = definition_of(request.param)
    # The definition of the test before takes its time to go.
    group = f"{namespace}.example.com"
    definition["spec"]["group"] = group
    definition["spec"]["names"].pop("categories", None)
    definition["metadata"] = {"name": f"dittoservers.{group}"}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    control_plane.create(path, definition)
    control_plane.wait_until_established(f"dittoservers.{group}")

    yield _created(client, namespace, definition)

    control_plane.delete(f"{path}/dittoservers.{group}")


def _created(client: httpx.Client, namespace: str, definition: Manifest) -> Definition:
    [version] = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    created = Definition(client, definition["spec"]["group"], namespace, schema)
    created.create()
    return created


@pytest.mark.parametrize("released", NAMES, indirect=True)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_it_accepts_and_keeps_what_was_accepted(released: Definition, current: Definition, part: str) -> None:
    accepted = []

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
    @given(values(released.schema[part]))
    def compare(value: Any) -> None:
        old = released.try_out(part, value)
        assume(old.is_success)
        accepted.append(value)

        new = current.try_out(part, value)

        assert new.is_success, new.text
        assert keeps(old.json()[part], new.json()[part])

    compare()
    print(f"{len(accepted)} times")


def keeps(old: Any, new: Any) -> bool:
    """Says whether the second value is the first one with nothing but further fields."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(name in new and keeps(old[name], new[name]) for name in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(keeps, old, new))
    return bool(old == new)
