"""`events`: lists what the cluster reported about DittoServers and their objects. Writes to no cluster."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from app.cli.live_view import View, ViewItem, present, watch_option
from app.cli.options import Scope, Target, report_option, target_options
from app.cli.output import format_table
from app.cli.screen import age
from app.cli.server_report import event_as_json, report
from app.cluster.survey import Stats, list_events_of, survey
from app.storage.recent_events import RecentEvent
from app.storage.unstructured import ObjectKey

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot

HEADINGS = ("age", "count", "type", "reason", "object", "message")
SERVER_HEADINGS = ("namespace", "server")

# An Event and the server that it is about.
Entry = tuple[ObjectKey, RecentEvent]


@click.command()
@target_options
@report_option
@watch_option
def events(target: Target, output: str, *, watch: bool) -> None:
    """List the Events about DittoServers and their objects, newest first.

    These objects are the StatefulSet, pod, Services and volume claims of each. Without a NAME, all DittoServers of the
    namespace count. The API server keeps Events for an hour, unless it is configured otherwise. With --snapshot, all of
    its namespaces are searched unless you choose one.
    """

    async def look(reader: "Cluster | Snapshot", scope: Scope, _stats: Stats | None) -> View:
        live = await survey(reader, scope.namespace, names=scope.names, labels=scope.labels)
        listings = await list_events_of(reader, live.servers)
        now = datetime.now(UTC)
        reports = [report(live, key, now, listing.items) for key, listing in listings.items()]
        entries = [(item.key, event) for item in reports for event in item.events]
        entries.sort(key=lambda entry: entry[1].at, reverse=True)

        lines = list(format_text(entries, now, wide=output == "wide" or len(live.servers) > 1))
        items = [ViewItem(identify(entry), summarize(entry), as_json(entry)) for entry in entries]
        gaps = dict.fromkeys(listing.gap for listing in listings.values() if listing.gap)
        # A log has the newest at its end, and Events that are gone have only grown old.
        return View(lines, items[::-1] if watch else items, list(gaps), reports_removal=False)

    present(target, look, output, watch=watch)


def format_text(entries: Sequence[Entry], now: datetime, *, wide: bool = False) -> Iterator[str]:
    """Yields a table; a wide one has the server as well."""
    if not entries:
        yield "no Events"
        return

    rows = []
    for key, event in entries:
        about = f"{event.kind}/{event.name}"
        row = (age(event.at, now), str(event.count), event.type, event.reason, about, event.message)
        rows.append((*key, *row) if wide else row)

    yield from format_table((*SERVER_HEADINGS, *HEADINGS) if wide else HEADINGS, rows, {"type": {"Warning": "yellow"}})


def identify(entry: Entry) -> str:
    (namespace, server), event = entry
    return f"{namespace}/{server} {event.kind}/{event.name} {event.reason} {event.message}"


def summarize(entry: Entry) -> str:
    (namespace, server), event = entry
    times = f" x{event.count}" if event.count > 1 else ""
    return f"{namespace}/{server} {event.type} {event.reason}{times} {event.kind}/{event.name}: {event.message}"


def as_json(entry: Entry) -> dict[str, Any]:
    (namespace, server), event = entry
    return {"namespace": namespace, "server": server, **event_as_json(event)}
