"""`status`: tells how DittoServers are and what to do next, on one screen or in a line each. Writes to no cluster."""

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from app import manifests
from app.cli.options import Source, option, source_options
from app.cli.output import format_json, print_lines
from app.cli.screen import NARROWEST_COLUMNS, SCREEN_COLUMNS, format_overview, format_screen
from app.cli.server_report import ServerReport, as_json, report
from app.cluster.errors import Unavailable
from app.cluster.reader import Listing
from app.cluster.survey import Stats, list_events, survey

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot

# A node that does not answer must not keep a person waiting for everything else.
STATS_SECONDS = 3.0


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@source_options
@option("--namespace", "-n", help="Namespace to look in; by default, the one of the kubeconfig's context.")
@option("--all-namespaces", "-A", is_flag=True, help="Look in all namespaces.")
@option("--selector", "-l", help="Labels that select the DittoServers, such as team=media.")
@option(
    "--output",
    "-o",
    type=click.Choice(["text", "wide", "json", "yaml"]),
    default="text",
    help="Output format: text for people, wide without omissions, json or yaml for programs.",
)
def status(
    names: tuple[str, ...],
    source: Source,
    namespace: str | None,
    selector: str | None,
    output: str,
    *,
    all_namespaces: bool,
) -> None:
    """Tell how DittoServers are, what is wrong, and what to do next.

    With a NAME, everything about that server is shown on one screen: its conditions, endpoint, version, image, pod,
    Secrets, volumes, shares and newest Events. Without one, there is a line for each server, the worst first.

    Without --kubeconfig and --snapshot, these are the servers in the cluster that kubectl uses. With --snapshot, all of
    its namespaces are listed unless you choose one.
    """
    if selector and names:
        raise click.UsageError("NAME and --selector cannot be used together")
    if selector and source.snapshot:
        raise click.UsageError("--selector and --snapshot cannot be used together: choose servers by name")

    async def look() -> tuple[list[ServerReport], list[str]]:
        async with source.open() as (reader, context_namespace, stats):
            scope = Scope(None if all_namespaces else namespace or context_namespace, names, selector or "")
            return await make_reports(reader, scope, datetime.now(UTC), stats)

    reports, gaps = asyncio.run(look())
    print_lines(format_reports(reports, output, as_screens=bool(names)), gaps)


@dataclass(frozen=True)
class Scope:
    """The servers to tell about: of all namespaces without a namespace, and all of them without names and labels."""

    namespace: str | None = None
    names: tuple[str, ...] = ()
    labels: str = ""


async def make_reports(
    reader: "Cluster | Snapshot", scope: Scope, now: datetime, stats: Stats | None = None
) -> tuple[list[ServerReport], list[str]]:
    """Returns a report of each server, the worst first, and what could not be found out. Raises ClusterError."""
    live = await survey(reader, scope.namespace, stats and within_patience(stats), scope.names, scope.labels)
    # The overview shows no Events, so that it asks for none.
    listings = {key: await list_events(reader, key) for key in live.servers} if scope.names else {}

    reports = [report(live, key, now, listings.get(key, Listing()).items) for key in live.servers]
    gaps = dict.fromkeys(listing.gap for listing in listings.values() if listing.gap)
    return sorted(reports, key=lambda item: item.rank), [*live.gaps, *gaps]


def within_patience(stats: Stats) -> Stats:
    async def ask(node: str) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(STATS_SECONDS):
                return await stats(node)
        except TimeoutError:
            raise Unavailable(f"no answer from node {node} within {STATS_SECONDS:g} s") from None

    return ask


def format_reports(reports: Sequence[ServerReport], output: str, *, as_screens: bool) -> Iterator[str]:
    if output == "json":
        yield format_json(map(as_json, reports))
    elif output == "yaml":
        yield manifests.dump(list(map(as_json, reports))).rstrip()
    elif not as_screens:
        yield from format_overview(reports, wide=output == "wide")
    else:
        for index, item in enumerate(reports):
            yield from [""] if index else []
            yield from format_screen(item, screen_columns(), wide=output == "wide")


def screen_columns() -> int:
    """Returns the columns of the terminal within reasonable bounds; elsewhere, as many as a screen should have."""
    if not sys.stdout.isatty():
        return SCREEN_COLUMNS
    return min(max(shutil.get_terminal_size().columns, NARROWEST_COLUMNS), SCREEN_COLUMNS)
