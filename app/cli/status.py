"""`status`: shows the state of DittoServers and what to do next, as a screen or a line each. Writes to no cluster."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app.cli.live_view import View, ViewItem, present, watch_option
from app.cli.options import Scope, Target, report_option, target_options
from app.cli.screen import NARROWEST_COLUMNS, SCREEN_COLUMNS, STATE_WORDS, format_overview, format_screen
from app.cli.server_report import ServerReport, as_json, report
from app.cluster.operator_health import look_up_operator_health
from app.cluster.reader import Listing
from app.cluster.survey import Stats, list_events_of, survey

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot


@click.command()
@target_options
@report_option
@watch_option
def status(target: Target, output: str, *, watch: bool) -> None:
    """Show the state of DittoServers, what is wrong, and what to do next.

    With a NAME, everything about that server is shown on one screen: its conditions, endpoint, version, image, pod,
    Secrets, volumes, shares and newest Events. Without one, there is a line for each server, the worst first.

    Without --kubeconfig and --snapshot, these are the servers in the cluster that kubectl uses. With --snapshot, all of
    its namespaces are listed unless you choose one.
    """

    async def look(reader: "Cluster | Snapshot", scope: Scope, stats: Stats | None) -> View:
        # Each try is a review, and nobody needs one every two seconds.
        reports, gaps = await make_reports(reader, scope, datetime.now(UTC), stats, tries=not watch)
        lines = list(format_reports(reports, wide=output == "wide", as_screens=bool(scope.names)))
        return View(lines, [ViewItem(item.title, summarize(item), as_json(item)) for item in reports], gaps)

    present(target, look, output, watch=watch)


async def make_reports(
    reader: "Cluster | Snapshot", scope: Scope, now: datetime, stats: Stats | None = None, *, tries: bool = True
) -> tuple[list[ServerReport], list[str]]:
    """Returns a report of each server, the worst first, and what could not be found out. Raises ClusterError.

    With `tries`, the API server is asked what it would do with another server in the namespace of a named one.
    """
    live = await survey(reader, scope.namespace, stats, scope.names, scope.labels)
    # The overview shows no Events, so that it asks for none.
    listings = await list_events_of(reader, live.servers) if scope.names else {}

    # What is in files has no operator that could be asked.
    tries = tries and bool(scope.names)
    operators = await look_up_operator_health(reader, [*live.servers], tries=tries) if stats else {}

    reports = [
        report(live, key, now, listings.get(key, Listing()).items, operators.get(key[0])) for key in live.servers
    ]
    gaps = dict.fromkeys(listing.gap for listing in listings.values() if listing.gap)
    return sorted(reports, key=lambda item: item.rank), [*live.gaps, *gaps]


def summarize(report: ServerReport) -> str:
    concern = report.concern
    return f"{report.title} {STATE_WORDS[concern.state]}: {concern.reason}: {concern.message}"


def format_reports(reports: Sequence[ServerReport], *, wide: bool, as_screens: bool) -> Iterator[str]:
    if not as_screens:
        yield from format_overview(reports, wide=wide)
        return

    for index, item in enumerate(reports):
        yield from [""] if index else []
        yield from format_screen(item, screen_columns(), wide=wide)


def screen_columns() -> int:
    """Returns the columns of the terminal within reasonable bounds; elsewhere, as many as a screen should have."""
    if not sys.stdout.isatty():
        return SCREEN_COLUMNS
    return min(max(shutil.get_terminal_size().columns, NARROWEST_COLUMNS), SCREEN_COLUMNS)
