"""`status`: shows the state of DittoServers and what to do next, as a screen, lines or a page. Writes to no cluster."""

import asyncio
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import Flag, auto
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.live_view import View, ViewItem, present, watch_option
from app.cli.options import PATH, Scope, Target, option, report_option, target_options
from app.cli.output import print_lines
from app.cli.page import StatusPage, format_page
from app.cli.screen import NARROWEST_COLUMNS, SCREEN_COLUMNS, STATE_WORDS, format_overview, format_screen
from app.cli.server_report import ServerReport, as_json, report
from app.cluster.kubelet_stats import within_patience
from app.cluster.operator_health import look_up_operator_health
from app.cluster.reader import Listing
from app.cluster.survey import Stats, list_events_of, survey
from app.manifests import STDIN
from app.storage.spec import KIND
from app.storage.unusable_input import UnusableInput

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot


class Detail(Flag):
    """Selects what is asked for beyond an overview, which costs more: `DRY_RUN` is a review for each server."""

    EVENTS = auto()
    DRY_RUN = auto()
    ALL = EVENTS | DRY_RUN


@click.command()
@target_options
@report_option
@watch_option
@option(
    "--html",
    type=PATH,
    metavar="FILE",
    help="File to write a web page to, for a ticket or a wiki; with -, it is written to standard output.",
)
def status(target: Target, output: str, html: Path | None, *, watch: bool) -> None:
    """Show the state of DittoServers, what is wrong, and what to do next.

    With a NAME, everything about that server is shown on one screen: its conditions, endpoint, version, image, pod,
    Secrets, volumes, shares and newest Events. Without one, there is a line for each server, the worst first.

    Without --kubeconfig and --snapshot, these are the servers in the cluster that kubectl uses. With --snapshot, all of
    its namespaces are listed unless you choose one.

    With --html, both are written to one file that a browser shows, and that loads nothing. It has no value of a Secret,
    but names of servers, nodes, images, shares and Secrets: look through it before you pass it on.
    """
    if html:
        refuse_other_forms(output, watch=watch)
        write_page(target, html)
        return

    async def look(reader: "Cluster | Snapshot", scope: Scope, stats: Stats | None) -> View:
        # Each dry run is a review, and nobody needs one every two seconds.
        detail = (Detail.EVENTS if watch else Detail.ALL) if scope.names else Detail(0)
        reports, gaps = await make_reports(reader, scope, datetime.now(UTC), stats, detail)
        lines = list(format_reports(reports, wide=output == "wide", as_screens=bool(scope.names)))
        return View(lines, [ViewItem(item.title, summarize(item), as_json(item)) for item in reports], gaps)

    present(target, look, output, watch=watch)


def refuse_other_forms(output: str, *, watch: bool) -> None:
    if watch:
        raise click.UsageError("--html and --watch cannot be used together: a page shows one moment")
    if output != "text":
        raise click.UsageError(f"--html and --output {output} cannot be used together: choose one of them")


async def make_reports(
    reader: "Cluster | Snapshot",
    scope: Scope,
    now: datetime,
    stats: Stats | None = None,
    detail: Detail = Detail.ALL,
) -> tuple[list[ServerReport], list[str]]:
    """Returns a report of each server, the worst first, and what could not be found out. Raises ClusterError."""
    live = await survey(reader, scope.namespace, stats, scope.names, scope.labels)
    listings = await list_events_of(reader, live.servers) if Detail.EVENTS in detail else {}

    # What is in files has no operator that could be asked.
    tries = Detail.DRY_RUN in detail
    operators = await look_up_operator_health(reader, [*live.servers], tries=tries) if stats else {}

    reports = [
        report(live, key, now, listings.get(key, Listing()).items, operators.get(key[0])) for key in live.servers
    ]
    gaps = dict.fromkeys(listing.gap for listing in listings.values() if listing.gap)
    return sorted(reports, key=lambda item: item.rank), [*live.gaps, *gaps]


def write_page(target: Target, path: Path) -> None:
    """Writes a page about the servers, over one that is there. Raises ClusterError and UnusableInput."""

    async def look() -> StatusPage:
        async with target.open() as (reader, scope, stats):
            now = datetime.now(UTC)
            # A dry run for each of many servers would be a load on the webhook.
            detail = Detail.ALL if scope.names else Detail.EVENTS
            reports, gaps = await make_reports(reader, scope, now, stats and within_patience(stats), detail)
            return StatusPage(reports, gaps, target.source.title, scope.title, now)

    page = asyncio.run(look())
    text = format_page(page)
    if str(path) == STDIN:
        click.echo(text, nl=False)
        print_lines([], page.gaps)
        return

    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise UnusableInput(str(path), None, f"it cannot be written: {error.strerror}") from error
    print_lines([], [*page.gaps, f"wrote {path}: {len(page.reports)} {KIND}s; look through it before you pass it on"])


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
