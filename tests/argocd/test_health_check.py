"""Runs the health check by the interpreter of Argo CD, and compares it with the states of `kubectl dittofs status`."""

import json
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.next_step import Concern, Inspection, State, sorted_concerns
from app.storage.reasons import REASONS
from app.storage.unstructured import Manifest
from manifests.__main__ import HEALTH_CHECK
from manifests.health_check import HEALTH
from tests.argocd.build import argocd_health

SERVES = ("Ready", "True", "Available")
RECONCILED = (("Reconciling", "False", "Reconciled"), ("Stalled", "False", "Reconciled"))


def ago(**duration: float) -> str:
    return (datetime.now(UTC) - timedelta(**duration)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str, since: str = "") -> Manifest:
    since = since or ago(hours=1)
    return {"type": kind, "status": status, "reason": reason, "message": f"why {kind}", "lastTransitionTime": since}


def server(*conditions: Manifest, observed: int = 2, changed: str = "", **status: Any) -> Manifest:
    metadata = {
        "name": "files",
        "namespace": "media",
        "generation": 2,
        "creationTimestamp": ago(days=1),
        "managedFields": [
            {"manager": "kubectl", "time": changed or ago(hours=2)},
            {"manager": "dittofs-operator", "time": ago(seconds=0), "subresource": "status"},
        ],
    }
    return {"metadata": metadata, "status": {"observedGeneration": observed, "conditions": list(conditions), **status}}


def judge(servers: Sequence[Manifest], **environ: str) -> list[dict[str, str]]:
    """Returns what the health check says about each server."""
    process = subprocess.run(
        [argocd_health(os.environ), HEALTH_CHECK],
        input="".join(f"{json.dumps(manifest)}\n" for manifest in servers),
        env=os.environ | environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in process.stdout.splitlines()]


def health(manifest: Manifest, **environ: str) -> str:
    [result] = judge([manifest], **environ)
    return result["status"]


def state(manifest: Manifest) -> State:
    return concern(manifest).state


def concern(manifest: Manifest) -> Concern:
    return sorted_concerns(Inspection(manifest, datetime.now(UTC)))[0]


def every_condition() -> list[Manifest]:
    """Returns a condition for each type, status and reason of the reference, since a moment and since an hour."""
    return [
        condition(kind, status, reason.name, since)
        for reason in REASONS
        for kind in filter(None, reason.conditions.split(", "))
        for status in ("True", "False", "Unknown")
        for since in (ago(minutes=5), ago(hours=1))
    ]


def statuses() -> Iterator[Manifest]:
    """Yields servers of which one thing is wrong, and then servers of which several are."""
    singles, calm = every_condition(), [condition(*SERVES), *(condition(*values) for values in RECONCILED)]
    content: list[dict[str, Any]] = [
        {},
        {"shares": [{"name": "a", "path": "/a", "phase": "Failed", "message": "no"}]},
        {"shares": [{"name": "a", "path": "/a", "phase": "Ready"}]},
        {"pendingRollout": "args"},
        {"ignoredFields": ["spec.a", "spec.b"]},
        {"observed": 1},
        {"observed": -1},
        {"changed": ago(days=3)},
    ]

    for single in singles:
        others = [entry for entry in calm if entry["type"] != single["type"]]
        yield server(*others, single)
        yield server(single)
    for parts in content:
        yield server(*calm, **parts)
        yield server(**parts)

    dice = random.Random(5)
    for _ in range(5000):
        several = {entry["type"]: entry for entry in dice.choices(singles, k=dice.randint(2, 6))}
        yield server(*several.values(), **dice.choice(content))


def test_it_agrees_with_the_states_of_the_command() -> None:
    servers = list(statuses())
    expected = [(HEALTH[state(manifest)], concern(manifest).reason) for manifest in servers]
    actual = [(result["status"], result["message"].partition(":")[0]) for result in judge(servers)]

    differing = [row for row in zip(servers, expected, actual, strict=True) if row[1] != row[2]]

    assert not differing[:3]
    assert {health for health, _ in expected} == {"Healthy", "Progressing", "Degraded", "Suspended"}
    assert len(servers) > 6000


def test_a_new_server_progresses() -> None:
    """The API server gives it this status."""
    [version] = custom_resource_definition()["spec"]["versions"]
    default = version["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]
    metadata = {"name": "files", "generation": 1, "creationTimestamp": ago(seconds=2)}

    assert health({"metadata": metadata, "status": default}) == "Progressing"
    assert health({"metadata": metadata}) == "Progressing"


def test_a_change_is_not_judged_by_the_status_before_it() -> None:
    """Argo CD would call the sync that corrects a spec failed, because of what was wrong before."""
    stalled = condition("Stalled", "True", "InvalidSpec")
    corrected = server(condition("Ready", "False", "InvalidSpec"), stalled, observed=1, changed=ago(seconds=5))

    assert state(corrected) == State.DOWN
    assert health(corrected) == "Progressing"


@pytest.mark.parametrize(("minutes", "expected"), [(0.5, "Progressing"), (2, "Degraded")])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Los_Angeles"])
def test_its_clock_works_in_every_time_zone(zone: str, minutes: float, expected: str) -> None:
    ready = condition(*SERVES)
    assert health(server(ready, observed=1, changed=ago(minutes=minutes)), TZ=zone) == expected


def test_paused_and_stopped_servers_are_suspended() -> None:
    assert health(server(condition(*SERVES), condition("Reconciling", "True", "Paused"))) == "Suspended"
    assert health(server(condition("Ready", "True", "Stopped"))) == "Suspended"


def test_the_message_says_why() -> None:
    [result] = judge([server(condition("Ready", "False", "QuotaExceeded"))])
    assert result == {"status": "Degraded", "message": "QuotaExceeded: why Ready"}


def test_the_patch_has_the_script() -> None:
    patch = yaml.safe_load(HEALTH_CHECK.with_name("argocd-cm.yaml").read_text())
    assert patch["data"] == {"resource.customizations.health.dittofs.dittofs.com_DittoServer": HEALTH_CHECK.read_text()}
