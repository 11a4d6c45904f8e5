"""The data is what an API server publishes: another version publishes other types."""

import pytest

from app.storage.core_v1 import KUBERNETES
from manifests.core_v1 import FILE, module
from tests.controlplane.cluster import ControlPlane


def test_the_types_are_those_that_are_published(control_plane: ControlPlane) -> None:
    document = control_plane.get("/openapi/v3/api/v1")
    version = document["info"]["version"]
    if version != KUBERNETES:
        pytest.skip(f"the API server of the tests is Kubernetes {version}, the types are those of {KUBERNETES}")

    assert FILE.read_text() == module(document), "run `make schema`"


def test_the_guide_names_the_version() -> None:
    guide = FILE.parents[2] / "docs/how-to/check-manifests.md"
    assert f"core/v1 in Kubernetes {KUBERNETES}." in guide.read_text()
