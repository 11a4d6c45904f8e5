from typing import Any

import pytest

from app.storage.database import database_template, database_volume, mounted_database, unmounted_database
from app.storage.facts import Claim
from app.storage.live import LiveState
from app.storage.unstructured import Manifest
from app.storage.volumes import CONTROL_PLANE, METADATA
from tests.harness.live_volumes import live_stateful_set, server_with

SERVER = server_with()
KEPT = {"controlplane-files-0": Claim("controlplane-files-0", "fast", "2Gi", "Bound", "2Gi")}
ON_METADATA = {"name": "metadata", "mountPath": "/data/controlplane", "subPath": "controlplane"}
ON_CLAIM = {"name": "controlplane", "mountPath": "/data/controlplane"}


def mounting(*mounts: Manifest, container: str = "dittofs") -> Manifest:
    """Returns a StatefulSet whose container mounts these."""
    live = live_stateful_set()
    live["spec"]["template"]["spec"]["containers"] = [{"name": container, "volumeMounts": list(mounts)}]
    return live


def pod(claim: str, *mounts: Manifest) -> Manifest:
    volumes = [{"name": "metadata", "persistentVolumeClaim": {"claimName": claim}}]
    spec = {"volumes": volumes, "containers": [{"name": "dittofs", "volumeMounts": list(mounts)}]}
    return {"metadata": {"name": "files-0"}, "spec": spec}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, METADATA),
        ({"claims": KEPT}, CONTROL_PLANE),
        ({"claims": KEPT, "stateful_set": mounting()}, CONTROL_PLANE),
        ({"claims": KEPT, "stateful_set": mounting(ON_CLAIM)}, CONTROL_PLANE),
        ({"stateful_set": mounting()}, METADATA),
        ({"stateful_set": mounting(ON_METADATA)}, METADATA),
    ],
    ids=["new", "kept claim", "up to 0.17, kept claim", "since 0.18", "up to 0.17", "ours"],
)
def test_the_database_is_where_its_data_is(state: dict[str, Any], expected: str) -> None:
    assert database_template(SERVER, LiveState(**state)) == expected


@pytest.mark.parametrize(
    "state",
    [
        {"stateful_set": mounting(ON_METADATA)},
        {"removed": mounting(ON_METADATA)},
        {"pod": pod("metadata-files-0", ON_METADATA)},
        {"unlabelled_pod": pod("metadata-files-0", ON_METADATA)},
    ],
    ids=["StatefulSet", "removed StatefulSet", "pod", "pod without labels"],
)
def test_another_database_in_use_stays(state: dict[str, Any]) -> None:
    live = LiveState(claims=KEPT, **state)

    assert database_template(SERVER, live) == METADATA
    assert "volume claim controlplane-files-0 has a database" in (unmounted_database(SERVER, live) or "")
    assert database_volume(SERVER, live) is None


def test_a_claim_that_is_gone_stays_in_use() -> None:
    live = LiveState(stateful_set=mounting(ON_CLAIM))

    assert database_template(SERVER, live) == CONTROL_PLANE
    assert database_volume(SERVER, live)


@pytest.mark.parametrize(
    "state",
    [
        {"pod": pod("metadata-others-0", ON_METADATA)},
        {"stateful_set": mounting(ON_METADATA, container="sidecar")},
        {"stateful_set": mounting({**ON_METADATA, "name": "mine"})},
        {"stateful_set": mounting({**ON_METADATA, "mountPath": "/data/other"})},
    ],
    ids=["pod of another", "another container", "another volume", "another path"],
)
def test_what_others_mount_decides_nothing(state: dict[str, Any]) -> None:
    assert mounted_database("files", LiveState(**state)) is None
    assert unmounted_database(SERVER, LiveState(claims=KEPT, **state)) is None


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (Claim("controlplane-files-0", "fast", "3Gi", "Bound", "2Gi"), "2Gi"),
        (Claim("controlplane-files-0", capacity="3Gi"), "3Gi"),
        (Claim("controlplane-files-0"), "1Gi"),
    ],
)
def test_the_volume_has_the_size_of_its_claim(claim: Claim, expected: str) -> None:
    volume = database_volume(SERVER, LiveState(claims={claim.name: claim}))

    assert volume
    assert (volume.name, volume.size, volume.mount_path) == ("controlplane", expected, "/data/controlplane")


def test_the_size_of_a_claim_that_is_gone_is_in_its_template() -> None:
    live = mounting(ON_CLAIM)
    resources = {"requests": {"storage": "7Gi"}}
    live["spec"]["volumeClaimTemplates"].append(
        {"metadata": {"name": "controlplane"}, "spec": {"resources": resources}}
    )

    volume = database_volume(SERVER, LiveState(stateful_set=live))

    assert volume
    assert volume.size == "7Gi"
