"""`events`: lists what the cluster reported about DittoServers and their objects. Writes to no cluster."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from app.cli.options import Source, names_argument, option, output_option, source_options
from app.cli.output import format_json, format_table, print_lines
from app.cli.screen import age
from app.cli.server_report import ServerReport, event_as_json, report
from app.cluster.survey import list_events, survey

HEADINGS = ("age", "count", "type", "reason", "object", "message")


@click.command()
@names_argument
@source_options
@option("--namespace", "-n", help="Namespace of the server; by default, the one of the kubeconfig's context.")
@output_option
def events(names: tuple[str, ...], source: Source, namespace: str | None, output: str) -> None:
    """List the Events about a DittoServer and its objects, the newest first.

    These are its StatefulSet, pod, Services and volume claims. The API server keeps Events for an hour, unless it is
    configured otherwise. With --snapshot, all of its namespaces are searched unless you choose one.
    """

    async def look() -> tuple[list[ServerReport], list[str]]:
        async with source.open() as (reader, context_namespace, _):
            live = await survey(reader, namespace or context_namespace, names=names)
            listings = {key: await list_events(reader, key) for key in live.servers}

        now = datetime.now(UTC)
        reports = [report(live, key, now, listing.items) for key, listing in listings.items()]
        return reports, list(dict.fromkeys(listing.gap for listing in listings.values() if listing.gap))

    reports, gaps = asyncio.run(look())
    if output == "json":
        entries = [
            {"namespace": item.key[0], "server": item.key[1], **event_as_json(event)}
            for item in reports
            for event in item.events
        ]
        print_lines([format_json(entries)], gaps)
    else:
        print_lines(format_text(reports), gaps)


def format_text(reports: Sequence[ServerReport]) -> Iterator[str]:
    """Yields a table for each server; with several, each has a title."""
    for index, item in enumerate(reports):
        if len(reports) > 1:
            yield from [""] if index else []
            yield click.style(item.title, bold=True)

        rows = []
        for event in item.events:
            about = f"{event.kind}/{event.name}"
            rows.append((age(event.at, item.now), str(event.count), event.type, event.reason, about, event.message))

        if rows:
            yield from format_table(HEADINGS, rows, {"type": {"Warning": "yellow"}})
        else:
            yield f"no Events about {item.title}"
