from typing import Any

import pytest

from app.storage.pod import CONFIG_HASH
from app.storage.rollout import blocks, is_current, is_outdated
from app.storage.unstructured import Manifest

OLD, NEW = "files-1", "files-2"
OWNER = {"kind": "StatefulSet", "name": "files", "uid": "u", "controller": True}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
UNREADY = {"conditions": [{"type": "Ready", "status": "False"}]}


def stateful_set(current: str = OLD, update: str = NEW, observed: int = 2, **strategy: Any) -> Manifest:
    status = {"observedGeneration": observed, "currentRevision": current, "updateRevision": update}
    defaulted = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}, **strategy}
    return {"metadata": {"uid": "u", "generation": 2}, "spec": {"updateStrategy": defaulted}, "status": status}


def pod(status: Manifest = UNREADY, revision: str = OLD, **metadata: Any) -> Manifest:
    labels = {"controller-revision-hash": revision} if revision else {}
    return {"metadata": {"labels": labels, "ownerReferences": [OWNER], **metadata}, "status": status}


def test_a_stateful_set_is_current_once_its_controller_has_seen_it_and_rolled_it_out() -> None:
    assert is_current(stateful_set(current=NEW))
    assert not is_current(stateful_set(current=OLD))
    assert not is_current(stateful_set(current=NEW, observed=1))
    assert not is_current({"metadata": {"generation": 1}, "spec": {}})


def test_a_status_that_was_meant_for_the_stateful_set_before_counts() -> None:
    """Which was deleted as another generation than the one that was made again has."""
    assert is_current(stateful_set(current=NEW, observed=3))
    assert not is_current(stateful_set(current=OLD, observed=3))
    assert blocks(pod(), stateful_set(observed=3))


@pytest.mark.parametrize(
    ("revision", "outdated"), [(OLD, True), (NEW, False), ("", False)], ids=["former", "current", "without a label"]
)
def test_a_pod_says_itself_of_which_revision_it_is(revision: str, *, outdated: bool) -> None:
    """Which a StatefulSet that was recreated with another template has never heard of."""
    assert is_outdated(pod(revision=revision), stateful_set(current=NEW)) is outdated
    assert not is_outdated(pod(revision=OLD), {"metadata": {}})


@pytest.mark.parametrize(
    ("annotations", "outdated"), [({CONFIG_HASH: "a"}, False), ({CONFIG_HASH: "b"}, True), ({}, True)]
)
def test_a_pod_is_outdated_whatever_a_late_status_says(annotations: Manifest, *, outdated: bool) -> None:
    """The status of a StatefulSet that was removed may be written to the one that was created in its place."""
    late = stateful_set(current=OLD, update=OLD, observed=3)
    late["spec"]["template"] = {"metadata": {"annotations": {CONFIG_HASH: "a"}}}

    assert is_current(late)
    assert is_outdated(pod(annotations=annotations), late) is outdated


@pytest.mark.parametrize("status", [UNREADY, {}, {"phase": "Pending"}], ids=["not ready", "no status", "pending"])
def test_a_former_pod_that_is_not_ready_blocks_the_next_one(status: Manifest) -> None:
    assert blocks(pod(status), stateful_set())


@pytest.mark.parametrize(
    ("blocking", "wanted"),
    [
        (pod(READY), stateful_set()),
        (pod(revision=NEW), stateful_set()),
        (pod(revision=""), stateful_set()),
        (pod(deletionTimestamp="2026-01-01T00:00:00Z"), stateful_set()),
        (pod(ownerReferences=[]), stateful_set()),
        (pod(ownerReferences=[{**OWNER, "uid": "another's"}]), stateful_set()),
        (pod(), stateful_set(observed=1)),
        (pod(), stateful_set(type="OnDelete", rollingUpdate=None)),
        (pod(), stateful_set(rollingUpdate={"partition": 1})),
        (pod(), {"metadata": {"uid": "u", "generation": 2}, "spec": {}}),
    ],
    ids=[
        "ready",
        "current",
        "of no revision",
        "going",
        "nobody's",
        "another's",
        "not seen yet",
        "on delete",
        "partition",
        "no status",
    ],
)
def test_whatever_else_is_not_in_the_way(blocking: Manifest, wanted: Manifest) -> None:
    assert not blocks(blocking, wanted)
