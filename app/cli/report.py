"""`report`: writes a zip for a support ticket, without secrets. Changes nothing in the cluster."""

import asyncio
import os
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.checkup import server_checks, survey_servers
from app.cli.options import PATH, Scope, Target, installation_options, option
from app.cli.server_report import report as report_on
from app.cli.ticket import Ticket, ticket_files
from app.cluster.collection import collect_operator, collect_server
from app.cluster.errors import ClusterError, NotFound
from app.cluster.installation import InstallationQuery, inspect_installation
from app.cluster.survey import Survey, list_events_of
from app.settings import release
from app.storage.facts import Unknown
from app.storage.finding import one_line
from app.storage.installation import checks
from app.storage.unstructured import DEFAULT_NAMESPACE
from app.storage.unusable_input import UnusableInput

if TYPE_CHECKING:
    from app.cluster.client import Cluster

# More would not fit into a ticket; the worst are those that it is about.
MAX_SERVERS = 20


@click.command()
@installation_options
@option("--file", "-f", type=PATH, help="File to write, which must not exist; by default dittofs-report-TIME.zip.")
def report(target: Target, operator_namespace: str | None, file: Path | None) -> None:
    """Write a zip file for a support ticket: objects, Events, logs and checks, without secrets.

    It is about the DittoServers of the namespace, or those with these names or labels, and about the operator. The
    README.txt in it says what is in it and what was left out; look through it before you pass it on.

    You need the permission to get the Secrets of a server only for the logs of its pod: what they repeat of a Secret is
    masked, and without the permission they are left out. No value of a Secret is written.
    """
    path = file or Path(f"dittofs-report-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip")
    if path.exists():
        raise UnusableInput(str(path), None, "it exists, and is not overwritten")

    async def collect() -> Ticket:
        async with target.source.connect() as cluster:
            here = target.namespace or cluster.namespace or DEFAULT_NAMESPACE
            scope = Scope(None if target.is_everywhere else here, target.names, target.labels)
            query = InstallationQuery(here, release(), operator_namespace)
            return await collect_ticket(cluster, query, scope)

    ticket = asyncio.run(collect())
    write_zip(path, ticket_files(ticket), ticket.installation.now)
    announce(f"wrote {path}: look through it before you pass it on")


async def collect_ticket(cluster: "Cluster", query: InstallationQuery, scope: Scope) -> Ticket:
    """Collects everything. Raises ClusterError when the API server does not answer, NotFound for an unknown name."""
    announce("looking at the cluster and the operator")
    installation = await inspect_installation(cluster, query)
    listed, gaps, live = list(checks(installation)), list[str](), Survey()
    try:
        live, where = await survey_servers(cluster, scope)
        listed += server_checks(live, where, installation.now)
    except NotFound:
        raise
    except ClusterError as error:
        gaps.append(f"DittoServers: {error}")

    listings = await list_events_of(cluster, live.servers)
    reports = [report_on(live, key, installation.now, listing.items) for key, listing in listings.items()]
    reports.sort(key=lambda item: item.rank)
    gaps += dict.fromkeys([*live.gaps, *(listing.gap for listing in listings.values() if listing.gap)])

    collections = {}
    keys = [item.key for item in reports[:MAX_SERVERS]]
    for number, key in enumerate(keys, 1):
        announce(f"collecting {'/'.join(key)} ({number} of {len(keys)})")
        collections[key] = await collect_server(cluster, live, key)

    if left_out := reports[MAX_SERVERS:]:
        titles = ", ".join(item.title for item in left_out)
        gaps.append(f"only the {MAX_SERVERS} worst servers are in it whole; name others of these: {titles}")

    operators = () if isinstance(installation.operators, Unknown) else installation.operators
    operator_collections = {operator.namespace: await collect_operator(cluster, operator) for operator in operators}
    return Ticket(installation, listed, reports, collections, operator_collections, tuple(gaps))


def announce(text: str) -> None:
    """Prints progress on standard error."""
    click.echo(one_line(text), err=True)


def write_zip(path: Path, files: Mapping[str, str], now: datetime) -> None:
    """Writes the files in their order, all with one time. Raises UnusableInput when the path exists or is unusable."""
    # Only the person who asked may read it until they pass it on.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL

    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, text in files.items():
                entry = zipfile.ZipInfo(f"{path.stem}/{name}", now.timetuple()[:6])
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o600 << 16
                archive.writestr(entry, text)
    except OSError as error:
        raise UnusableInput(str(path), None, f"it cannot be written: {error.strerror}") from error
