import logging
import os
from pathlib import Path

import pytest

from app.cluster.errors import NotFound
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, SECRETS, STATEFUL_SETS, STORAGE_CLASSES
from app.cluster.snapshot import CHECK_SECONDS, Snapshot
from app.storage.unusable_input import UnusableInput

FAST = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\n"
SLOW = FAST.replace("fast", "slow")
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\n"
CLAIM = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: cache-a-0, namespace: files}\n"
SERVER = "apiVersion: dittofs.dittofs.com/v1alpha1\nkind: DittoServer\nmetadata: {name: a, namespace: files}\n"
SET = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a, namespace: files}\n"
SNAPSHOT = "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshot\nmetadata: {name: a}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a-0, namespace: files}\n"
EVENT = "apiVersion: v1\nkind: Event\nmetadata: {name: a.1, namespace: files}\n"


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot.yaml"
    path.write_text("---\n".join((FAST, SECRET, CLAIM)))
    return path


def write(path: Path, text: str | None) -> None:
    path.unlink() if text is None else path.write_text(text)


async def names(snapshot: Snapshot) -> list[str]:
    return [item["metadata"]["name"] for item in (await snapshot.list(STORAGE_CLASSES)).items]


@pytest.mark.anyio
async def test_an_object_is_found_by_name_and_namespace(path: Path) -> None:
    snapshot = Snapshot(path)
    assert (await snapshot.get(CLAIMS, "cache-a-0", "files"))["kind"] == "PersistentVolumeClaim"
    with pytest.raises(NotFound, match='persistentvolumeclaims "cache-a-0" not found'):
        await snapshot.get(CLAIMS, "cache-a-0", "elsewhere")


@pytest.mark.anyio
async def test_an_object_without_a_namespace_is_in_default(path: Path) -> None:
    snapshot = Snapshot(path)
    assert await snapshot.get(SECRETS, "s3") == await snapshot.get(SECRETS, "s3", "default")


@pytest.mark.anyio
async def test_a_cluster_wide_object_is_in_no_namespace(path: Path) -> None:
    assert (await Snapshot(path).get(STORAGE_CLASSES, "fast", "anywhere"))["metadata"] == {"name": "fast"}


@pytest.mark.anyio
async def test_what_is_not_there_does_not_exist(path: Path) -> None:
    snapshot = Snapshot(path)

    assert (await snapshot.list(CLAIMS, "elsewhere")).items == ()
    assert (await snapshot.list(CLAIMS)).gap is None
    with pytest.raises(NotFound):
        await snapshot.get(SECRETS, "other")


@pytest.mark.anyio
async def test_servers_and_what_runs_for_them_are_found(path: Path) -> None:
    templates = "spec: {volumeClaimTemplates: [{metadata: {name: cache}, spec: {}}]}\n"
    write(path, "---\n".join((SERVER, SET + templates, POD)))
    snapshot = Snapshot(path)
    for resource in (DITTO_SERVERS, STATEFUL_SETS, PODS):
        [item] = (await snapshot.list(resource, "files")).items
        assert item["kind"] == resource.kind


@pytest.mark.anyio
async def test_the_later_of_two_objects_counts(path: Path) -> None:
    write(path, f"{FAST}---\n{FAST}allowVolumeExpansion: true\n")
    assert (await Snapshot(path).get(STORAGE_CLASSES, "fast"))["allowVolumeExpansion"] is True


@pytest.mark.anyio
async def test_other_objects_may_have_any_shape(path: Path) -> None:
    write(path, f"{FAST}---\napiVersion: v1\nkind: Kustomization\n---\napiVersion: v1\nkind: Node\nmetadata: 5\n")
    assert await names(Snapshot(path)) == ["fast"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v1\nkind: Secret\n", "1: expected a mapping in metadata of a Secret"),
        ("apiVersion: v1\nkind: Secret\nmetadata: a\n", "3: expected a mapping in metadata of a Secret"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {}\n", "3: expected a name in metadata.name of a Secret"),
        ("apiVersion: v1\nkind: Secret\nmetadata:\n  name: 5\n", "4: expected a name in metadata.name of a Secret"),
        (f"{SECRET}data: [hunter2]\n", "4: expected a mapping of base64 strings in data of a Secret"),
        (f"{SECRET}data: {{a: 5}}\n", "4: expected a mapping of base64 strings in data of a Secret"),
        (f"{SECRET}data: {{a: hunter2}}\n", "4: expected a mapping of base64 strings in data of a Secret"),
        (f"{SECRET}stringData: hunter2\n", "4: expected a mapping of strings in stringData of a Secret"),
        (f"{FAST}allowVolumeExpansion: 'yes'\n", "4: expected true or false in allowVolumeExpansion of a StorageClass"),
        (f"{CLAIM}spec: [hunter2]\n", "4: expected a mapping in spec of a PersistentVolumeClaim"),
        (f"{CLAIM}spec:\n  storageClassName: 5\n", "5: expected a string in spec.storageClassName"),
        (f"{CLAIM}spec:\n  dataSourceRef: x\n", "5: expected a mapping in spec.dataSourceRef"),
        (f"{CLAIM}spec:\n  dataSourceRef: {{kind: 5}}\n", "5: expected a name in spec.dataSourceRef.kind"),
        (f"{CLAIM[:-2]}, labels: {{a: 5}}}}\n", "3: expected a mapping of strings in metadata.labels"),
        (f"{CLAIM[:-2]}, annotations: [a]}}\n", "3: expected a mapping of strings in metadata.annotations"),
        (f"{CLAIM}status: {{capacity: {{storage: 5}}}}\n", "4: expected a mapping of quantities in status.capacity"),
        (f"{CLAIM}status: {{capacity: {{storage: much}}}}\n", "4: expected a mapping of quantities in status.capacity"),
        (f"{SECRET}type: 5\n", "4: expected a string in type of a Secret"),
        (f"{SNAPSHOT}status: {{restoreSize: 5}}\n", "4: expected a quantity in status.restoreSize of a VolumeSnapshot"),
        (
            f"{CLAIM}status: {{conditions: [{{type: Resizing}}]}}\n",
            "4: expected a list of conditions in status.conditions",
        ),
        (
            f"{CLAIM.replace('}', ', managedFields: [{}]}')}",
            "3: expected a list of managers with their fields in metadata.managedFields",
        ),
        (f"{SERVER}status:\n  volumes: [cache]\n", "5: expected a list of mappings in status.volumes of a DittoServer"),
        (f"{SET}spec: {{volumeClaimTemplates: [{{spec: {{}}}}]}}\n", "4: expected a list of volume claim templates in"),
        (f"{POD}spec: {{nodeName: 5}}\n", "4: expected a string in spec.nodeName of a Pod"),
        (f"{POD}spec: {{volumes: [5]}}\n", "4: expected a list of volumes in spec.volumes of a Pod"),
        (f"{POD}status: {{conditions: [Ready]}}\n", "4: expected a list of conditions in status.conditions of a Pod"),
        (f"{POD}status: {{containerStatuses: a}}\n", "4: expected a list of mappings in status.containerStatuses"),
        (f"{EVENT}involvedObject: a-0\n", "4: expected a mapping in involvedObject of a Event"),
        (
            f"{POD}spec: {{volumes: [{{persistentVolumeClaim: a}}]}}\n",
            "4: expected a list of volumes in spec.volumes of a Pod",
        ),
    ],
)
def test_a_wrong_shape_is_refused_by_line_and_field(path: Path, text: str, message: str) -> None:
    path.write_text(text)

    with pytest.raises(UnusableInput) as caught:
        Snapshot(path)
    assert str(caught.value).startswith(f"{path}:{message}")
    assert "hunter2" not in str(caught.value)


def test_a_snapshot_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="No such file"):
        Snapshot(tmp_path / "gone")


@pytest.mark.anyio
async def test_a_changed_file_is_read_again(path: Path, clock: Clock) -> None:
    snapshot = Snapshot(path, clock)
    write(path, f"{FAST}---\n{SLOW}")

    assert await names(snapshot) == ["fast"]

    clock.now = CHECK_SECONDS

    assert await names(snapshot) == ["fast", "slow"]


@pytest.mark.anyio
async def test_a_new_or_removed_file_is_noticed(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a.yaml").write_text(FAST)
    snapshot = Snapshot(tmp_path, clock)
    (tmp_path / "b.yaml").write_text(SLOW)
    clock.now = 1

    assert await names(snapshot) == ["fast", "slow"]

    (tmp_path / "a.yaml").unlink()
    clock.now = 2

    assert await names(snapshot) == ["slow"]


@pytest.mark.anyio
async def test_a_changed_config_map_mount_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """The kubelet replaces `..data`, to which the visible files are links."""
    for version, text in (("..1", FAST), ("..2", SLOW)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(text)
        os.utime(tmp_path / version / "a.yaml", (0, 0))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    snapshot = Snapshot(tmp_path, clock)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    clock.now = 1

    assert await names(snapshot) == ["slow"]


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["{", "apiVersion: v1\nkind: Secret\n", None])
async def test_the_last_usable_content_answers(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    snapshot = Snapshot(path, clock)
    write(path, text)
    for clock.now in (1, 2, 3):
        assert await names(snapshot) == ["fast"]
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]

    assert str(path) in vars(record)["reason"]

    write(path, SLOW)
    clock.now = 4

    assert await names(snapshot) == ["slow"]


@pytest.mark.anyio
async def test_events_are_those_of_the_namespace(path: Path) -> None:
    write(path, "---\n".join((EVENT, EVENT.replace("files", "elsewhere"))))
    events = await Snapshot(path).events("files", "type=Warning")

    assert [event["metadata"]["namespace"] for event in events.items] == ["files"]
