from typing import Any

import pytest

from app.storage.reading import read
from app.storage.recent_events import RecentEvent, recent_events
from tests.harness.server_table import server


def event(kind: str, name: str, at: str = "2026-02-01T12:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "e"}, "involvedObject": {"kind": kind, "name": name}, "lastTimestamp": at, **fields}


def test_events_of_the_objects_come_newest_first() -> None:
    related = [
        event("DittoServer", "files", "2026-02-01T12:00:01Z"),
        event("StatefulSet", "files", "2026-02-01T12:00:05Z"),
        event("Pod", "files-0", "2026-02-01T12:00:03Z"),
        event("Service", "files-file", "2026-02-01T12:00:04Z"),
        event("PersistentVolumeClaim", "metadata-files-0", "2026-02-01T12:00:02Z"),
    ]
    others = [
        event("DittoServer", "other"),
        event("Pod", "files-1"),
        event("Service", "files-b-file"),
        event("PersistentVolumeClaim", "metadata-other-0"),
        event("Secret", "files"),
        {"metadata": {"name": "odd"}},
    ]
    events = recent_events([*others, *related], read(server()).server, ["metadata-files-0"])

    assert [found.kind for found in events] == ["StatefulSet", "Service", "Pod", "PersistentVolumeClaim", "DittoServer"]


@pytest.mark.parametrize(
    ("fields", "count", "at"),
    [
        ({"count": 3}, 3, "2026-02-01T12:00:00Z"),
        ({"series": {"count": 7, "lastObservedTime": "2026-02-01T13:00:00Z"}}, 7, "2026-02-01T13:00:00Z"),
        ({"lastTimestamp": None, "eventTime": "2026-02-01T11:00:00Z"}, 1, "2026-02-01T11:00:00Z"),
        ({"count": "many", "lastTimestamp": None}, 1, ""),
        ({"count": -1}, 1, "2026-02-01T12:00:00Z"),
    ],
)
def test_either_api_for_events_is_read(fields: dict[str, Any], count: int, at: str) -> None:
    read_event = RecentEvent.read(event("Pod", "files-0", **fields))
    assert (read_event.count, read_event.at) == (count, at)


def test_a_message_is_one_line_without_control_characters() -> None:
    read_event = RecentEvent.read(
        event("Pod", "files-0", message="a\n\n  b\x1b[2J\u202e", reason="x\ty", type="Warning")
    )
    assert (read_event.message, read_event.reason, read_event.type) == ("a b [2J", "x y", "Warning")
