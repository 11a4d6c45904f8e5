import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.evidence import (
    MAX_QUOTE_CHARACTERS,
    OUTDATED_AFTER,
    Node,
    NodeState,
    WarningEvent,
    current_events,
    quote,
)
from app.storage.unstructured import Manifest
from tests.harness.warning_events import UID, event


def read(**fields: Any) -> WarningEvent:
    warning = WarningEvent.read(event(**fields))
    assert warning is not None
    return warning


@pytest.mark.parametrize(
    ("kind", "name", "reason", "server"),
    [
        ("StatefulSet", "files", "FailedCreate", "files"),
        ("Pod", "files-0", "FailedMount", "files"),
        ("PersistentVolumeClaim", "cache-files-0", "ProvisioningFailed", "files"),
    ],
)
def test_an_event_names_its_server(kind: str, name: str, reason: str, server: str) -> None:
    assert read(kind=kind, name=name, reason=reason).server == server


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "files-1"},
        {"name": "web-7d9f8c6b5-x2x4z"},
        {"kind": "PersistentVolumeClaim", "name": "logs-files-0", "reason": "ProvisioningFailed"},
        {"kind": "Deployment", "name": "files", "reason": "FailedCreate"},
        {"reason": "BackOff"},
        {"reason": "FailedCreate"},
        {"involvedObject": None},
        {"involvedObject": {"kind": "Pod", "name": "files-0"}},
        {"involvedObject": {"kind": "Pod", "name": "files-0", "uid": "x" * 65}},
        {"reason": "Failed", "message": "Error: ImagePullBackOff"},
        {"reason": "Unhealthy", "message": "Startup probe failed: connection refused"},
        {
            "kind": "StatefulSet",
            "name": "files",
            "reason": "FailedCreate",
            "message": "Create Pod files-0 in StatefulSet files failed error: failed to create PVC cache-files-0: no",
        },
        {"lastTimestamp": "yesterday"},
    ],
)
def test_what_explains_nothing_is_not_read(fields: Manifest) -> None:
    assert WarningEvent.read(event(**fields)) is None


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, "2026-11-27T03:00:00Z"),
        ({"lastTimestamp": "2026-11-27T04:00:00Z", "eventTime": None}, "2026-11-27T04:00:00Z"),
        ({"eventTime": "2026-11-27T05:00:00.000000Z", "lastTimestamp": None}, "2026-11-27T05:00:00.000000Z"),
        (
            {
                "eventTime": "2026-11-27T05:00:00.000000Z",
                "series": {"count": 7, "lastObservedTime": "2026-11-27T06:00:00.000000Z"},
                "deprecatedCount": 7,
            },
            "2026-11-27T06:00:00.000000Z",
        ),
    ],
)
def test_the_newest_time_counts_whichever_api_wrote_it(times: Manifest, expected: str) -> None:
    assert read(**times).at == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3",
            "exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=3",
        ),
        (
            'failed to setup network for sandbox "1eaf61990b0c01af004695c9b42baba76c39f8fb700e3b3a18c7172ffb89f8c2": x',
            'failed to setup network for sandbox "76c5c21331dd5998d9a6efd5ac6d74c45b10386db7d34555c7e0f22f5969ee13": x',
        ),
        ("back-off 10s restarting failed container", "back-off 5m0s restarting failed container"),
        (
            "read tcp 10.0.0.3:41234->10.0.0.9:443: connection reset by peer",
            "read tcp 10.0.0.3:51236->10.0.0.9:443: connection reset by peer",
        ),
        (f"/var/lib/kubelet/pods/{UID}/volumes: no", f"/var/lib/kubelet/pods/{UID.replace('d', 'e')}/volumes: no"),
        ("token expired at 2026-11-27T04:00:00Z", "token expired at 2026-11-27T05:01:02.123Z"),
        ("(combined from similar events): no disk", "no disk"),
        ("rpc error: code = Internal desc = no disk", "no disk"),
    ],
)
def test_the_same_cause_has_the_same_words(one: str, other: str) -> None:
    assert quote(one) == quote(other)


@pytest.mark.parametrize(
    "text",
    [
        "mount -t cifs -o username=a,password=hunter2,vers=3.0 //nas/x",
        "mount -t cifs -o username=a,PASSWORD=hunter2 //nas/x",
        'Get "https://bucket.s3.amazonaws.com/blob?X-Amz-Signature=hunter2&a=b": EOF',
        "Post https://user:hunter2@registry.example.com/v2/: EOF",
        "login failed: secret=hunter2",
    ],
)
def test_credentials_in_others_words_are_left_out(text: str) -> None:
    assert "hunter2" not in quote(text)
    assert quote(text)[-5:] == text[-5:] or "secret=…" in quote(text)


def test_the_name_of_a_volume_is_kept() -> None:
    volume = f'Multi-Attach error for volume "pvc-{UID}" Volume is already used by pod(s) files-0'

    assert quote(volume) == volume
    assert read(reason="FailedAttachVolume", message=volume).subject == f"pvc-{UID}"


@given(st.text() | st.none() | st.integers())
def test_words_are_one_printable_line(text: object) -> None:
    line = quote(text)

    assert line.isprintable()
    assert len(line) <= MAX_QUOTE_CHARACTERS + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner),
    max_leaves=5,
)


@given(JSON, JSON, JSON)
def test_whatever_a_tenant_writes_can_be_read(message: object, reason: object, time: object) -> None:
    warning = WarningEvent.read(event(message=message, reason=reason, lastTimestamp=time))

    assert warning is None or json.dumps(warning.message)


def test_what_others_have_outlived_no_longer_counts() -> None:
    old = read(message='MountVolume.SetUp failed for volume "config" : x', lastTimestamp="2026-11-27T04:00:00Z")
    new = read(message='MountVolume.SetUp failed for volume "data" : x', lastTimestamp="2026-11-27T04:10:00Z")
    alone = read(reason="FailedAttachVolume", message="Multi-Attach error", lastTimestamp="2026-11-27T03:00:00Z")

    assert current_events([new, old, alone]) == [alone, old, new]

    much_later = replace(new, at=f"2026-11-27T04:{OUTDATED_AFTER.seconds // 60 + 1}:00Z")

    assert current_events([much_later, old, alone]) == [alone, much_later]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([{"type": "Ready", "status": "True"}], NodeState.READY),
        ([{"type": "Ready", "status": "False"}], NodeState.NOT_READY),
        ([{"type": "Ready", "status": "Unknown"}], NodeState.UNREACHABLE),
        ([{"type": "MemoryPressure", "status": "True"}], NodeState.UNREACHABLE),
        (None, NodeState.UNREACHABLE),
    ],
)
def test_a_node_is_what_its_ready_condition_says(conditions: Any, expected: NodeState) -> None:
    assert Node.read({"metadata": {"name": "n1"}, "status": {"conditions": conditions}}).state == expected


def test_an_out_of_service_node_is_known_by_its_taint() -> None:
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}

    assert Node.read({"metadata": {"name": "n1"}, "spec": {"taints": [taint]}}).out_of_service
