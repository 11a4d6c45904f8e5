from typing import Any

import httpx
import pytest

from app.storage.names import image_tag, is_annotation_key, is_secret_key, is_server_name, is_subdomain
from tests.controlplane.cluster import ControlPlane

SUBDOMAINS = [
    "a",
    "s3",
    "a-b.c",
    "a" * 253,
    "",
    "A",
    "a b",
    "a_b",
    "-a",
    "a.",
    "a..b",
    "a" * 254,
    "é",
    "a\n",
    "a/b",
    ".",
]
ANNOTATION_KEYS = [
    *("a", "A.b_c-d", "a.b/c", "A.B/C", "a/b/c", "/a", "a/", "", "a b", "é", "-a", "a\n", "a.b/" + "c" * 63),
    *("a" * 64, "a_b/c", "x" * 254 + "/a"),
]
SECRET_KEYS = ["a", "A_b.c-d", ".a", "-", ".", "..", "..a", "", "a b", "é", "a/b", "a" * 253, "a" * 254, "a\n"]


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a", True), ("a-1", True), ("a" * 52, True), ("a" * 53, False), ("1a", False), ("a.b", False), ("a-", False)],
)
def test_a_server_name_fits_pods_and_services(name: str, fits: bool) -> None:
    assert is_server_name(name) is fits


@pytest.mark.parametrize("name", SUBDOMAINS)
def test_subdomains_are_the_api_servers(control_plane: ControlPlane, name: str) -> None:
    assert is_subdomain(name) is takes(control_plane, {"name": name}, {})


@pytest.mark.parametrize("key", ANNOTATION_KEYS)
def test_annotation_keys_are_the_api_servers(control_plane: ControlPlane, key: str) -> None:
    assert is_annotation_key(key) is takes(control_plane, {"name": "one", "annotations": {key: ""}}, {})


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_keys_are_the_api_servers(control_plane: ControlPlane, key: str) -> None:
    assert is_secret_key(key) is takes(control_plane, {"name": "one"}, {key: ""})


def takes(control_plane: ControlPlane, metadata: dict[str, Any], data: dict[str, str]) -> bool:
    """Tells whether the API server would store such a Secret."""
    try:
        control_plane.create("/api/v1/namespaces/default/secrets?dryRun=All", {"metadata": metadata, "data": data})
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 422  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("dittofs", None),
        ("dittofs:v1", "v1"),
        ("dittofs:", ""),
        ("registry:5000/dittofs", None),
        ("registry:5000/dittofs:v1@sha256:00", "v1"),
        ("dittofs@sha256:00", None),
    ],
)
def test_the_tag_of_an_image_is_neither_port_nor_digest(image: str, tag: str | None) -> None:
    assert image_tag(image) == tag
