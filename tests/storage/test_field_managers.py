from typing import Any

import pytest

from app.storage.field_managers import MAX_MANAGER_CHARACTERS, MAX_MANAGERS, field_managers
from app.storage.unstructured import Manifest

IMAGE = "spec.template.spec.containers[dittofs].image"


def entry(manager: str, fields: Manifest, **more: Any) -> Manifest:
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def nested(*keys: str) -> Manifest:
    fields: Manifest = {}
    for key in reversed(keys):
        fields = {".": {}, key: fields} if fields else {key: {}}
    return fields


def managers(*entries: Manifest, paths: tuple[str, ...] = (IMAGE,)) -> tuple[str, ...]:
    return field_managers({"metadata": {"managedFields": list(entries)}}, paths, "us")


def container(name: str, *keys: str) -> Manifest:
    return nested("f:spec", "f:template", "f:spec", "f:containers", f'k:{{"name":"{name}"}}', *keys)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (container("dittofs", "f:image"), IMAGE),
        (nested("f:spec", "f:replicas"), "spec.replicas"),
        (nested("f:metadata", "f:labels", "f:example.com/team"), "metadata.labels[example.com/team]"),
        (nested("f:spec", "f:ports", 'k:{"port":2049,"protocol":"TCP"}', "f:nodePort"), "spec.ports[nfs].nodePort"),
        # The whole section came or went.
        (container("dittofs", "f:resources", "f:limits", "f:cpu"), "spec.template.spec.containers[dittofs].resources"),
        (nested("f:spec", "f:selector"), "spec.selector.a"),
    ],
)
def test_who_wrote_a_field_is_found(fields: Manifest, path: str) -> None:
    assert managers(entry("kubectl-edit", fields), paths=("data", path)) == ("kubectl-edit",)


@pytest.mark.parametrize(
    "other",
    [
        entry("us", container("dittofs", "f:image")),
        entry("kubelet", container("dittofs", "f:image"), subresource="status"),
        entry("kubectl-edit", container("sidecar", "f:image")),
        entry("kubectl-edit", container("dittofs", "f:imagePullPolicy")),
        entry("kubectl-edit", {}),
        {"manager": "kubectl-edit"},
        {},
    ],
)
def test_who_wrote_other_fields_is_not(other: Manifest) -> None:
    assert managers(other) == ()


def test_kubectl_scale_is_found_although_it_writes_a_subresource() -> None:
    scaled = entry("kubectl", nested("f:spec", "f:replicas"), subresource="scale")

    assert managers(scaled, paths=("spec.replicas",)) == ("kubectl",)


def test_names_that_anybody_chooses_are_short_and_few() -> None:
    fields = container("dittofs", "f:image")
    entries = [entry(f"{number}\n\x1b[31m{'x' * 200}", fields) for number in range(9)]
    names = managers(*entries)

    assert len(names) == MAX_MANAGERS
    assert all(len(name) <= MAX_MANAGER_CHARACTERS and name.isprintable() for name in names)


def test_many_fields_are_not_searched() -> None:
    many: Manifest = {"f:data": {f"f:k{number}": {} for number in range(1000)}}

    assert managers(entry("kubectl", many), paths=("data.k1",)) == ()
    assert managers(entry("kubectl", many), paths=("data",)) == ("kubectl",)


def test_an_object_without_managed_fields_has_no_managers() -> None:
    assert field_managers({"metadata": {}}, (IMAGE,), "us") == ()
