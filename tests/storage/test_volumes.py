from typing import Any

import pytest

from app.storage.facts import Claim, StorageClasses
from app.storage.reading import read
from app.storage.spec import Storage
from app.storage.volumes import resized_volumes, server_of_claim, storage_class_of, volumes
from tests.harness.server_table import server, storage


def storage_with(**fields: Any) -> Storage:
    return read(server(**storage(**fields))).server.spec.storage


def test_volumes_keep_the_order_of_claim_templates() -> None:
    table = [(volume.name, volume.mount_path, volume.size) for volume in volumes(storage_with(contentSize="50Gi"))]

    assert table == [
        ("metadata", "/data/metadata", "10Gi"),
        ("content", "/data/content", "50Gi"),
        ("cache", "/data/cache", "5Gi"),
    ]


def test_a_claim_is_named_as_its_controller_names_it() -> None:
    assert [volume.claim_name("files") for volume in volumes(storage_with())][-1] == "cache-files-0"


def test_there_is_no_content_volume_without_a_size() -> None:
    assert [volume.name for volume in volumes(storage_with()) if volume.size] == ["metadata", "cache"]


def test_only_a_size_that_is_new_or_another_is_resized() -> None:
    old = storage_with(contentSize="50Gi", cacheSize="1024Mi")
    same_cache = storage_with(cacheSize="1Gi")

    def resized(new: Storage, old: Storage) -> list[str]:
        return [volume.name for volume in resized_volumes(volumes(new), volumes(old))]

    assert resized(storage_with(contentSize="51Gi", cacheSize="1Gi"), old) == ["content"]
    assert resized(same_cache, old) == []
    assert resized(old, same_cache) == ["content"]


@pytest.mark.parametrize("name", ["files", "a", "a-0", "metadata-files", "x" * 52])
def test_a_claim_names_its_server(name: str) -> None:
    assert [server_of_claim(volume.claim_name(name)) for volume in volumes(storage_with())] == [name] * 3


@pytest.mark.parametrize("claim", ["", "files", "cache-0", "cache-files-1", "logs-files-0", "cache-files-0\n"])
def test_a_claim_of_nobody_names_no_server(claim: str) -> None:
    assert server_of_claim(claim) is None


@pytest.mark.parametrize(
    ("claim", "storage_class"),
    [
        (None, "fast"),
        (Claim("cache-files-0"), "fast"),
        (Claim("cache-files-0", "slow"), "slow"),
        (Claim("cache-files-0", "", "5Gi", "Bound"), ""),
        (Claim("cache-files-0", None, "5Gi", "Bound"), ""),
    ],
)
def test_a_bound_claim_keeps_its_class(claim: Claim | None, storage_class: str) -> None:
    assert storage_class_of(volumes(storage_with())[-1], claim, StorageClasses()) == storage_class


def test_a_volume_of_its_own_class_does_not_take_the_default() -> None:
    metadata, content, cache = volumes(storage_with(metadata={"storageClassName": ""}, cache={"labels": {"a": "b"}}))

    assert [volume.storage_class for volume in (metadata, content, cache)] == ["", "fast", "fast"]
    assert [volume.class_field.removeprefix("spec.storage.") for volume in (metadata, cache)] == [
        "metadata.storageClassName",
        "storageClassName",
    ]
