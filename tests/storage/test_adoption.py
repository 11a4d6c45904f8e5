from typing import Any

import pytest

from app.storage.adoption import why_not_adopted
from app.storage.facts import Claim
from app.storage.live import LiveState
from app.storage.objects import Owner, stateful_set
from app.storage.pod import PodRevision
from app.storage.reading import read
from app.storage.unstructured import Manifest
from tests.harness.server_table import server

OWNER = Owner("files", "here", "u")
SERVER = read({**server(), "metadata": {"name": "files", "namespace": "here"}}).server
LABELS = {**OWNER.labels, "controller-revision-hash": "files-1"}
CLAIM = {"name": "metadata", "persistentVolumeClaim": {"claimName": "metadata-files-0"}}


def live(**status: Any) -> Manifest:
    manifest = stateful_set(OWNER, SERVER.spec, PodRevision(config_hash="digest"))
    manifest["metadata"]["uid"] = "s"
    return {**manifest, "status": {"currentRevision": "files-1", **status}}


def pod(labels: Manifest, *volumes: Manifest, **metadata: Any) -> Manifest:
    return {
        "metadata": {"name": "files-0", "labels": labels, **metadata},
        "spec": {"volumes": list(volumes or [CLAIM])},
    }


def reason(unlabelled: Manifest | None, stateful_set: Manifest | None = None) -> str | None:
    live_state = LiveState(stateful_set=stateful_set or live(), unlabelled_pod=unlabelled)
    problem = why_not_adopted(SERVER, live_state)
    return problem.reason if problem else None


def without(*names: str) -> Manifest:
    return {name: value for name, value in LABELS.items() if name not in names}


@pytest.mark.parametrize("labels", [{}, without("app"), without("instance"), {**LABELS, "instance": "other"}])
def test_a_pod_without_its_labels_is_not_adopted(labels: Manifest) -> None:
    assert reason(pod(labels)) == "PodLabelsMissing"


@pytest.mark.parametrize("labels", [LABELS, without("app.kubernetes.io/name", "controller-revision-hash")])
def test_a_pod_that_the_selector_matches_is_adopted(labels: Manifest) -> None:
    assert reason(pod(labels)) is None


def test_a_pod_that_uses_no_claim_of_ours_is_foreign() -> None:
    other = {"name": "metadata", "persistentVolumeClaim": {"claimName": "metadata-other-0"}}

    assert reason(pod({}, other)) == "PodNameTaken"
    assert reason(pod({}, {"name": "tmp", "emptyDir": {}})) == "PodNameTaken"
    assert reason(pod({}, ownerReferences=[{"controller": True, "uid": "another"}])) == "PodNameTaken"


def test_the_message_names_the_labels_to_put_back() -> None:
    claims = {name: Claim(name, "fast", "10Gi", "Bound") for name in ("metadata-files-0", "cache-files-0")}
    problem = why_not_adopted(SERVER, LiveState(claims, stateful_set=live(), unlabelled_pod=pod(without("app"))))

    assert problem is not None

    command = "kubectl label pod files-0 --namespace here --overwrite app=dittofs-server"

    assert problem.message.endswith(f"run: {command}; or delete the pod to have another one created")

    bare = why_not_adopted(SERVER, LiveState(stateful_set=live(), unlabelled_pod=pod({})))

    assert bare is not None
    assert all(f"{name}={value}" in bare.message for name, value in LABELS.items())


def test_no_deletion_is_advised_while_a_claim_goes() -> None:
    claims = {"metadata-files-0": Claim("metadata-files-0", "fast", "10Gi", "Bound", terminating=True)}
    live_state = LiveState(claims, stateful_set=live(), unlabelled_pod=pod({}))

    problem = why_not_adopted(SERVER, live_state)

    assert problem is not None
    assert "delete the pod" not in problem.message


def test_a_pod_that_is_being_deleted_is_waited_for() -> None:
    assert reason(pod({}, deletionTimestamp="2026-01-01T00:00:00Z")) == "PodTerminating"


def test_without_desired_replicas_no_pod_is_missing() -> None:
    stopped = live()
    stopped["spec"]["replicas"] = 0
    leaving = live()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert reason(None) is None
    assert reason(pod({}), stopped) is None
    assert reason(pod({}), leaving) is None
    assert why_not_adopted(SERVER, LiveState(unlabelled_pod=pod({}))) is None
