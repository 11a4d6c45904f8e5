from pathlib import Path

import pytest

from app.cluster.lookup import gather
from app.cluster.overlay import Overlay
from app.cluster.snapshot import Snapshot
from app.manifests import parse
from app.storage.facts import Claim, DryRun, Needs, Secret, StorageClass, StorageClasses, Unknown
from app.storage.unusable_input import UnusableInput
from tests.cluster.test_lookup import CLAIM, EVERYTHING, FAST, SECRET, Faulty


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    (tmp_path / "a.yaml").write_text("---\n".join((FAST, SECRET, CLAIM)))
    return Snapshot(tmp_path)


@pytest.mark.anyio
async def test_documents_come_before_the_fallback(snapshot: Snapshot) -> None:
    documents = parse(f"{SECRET.replace('key', 'other')}---\n{FAST}allowVolumeExpansion: true\n", "a.yaml")
    facts = await gather(Overlay(documents, snapshot), EVERYTHING)

    assert facts.secrets == {"s3": Secret.read({"stringData": {"other": "hunter2"}}), "gone": None}
    assert facts.storage_classes == StorageClasses((StorageClass("fast", expandable=True),))
    assert facts.claims == {"cache-a-0": Claim("cache-a-0", "fast")}


@pytest.mark.anyio
async def test_without_a_fallback_the_rest_is_unknown() -> None:
    why = "neither a snapshot nor a cluster was given"
    facts = await gather(Overlay(parse(f"{FAST}---\n{SECRET}", "a.yaml")), EVERYTHING)

    assert facts.storage_classes == StorageClasses((StorageClass("fast"),), gap=why)
    assert facts.secrets == {"s3": Secret.read({"stringData": {"key": "hunter2"}}), "gone": Unknown(why)}
    assert facts.claims == {"cache-a-0": Unknown(why)}


@pytest.mark.anyio
async def test_leftovers_are_not_unknown_when_offline() -> None:
    """Nobody could name them then, and each new server would draw a warning."""
    needs = Needs(leftovers=frozenset({"cache-a-0", "cache-b-0"}))

    facts = await gather(Overlay(parse(CLAIM, "a.yaml")), needs)

    assert facts.claims == {"cache-a-0": Claim("cache-a-0", "fast")}


@pytest.mark.anyio
async def test_classes_in_documents_survive_a_failure(snapshot: Snapshot) -> None:
    overlay = Overlay(parse(FAST, "a.yaml"), Faulty(snapshot, fails=frozenset({"classes"})))
    facts = await gather(overlay, Needs(storage_classes=True))
    assert facts.storage_classes == StorageClasses((StorageClass("fast"),), gap="forbidden: you may not")


def test_a_document_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(UnusableInput, match=r"a\.yaml:4: expected a mapping of base64 strings in data"):
        Overlay(parse(f"{SECRET.replace('stringData', 'data').replace('hunter2', '[hunter2]')}", "a.yaml"))


@pytest.mark.anyio
async def test_only_a_cluster_can_try_anything(snapshot: Snapshot) -> None:
    needs = Needs(stateful_set={"metadata": {"name": "a"}})

    assert (await gather(Overlay([]), needs)).dry_run is None
    assert (await gather(Overlay([], snapshot), needs)).dry_run is None
    assert (await gather(Overlay([], Faulty(snapshot)), needs)).dry_run == DryRun()
