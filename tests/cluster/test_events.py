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
SAID = Event("Warning", "SecretMissing", 'Secret "s3" not found')


def manifest(namespace: str, name: str = "files", uid: str = "") -> dict[str, Any]:
    """As the API server would give it."""
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": "7"}
    return {**server(name), "metadata": metadata}


def minutes() -> Callable[[], datetime]:
    """A clock that is a minute on each time that somebody looks."""
    times: Iterator[int] = count()
    return lambda: NOON + timedelta(minutes=next(times))


def seen(control_plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    listed = control_plane.kubectl("get", "events", "-n", namespace, "-o", "json").stdout
    items: list[dict[str, Any]] = json.loads(listed)["items"]
    return items


def is_seen(control_plane: ControlPlane, namespace: str, name: str) -> bool:
    return name in [event["involvedObject"]["name"] for event in seen(control_plane, namespace)]


async def test_an_event_is_seen_with_all_that_kubectl_looks_for(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON, "pod-1")
        events.record(manifest(namespace), SAID)
        await events.drain(10.0)
    [event] = seen(control_plane, namespace)

    assert event["involvedObject"] == {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "name": "files",
        "namespace": namespace,
        "uid": "uid-files",
        "resourceVersion": "7",
    }
    assert Event(event["type"], event["reason"], event["message"]) == SAID
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-02-01T12:00:00Z"
    assert event["count"] == 1
    assert event["source"] == {"component": "dittofs-operator"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("dittofs-operator", "pod-1")


async def test_what_is_said_again_is_one_event_with_a_count(control_plane: ControlPlane, namespace: str) -> None:
    clock = minutes()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        for reporter in ("pod-1", "pod-2", "pod-1"):
            # Another operator each time, as after a restart.
            events = EventRecorder(cluster, clock, reporter)
            events.record(manifest(namespace), SAID)
            await events.drain(10.0)
    [event] = seen(control_plane, namespace)

    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-02-01T12:00:00Z"
    assert event["lastTimestamp"] == "2026-02-01T12:02:00Z"


async def test_what_differs_in_anything_is_another_event(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest(namespace), Event("Normal", "ab", "c"))
        events.record(manifest(namespace), Event("Warning", "ab", "c"))
        events.record(manifest(namespace), Event("Normal", "a", "bc"))
        events.record(manifest(namespace, uid="made-again"), Event("Normal", "ab", "c"))
        events.record(manifest(namespace, "other"), Event("Normal", "ab", "c"))
        await events.drain(10.0)
    found = seen(control_plane, namespace)

    assert len({event["metadata"]["name"] for event in found}) == 5
    assert {event["count"] for event in found} == {1}


async def test_a_message_is_one_line_and_no_longer_than_a_message_may_be(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest(namespace), Event("Normal", "Long", f"two\n  lines {'ü' * 2000}"))
        await events.drain(10.0)
    [event] = seen(control_plane, namespace)

    assert event["message"] == f"two lines {'ü' * 2000}"[:MESSAGE_CHARACTERS]


async def test_times_are_in_utc_whatever_the_clock_has(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON.astimezone(timezone(timedelta(hours=2))))
        events.record(manifest(namespace), SAID)
        await events.drain(10.0)

    assert seen(control_plane, namespace)[0]["lastTimestamp"] == "2026-02-01T12:00:00Z"


async def test_events_are_sent_while_it_runs(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        events = EventRecorder(cluster, lambda: NOON)
        running = group.create_task(events.run())
        for name in ("one", "two"):
            events.record(manifest(namespace, name), SAID)
            await until_async(partial(is_seen, control_plane, namespace, name))
        running.cancel()


async def test_an_event_that_may_not_be_sent_is_logged_and_the_next_one_is_sent(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    admin = ["-n", namespace]
    control_plane.kubectl("create", "serviceaccount", "few-rights", *admin)
    async with Cluster.connect(control_plane.kubeconfig_for("few-rights", namespace)) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest(namespace, "one"), SAID)
        await events.drain(10.0)
        [record] = caplog.records

        assert (record.levelname, record.getMessage()) == ("WARNING", "event not sent")

        about = vars(record)

        assert (about["namespace"], about["object"], about["event"]) == (namespace, "one", "SecretMissing")
        assert about["reason"].startswith("forbidden: events is forbidden")

        control_plane.kubectl("create", "role", "events", "--verb=create", "--resource=events", *admin)
        account = f"--serviceaccount={namespace}:few-rights"
        control_plane.kubectl("create", "rolebinding", "events", "--role=events", account, *admin)
        await until_async(lambda: may_create_events(control_plane, namespace))
        events.record(manifest(namespace, "two"), SAID)
        await events.drain(10.0)

    assert [event["involvedObject"]["name"] for event in seen(control_plane, namespace)] == ["two"]


def may_create_events(control_plane: ControlPlane, namespace: str) -> bool:
    account = f"system:serviceaccount:{namespace}:few-rights"
    asked = control_plane.kubectl("auth", "can-i", "create", "events", "-n", namespace, f"--as={account}", check=False)
    return asked.stdout.strip() == "yes"


async def test_an_event_about_what_is_gone_is_no_cause_for_a_warning(
    control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.cluster.events")
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest("no-such-namespace"), SAID)
        await events.drain(10.0)

    assert [record.levelname for record in caplog.records if record.name == "app.cluster.events"] == ["INFO"]


async def test_an_event_that_another_replica_counts_at_the_same_time_is_given_up(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Many at once: of those that read the same version, one is written, and all the others say so at most."""
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        replicas = [EventRecorder(cluster, lambda: NOON, f"pod-{number}") for number in range(10)]
        for events in replicas:
            events.record(manifest(namespace), SAID)
        async with asyncio.TaskGroup() as group:
            for events in replicas:
                group.create_task(events.drain(20.0))
    [event] = seen(control_plane, namespace)

    assert 1 <= event["count"] <= 10
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_flood_about_one_server_is_cut_and_cuts_no_other(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        for number in range(100):
            events.record(manifest(namespace, "loud"), Event("Normal", "Flood", f"number {number}"))
        events.record(manifest(namespace, "quiet"), SAID)
        await events.drain(20.0)
    about = [event["involvedObject"]["name"] for event in seen(control_plane, namespace)]

    assert about.count("loud") == BURST_SIZE
    assert about.count("quiet") == 1


def admitted(spam_filter: _SpamFilter, uid: str, now: datetime) -> int:
    return sum(spam_filter.admits(uid, now) for _ in range(100))


def test_after_a_flood_one_event_is_let_through_every_five_minutes() -> None:
    spam_filter = _SpamFilter()

    assert admitted(spam_filter, "loud", NOON) == BURST_SIZE
    assert admitted(spam_filter, "loud", NOON + timedelta(minutes=4)) == 0
    assert admitted(spam_filter, "loud", NOON + timedelta(minutes=6)) == 1
    assert admitted(spam_filter, "loud", NOON + timedelta(days=2)) == BURST_SIZE


def test_a_clock_that_is_set_back_costs_a_server_nothing() -> None:
    spam_filter = _SpamFilter()
    assert spam_filter.admits("files", NOON)
    assert admitted(spam_filter, "files", NOON - timedelta(days=1)) == BURST_SIZE - 1


def test_servers_that_were_quiet_for_longest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.events.FILTERED_SERVERS", 2)
    spam_filter = _SpamFilter()
    for uid in ("loud", "quiet", "loud", "another"):
        admitted(spam_filter, uid, NOON)

    assert admitted(spam_filter, "loud", NOON) == 0
    assert admitted(spam_filter, "quiet", NOON) == BURST_SIZE
    assert len(spam_filter._buckets) == 2


async def test_when_too_many_wait_the_rest_is_dropped_and_that_is_said_once(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cluster.events.QUEUE_SIZE", 3)
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        for flood in ("first", "second"):
            for number in range(10):
                events.record(manifest(namespace, f"{flood}-{number}"), SAID)
            await events.drain(10.0)

    assert len(seen(control_plane, namespace)) == 6
    assert [record.getMessage() for record in caplog.records] == ["events dropped", "events dropped"]


async def test_the_end_is_held_up_no_longer_than_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with Cluster.connect(unreachable(tmp_path, silent.getsockname()[1])) as cluster:
            events = EventRecorder(cluster, lambda: NOON)
            for name in ("one", "two"):
                events.record(manifest("ns", name), SAID)
            await events.drain(0.2)
    [record] = caplog.records

    assert (record.getMessage(), vars(record)["events"]) == ("events not sent", 2)


async def test_what_was_being_sent_when_the_process_was_told_to_end_is_sent_after_all(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest(namespace), SAID)
        running = group.create_task(events.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await events.drain(10.0)

    assert len(seen(control_plane, namespace)) == 1


async def test_an_event_whose_count_somebody_took_away_is_counted_anew(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        events = EventRecorder(cluster, lambda: NOON)
        events.record(manifest(namespace), SAID)
        await events.drain(10.0)
        [event] = seen(control_plane, namespace)
        await cluster.replace(EVENTS, {key: value for key, value in event.items() if key != "count"})
        events.record(manifest(namespace), SAID)
        await events.drain(10.0)

    assert seen(control_plane, namespace)[0]["count"] == 1


def unreachable(folder: Path, port: int = 1) -> Path:
    """A kubeconfig for an API server that gives no answer."""
    here = {"cluster": {"server": f"http://127.0.0.1:{port}"}, "name": "here"}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    content = {"clusters": [here], "contexts": [context], "users": [{"name": "me", "user": {}}]}
    path = folder / "kubeconfig"
    path.write_text(json.dumps({**content, "current-context": "here"}))
    return path
