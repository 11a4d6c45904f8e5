import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import Cluster
from app.cluster.events import BURST_SIZE, MESSAGE_CHARACTERS, EventRecorder, _SpamFilter
from app.cluster.reader import EVENTS
from app.storage.events import Event
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import server
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 2, 1, 12, 0, 0, 999_999, UTC)
SECRET_MISSING = Event("Warning", "SecretMissing", 'Secret "s3" not found')


def manifest(namespace: str, name: str = "files", uid: str = "") -> dict[str, Any]:
    """Returns a server like the API server does."""
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": "7"}
    return {**server(name), "metadata": metadata}


def minutes() -> Callable[[], datetime]:
    """Returns a clock that advances by a minute whenever it is read."""
    times: Iterator[int] = count()
    return lambda: NOON + timedelta(minutes=next(times))


def events_in(control_plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    listed = control_plane.kubectl("get", "events", "-n", namespace, "-o", "json").stdout
    items: list[dict[str, Any]] = json.loads(listed)["items"]
    return items


def has_event(control_plane: ControlPlane, namespace: str, name: str) -> bool:
    return name in [event["involvedObject"]["name"] for event in events_in(control_plane, namespace)]


async def test_an_event_has_the_fields_kubectl_shows(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON, "pod-1")
        recorder.record(manifest(namespace), SECRET_MISSING)
        await recorder.drain(10.0)
    [event] = events_in(control_plane, namespace)

    assert event["involvedObject"] == {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "name": "files",
        "namespace": namespace,
        "uid": "uid-files",
        "resourceVersion": "7",
    }
    assert Event(event["type"], event["reason"], event["message"]) == SECRET_MISSING
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-02-01T12:00:00Z"
    assert event["count"] == 1
    assert event["source"] == {"component": "dittofs-operator"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("dittofs-operator", "pod-1")


async def test_a_repeated_event_is_counted(control_plane: ControlPlane, namespace: str) -> None:
    clock = minutes()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        for reporter in ("pod-1", "pod-2", "pod-1"):
            # Another operator each time, as after a restart.
            recorder = EventRecorder(cluster, clock, reporter)
            recorder.record(manifest(namespace), SECRET_MISSING)
            await recorder.drain(10.0)
    [event] = events_in(control_plane, namespace)

    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-02-01T12:00:00Z"
    assert event["lastTimestamp"] == "2026-02-01T12:02:00Z"


async def test_events_that_differ_are_not_counted(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest(namespace), Event("Normal", "ab", "c"))
        recorder.record(manifest(namespace), Event("Warning", "ab", "c"))
        recorder.record(manifest(namespace), Event("Normal", "a", "bc"))
        recorder.record(manifest(namespace, uid="made-again"), Event("Normal", "ab", "c"))
        recorder.record(manifest(namespace, "other"), Event("Normal", "ab", "c"))
        await recorder.drain(10.0)
    events = events_in(control_plane, namespace)

    assert len({event["metadata"]["name"] for event in events}) == 5
    assert {event["count"] for event in events} == {1}


async def test_a_message_is_one_line_of_limited_length(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest(namespace), Event("Normal", "Long", f"two\n  lines {'ü' * 2000}"))
        await recorder.drain(10.0)
    [event] = events_in(control_plane, namespace)

    assert event["message"] == f"two lines {'ü' * 2000}"[:MESSAGE_CHARACTERS]


async def test_times_are_in_utc(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON.astimezone(timezone(timedelta(hours=2))))
        recorder.record(manifest(namespace), SECRET_MISSING)
        await recorder.drain(10.0)

    assert events_in(control_plane, namespace)[0]["lastTimestamp"] == "2026-02-01T12:00:00Z"


async def test_events_are_sent_in_the_background(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        recorder = EventRecorder(cluster, lambda: NOON)
        running = group.create_task(recorder.run())
        for name in ("one", "two"):
            recorder.record(manifest(namespace, name), SECRET_MISSING)
            await until_async(partial(has_event, control_plane, namespace, name))
        running.cancel()


async def test_a_forbidden_event_is_logged_and_skipped(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    admin = ["-n", namespace]
    control_plane.kubectl("create", "serviceaccount", "few-rights", *admin)
    async with Cluster.connect(control_plane.kubeconfig_for("few-rights", namespace)) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest(namespace, "one"), SECRET_MISSING)
        await recorder.drain(10.0)
        [record] = caplog.records

        assert (record.levelname, record.getMessage()) == ("WARNING", "event not sent")

        about = vars(record)

        assert (about["namespace"], about["kind"], about["object"]) == (namespace, "DittoServer", "one")
        assert about["event"] == "SecretMissing"
        assert about["reason"].startswith("forbidden: events is forbidden")

        control_plane.kubectl("create", "role", "events", "--verb=create", "--resource=events", *admin)
        account = f"--serviceaccount={namespace}:few-rights"
        control_plane.kubectl("create", "rolebinding", "events", "--role=events", account, *admin)
        await until_async(lambda: may_create_events(control_plane, namespace))
        recorder.record(manifest(namespace, "two"), SECRET_MISSING)
        await recorder.drain(10.0)

    assert [event["involvedObject"]["name"] for event in events_in(control_plane, namespace)] == ["two"]


def may_create_events(control_plane: ControlPlane, namespace: str) -> bool:
    account = f"system:serviceaccount:{namespace}:few-rights"
    asked = control_plane.kubectl("auth", "can-i", "create", "events", "-n", namespace, f"--as={account}", check=False)
    return asked.stdout.strip() == "yes"


async def test_an_event_in_a_missing_namespace_is_normal(
    control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.cluster.events")
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest("no-such-namespace"), SECRET_MISSING)
        await recorder.drain(10.0)

    assert [record.levelname for record in caplog.records if record.name == "app.cluster.events"] == ["INFO"]


async def test_an_event_counted_elsewhere_is_skipped(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Many recorders read the same version: one writes its count, and the others log no warning."""
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        replicas = [EventRecorder(cluster, lambda: NOON, f"pod-{number}") for number in range(10)]
        for recorder in replicas:
            recorder.record(manifest(namespace), SECRET_MISSING)
        async with asyncio.TaskGroup() as group:
            for recorder in replicas:
                group.create_task(recorder.drain(20.0))
    [event] = events_in(control_plane, namespace)

    assert 1 <= event["count"] <= 10
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_flood_about_one_server_cuts_no_other(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        for number in range(100):
            recorder.record(manifest(namespace, "loud"), Event("Normal", "Flood", f"number {number}"))
        recorder.record(manifest(namespace, "quiet"), SECRET_MISSING)
        await recorder.drain(20.0)
    about = [event["involvedObject"]["name"] for event in events_in(control_plane, namespace)]

    assert about.count("loud") == BURST_SIZE
    assert about.count("quiet") == 1


def admitted(spam_filter: _SpamFilter, uid: str, now: datetime) -> int:
    return sum(spam_filter.admits(uid, now) for _ in range(100))


def test_after_a_flood_one_event_per_five_minutes() -> None:
    spam_filter = _SpamFilter()

    assert admitted(spam_filter, "loud", NOON) == BURST_SIZE
    assert admitted(spam_filter, "loud", NOON + timedelta(minutes=4)) == 0
    assert admitted(spam_filter, "loud", NOON + timedelta(minutes=6)) == 1
    assert admitted(spam_filter, "loud", NOON + timedelta(days=2)) == BURST_SIZE


def test_a_clock_set_back_costs_no_tokens() -> None:
    spam_filter = _SpamFilter()
    assert spam_filter.admits("files", NOON)
    assert admitted(spam_filter, "files", NOON - timedelta(days=1)) == BURST_SIZE - 1


def test_the_quietest_server_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.events.FILTERED_SERVERS", 2)
    spam_filter = _SpamFilter()
    for uid in ("loud", "quiet", "loud", "another"):
        admitted(spam_filter, uid, NOON)

    assert admitted(spam_filter, "loud", NOON) == 0
    assert admitted(spam_filter, "quiet", NOON) == BURST_SIZE
    assert len(spam_filter._buckets) == 2


async def test_a_full_queue_drops_events_and_logs_once(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cluster.events.QUEUE_SIZE", 3)
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        for flood in ("first", "second"):
            for number in range(10):
                recorder.record(manifest(namespace, f"{flood}-{number}"), SECRET_MISSING)
            await recorder.drain(10.0)

    assert len(events_in(control_plane, namespace)) == 6
    assert [record.getMessage() for record in caplog.records] == ["events dropped", "events dropped"]


async def test_draining_ends_at_its_deadline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with Cluster.connect(unreachable(tmp_path, silent.getsockname()[1])) as cluster:
            recorder = EventRecorder(cluster, lambda: NOON)
            for name in ("one", "two"):
                recorder.record(manifest("ns", name), SECRET_MISSING)
            await recorder.drain(0.2)
    [record] = caplog.records

    assert (record.getMessage(), vars(record)["events"]) == ("events not sent", 2)


async def test_an_interrupted_event_is_sent_by_drain(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest(namespace), SECRET_MISSING)
        running = group.create_task(recorder.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await recorder.drain(10.0)

    assert len(events_in(control_plane, namespace)) == 1


async def test_an_event_without_a_count_counts_from_one(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        recorder = EventRecorder(cluster, lambda: NOON)
        recorder.record(manifest(namespace), SECRET_MISSING)
        await recorder.drain(10.0)
        [event] = events_in(control_plane, namespace)
        await cluster.replace(EVENTS, {key: value for key, value in event.items() if key != "count"})
        recorder.record(manifest(namespace), SECRET_MISSING)
        await recorder.drain(10.0)

    assert events_in(control_plane, namespace)[0]["count"] == 1


def unreachable(folder: Path, port: int = 1) -> Path:
    """Writes a kubeconfig for an API server that gives no answer."""
    here = {"cluster": {"server": f"http://127.0.0.1:{port}"}, "name": "here"}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    content = {"clusters": [here], "contexts": [context], "users": [{"name": "me", "user": {}}]}
    path = folder / "kubeconfig"
    path.write_text(json.dumps({**content, "current-context": "here"}))
    return path
