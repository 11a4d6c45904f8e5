"""A paused server at the real API server: the operator writes its status and nothing else."""

from typing import Any

import pytest

from app.storage.pause import PAUSED_ANNOTATION
from app.storage.takeover import FINALIZER
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.server_table import s3, server
from tests.harness.wait import until

KEYS = {"accessKeyId": "a", "secretAccessKey": "b"}
STATUS = ("dittoservers/status", "patch")


def annotate(operated: OperatorNamespace, value: str | None) -> None:
    operated.patch("dittoserver", "files", metadata={"annotations": {PAUSED_ANNOTATION: value}})


def pause(operated: OperatorNamespace) -> None:
    annotate(operated, "true")
    until(lambda: operated.condition("files", "Reconciling")["reason"] == "Paused")


def writes(operated: OperatorNamespace) -> list[Request]:
    """Returns the writes of the operator, without its Events."""
    return [request for request in operated.writes() if request.resource != "events"]


def credentials(operated: OperatorNamespace) -> Any:
    return operated.condition("files", "CredentialsReady")["reason"]


@pytest.fixture
def running(operated: OperatorNamespace) -> OperatorNamespace:
    """Provides a server that has everything it needs, and a Secret that it names."""
    operated.put_secret("s3", **KEYS)
    operated.apply(server(**s3()))
    until(lambda: operated.condition("files", "CredentialsReady") and credentials(operated) == "Found")
    until(lambda: operated.get("pod", "files-0") is not None)
    return operated


def test_a_paused_server_costs_status_writes_and_no_others(running: OperatorNamespace) -> None:
    pause(running)
    before, template = len(writes(running)), running.template("files")

    running.kubectl("delete", "service", "files-api")
    running.put_secret("s3", accessKeyId="a")
    until(lambda: credentials(running) == "SecretIncomplete")
    running.put_secret("s3", **KEYS | {"secretAccessKey": "another"})
    until(lambda: credentials(running) == "Found")
    running.patch("dittoserver", "files", spec={"image": "example.com/dittofs:2", "metrics": {"enabled": True}})
    running.wait_until_observed("files")

    assert {(request.resource, request.verb) for request in writes(running)[before:]} == {STATUS}
    assert running.template("files") == template
    assert running.get("service", "files-api") is None
    assert running.condition("files", "Reconciling")["reason"] == "Paused"
    assert running.condition("files", "Stalled")["status"] == "False"

    generation = running.get("statefulset", "files")["metadata"]["generation"]
    annotate(running, None)
    until(lambda: running.condition("files", "Reconciling")["reason"] != "Paused")
    until(lambda: running.get("service", "files-api") and running.get("service", "files-metrics"))

    after = running.template("files")
    assert after["spec"]["containers"][0]["image"] == "example.com/dittofs:2"
    assert after["metadata"]["annotations"] != template["metadata"]["annotations"]
    assert running.get("statefulset", "files")["metadata"]["generation"] == generation + 1
    until(lambda: {"Paused", "Resumed"} <= running.events("files").keys())


def test_a_server_that_is_created_paused_gets_nothing(operated: OperatorNamespace) -> None:
    paused = server()
    operated.apply({**paused, "metadata": {"name": "files", "annotations": {PAUSED_ANNOTATION: "true"}}})
    operated.wait_until_observed("files")

    # A write is in the audit log once it has been answered, and in the server before.
    until(lambda: bool(writes(operated)))
    assert {(request.resource, request.verb) for request in writes(operated)} == {STATUS}
    assert operated.condition("files", "Ready")["reason"] == "Paused"

    annotate(operated, None)
    until(lambda: operated.template("files") is not None)


def test_a_paused_server_can_be_deleted(running: OperatorNamespace) -> None:
    pause(running)
    running.patch("dittoserver", "files", metadata={"finalizers": [FINALIZER]})

    running.kubectl("delete", "dittoserver", "files", "--wait=false")

    until(lambda: running.get("dittoserver", "files") is None)
    until(lambda: running.get("statefulset", "files") is None)
    assert running.get("pvc", "metadata-files-0") is not None
