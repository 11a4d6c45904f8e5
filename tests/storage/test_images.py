from typing import Any

import pytest

from app.storage.events import Event
from app.storage.images import (
    can_move,
    database_image,
    explain_failed_migration,
    image_events,
    is_same_image,
    observe_image,
    pinned_image,
)
from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.status_schema import ServerStatus
from app.storage.unstructured import Manifest
from tests.harness.server_table import server

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
REPOSITORY = "docker.io/marmos91c/dittofs"
LATEST = "marmos91c/dittofs:latest"
KNOWN = ServerStatus.model_validate({"image": LATEST, "imageID": f"{REPOSITORY}@{OLD}", "shares": 2})
READY = [{"type": "Ready", "status": "True"}]


def pod(image_id: Any, image: str = LATEST, *, ready: bool = True, **container: Any) -> Manifest:
    reported = {"name": "dittofs", "image": "other:name", "imageID": image_id, "ready": True, **container}
    conditions = READY if ready else [{"type": "Ready", "status": "False"}]
    return {
        "metadata": {"name": "files-0"},
        "spec": {"containers": [{"name": "dittofs", "image": image}]},
        "status": {"conditions": conditions, "containerStatuses": [{"name": "proxy", "imageID": "x"}, reported]},
    }


def observed(pod: Manifest | None, known: ServerStatus = KNOWN) -> dict[str, Any]:
    seen = observe_image(read(server()).server, LiveState(pod=pod), known)
    return seen.model_dump(by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("image", "moves"),
    [
        (LATEST, True),
        ("marmos91c/dittofs", True),
        ("localhost:5000/dittofs", True),
        ("marmos91c/dittofs:v0", True),
        ("marmos91c/dittofs:v0.29", True),
        ("marmos91c/dittofs:v0.29.0", False),
        ("localhost:5000/dittofs:0.29.0", False),
        (f"{LATEST}@{OLD}", False),
        (f"marmos91c/dittofs@{OLD}", False),
        ("", True),
    ],
)
def test_a_tag_moves_unless_it_names_one_release(image: str, *, moves: bool) -> None:
    assert can_move(image) is moves


def test_the_image_of_a_ready_pod_is_recorded() -> None:
    first = observed(pod(f"docker-pullable://{REPOSITORY}@{OLD}"), ServerStatus())

    assert first == {"image": LATEST, "imageID": f"{REPOSITORY}@{OLD}"}
    assert observed(pod(f"{REPOSITORY}@{OLD}")) == KNOWN.model_dump(by_alias=True, exclude_none=True)


def test_another_image_is_recorded_with_the_one_before() -> None:
    changed = observed(pod(f"{REPOSITORY}@{NEW}", "marmos91c/dittofs:v0.29.0"))

    assert changed == {
        "image": "marmos91c/dittofs:v0.29.0",
        "imageID": f"{REPOSITORY}@{NEW}",
        "previousImageID": f"{REPOSITORY}@{OLD}",
        "shares": 2,
    }
    assert observed(pod(f"{REPOSITORY}@{NEW}"), ServerStatus.model_validate(changed))["previousImageID"] == (
        f"{REPOSITORY}@{OLD}"
    )


@pytest.mark.parametrize(
    "unready",
    [
        None,
        pod(f"{REPOSITORY}@{NEW}", ready=False),
        pod(f"{REPOSITORY}@{NEW}", name="sidecar"),
        {**pod(f"{REPOSITORY}@{NEW}"), "status": {"conditions": READY}},
    ],
    ids=["no pod", "not ready", "another container", "no container"],
)
def test_only_the_image_of_a_ready_server_counts(unready: Manifest | None) -> None:
    assert observed(unready) == observed(None)


@pytest.mark.parametrize("image_id", [None, "", 5, "x", f"{NEW}\n", f"a b@{NEW}", f"$(id)@{NEW}", f"@{NEW}", NEW[:-1]])
def test_what_is_no_digest_is_not_recorded(image_id: Any) -> None:
    assert observed(pod(image_id)) == observed(None)


def test_the_image_of_somebody_elses_pod_is_not_recorded() -> None:
    taken = pod(f"{REPOSITORY}@{NEW}")
    stateful_set = {"metadata": {"uid": "1"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}}}
    live = LiveState(pod=taken, stateful_set=stateful_set)

    assert observe_image(read(server()).server, live, KNOWN) == KNOWN


def test_a_moved_tag_is_a_warning_with_both_digests() -> None:
    moved = KNOWN.model_copy(update={"image_id": f"{REPOSITORY}@{NEW}"})

    assert list(image_events(KNOWN, moved)) == [
        Event(
            "Warning",
            "ImageChanged",
            f"a restart changed the image behind {LATEST} from {OLD} to {NEW}; "
            "pin the digest in spec.image to prevent that",
        )
    ]
    assert list(image_events(KNOWN, KNOWN)) == list(image_events(ServerStatus(), KNOWN)) == []


def test_a_changed_image_is_reported_with_both_digests() -> None:
    changed = KNOWN.model_copy(update={"image": "dittofs:2", "image_id": NEW})

    assert list(image_events(KNOWN, changed)) == [
        Event("Normal", "ImageChanged", f"the image changed from {LATEST} ({OLD}) to dittofs:2 ({NEW})")
    ]


def test_an_image_without_a_registry_cannot_be_pinned() -> None:
    loaded = ServerStatus.model_validate({"image": "dittofs:1", "imageID": OLD})

    assert pinned_image(loaded) is None
    assert database_image(loaded) == "dittofs:1"
    assert pinned_image(KNOWN) == database_image(KNOWN) == f"{REPOSITORY}@{OLD}"
    assert database_image(ServerStatus()) is None


@pytest.mark.parametrize("image", ["a'b", "a b", "$(id)", "a;b", "a\nb", "-rf", 'a"b'])
def test_no_command_has_text_that_a_shell_reads(image: str) -> None:
    assert database_image(ServerStatus.model_validate({"image": image})) is None


def test_a_digest_of_the_running_image_is_the_same_image() -> None:
    assert is_same_image(f"mirror.example.com/dittofs@{OLD}", KNOWN)
    assert not is_same_image(f"{REPOSITORY}@{NEW}", KNOWN)
    assert not is_same_image(LATEST, KNOWN)
    assert not is_same_image(f"{REPOSITORY}@{OLD}", ServerStatus())


def test_a_failed_migration_names_the_way_back() -> None:
    able = f"{REPOSITORY}@{OLD}"

    assert explain_failed_migration("files", "dittofs:2", f"dittofs@{NEW}", able) == (
        f"image dittofs:2 failed to migrate the database; {able} can open it: kubectl patch dittoserver files "
        f'--type=merge -p \'{{"spec":{{"image":"{able}"}}}}\'; '
        "if DittoFS up to 0.8 then shows no shares, restore the volumes from before the change"
    )
    assert "the operator does not know" in explain_failed_migration("files", "dittofs:2", None, None)
    assert "kubectl logs -p says why" in explain_failed_migration("files", LATEST, able, able)
