"""`doctor`: checks the operator, the cluster and every server, and suggests how to fix problems. Stores nothing."""

import asyncio
import sys

import click

from app.cli.checkup import check_as_json, examine, format_checks
from app.cli.options import Scope, Target, installation_options, option, report_option
from app.cli.output import print_report
from app.cluster.installation import InstallationQuery
from app.settings import release
from app.storage.checkup import Check, has_problem
from app.storage.unstructured import DEFAULT_NAMESPACE


@click.command()
@installation_options
@option("--preflight", is_flag=True, help="Only check whether the operator can be installed.")
@report_option
def doctor(target: Target, operator_namespace: str | None, output: str, *, preflight: bool) -> None:
    """Check the operator, the cluster and every DittoServer, and suggest how to fix problems.

    Without NAME and -n, these are the servers of all namespaces. The webhook is tried with two DittoServers that the
    API server does not store (a dry run). What you may not look at is reported as unknown.

    Before the operator is installed, --preflight checks whether you can install it in this cluster.

    Exits with 0 if there is no problem, with 1 if there is one, and with 2 if the API server cannot be asked. Warnings
    and what is unknown are no problem.
    """
    if preflight and (target.names or target.labels):
        raise click.UsageError("--preflight checks no servers: leave out NAME and --selector")

    async def ask() -> list[Check]:
        async with target.source.connect() as cluster:
            here = target.namespace or cluster.namespace or DEFAULT_NAMESPACE
            within = None if target.is_everywhere else target.namespace or (here if target.names else None)
            query = InstallationQuery(here, release(), operator_namespace, preflight)
            return await examine(cluster, query, Scope(within, target.names, target.labels))

    checks = asyncio.run(ask())

    print_report(output, format_checks(checks, wide=output == "wide"), map(check_as_json, checks))
    sys.exit(1 if has_problem(checks) else 0)
