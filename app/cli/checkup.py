"""Examines the operator's installation and the servers, and renders the checks. Decides nothing about them."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import Scope
from app.cli.screen import SCREEN_COLUMNS, wrap
from app.cli.server_report import report
from app.cluster.errors import ClusterError, Forbidden, NotFound
from app.cluster.installation import InstallationQuery, inspect_installation
from app.cluster.kubelet_stats import within_patience
from app.cluster.survey import Survey, survey
from app.storage.checkup import Check, CheckResult, server_check
from app.storage.finding import one_line
from app.storage.installation import checks, preflight_checks
from app.storage.next_step import NextStep
from app.storage.spec import KIND

if TYPE_CHECKING:
    from app.cluster.client import Cluster

# As long as a person waits for the servers of a large cluster.
SERVERS_SECONDS = 30.0
COLOURS = {
    CheckResult.PROBLEM: "red",
    CheckResult.UNKNOWN: "magenta",
    CheckResult.WARNING: "yellow",
    CheckResult.OK: "green",
}
SERVERS = f"{KIND}s"
# A result, and two spaces.
INDENT = " " * 9
WITHOUT_LIMIT = 100_000


async def examine(cluster: "Cluster", query: InstallationQuery, servers: Scope) -> list[Check]:
    """Checks everything; without a namespace, the servers of all namespaces, or of as many as may be looked at.

    Raises ClusterError when the API server does not answer, and NotFound when there is no server of a name.
    """
    installation = await inspect_installation(cluster, query)
    if query.preflight:
        return list(preflight_checks(installation))

    listed = list(checks(installation))
    if installation.crd is None:
        return listed

    try:
        async with asyncio.timeout(SERVERS_SECONDS):
            live, where = await survey_servers(cluster, servers)
    except NotFound:
        raise
    except (ClusterError, TimeoutError) as error:
        why = str(error) or f"no answer within {SERVERS_SECONDS:g} s"
        step = NextStep("Name a namespace whose servers you may list with --namespace.")
        return [*listed, Check(SERVERS, CheckResult.UNKNOWN, why, step)]

    return [*listed, *server_checks(live, where, installation.now)]


def server_checks(live: Survey, where: str, now: datetime) -> list[Check]:
    """Checks the servers of a survey, which were looked for `where`; healthy ones are only counted."""
    listed = []
    for key in live.servers:
        shown = report(live, key, now)
        concerns = [server_check(shown.title, concern) for concern in shown.concerns]
        # That a server is ready matters only while there is no other concern.
        listed += [check for check in concerns if check.result != CheckResult.OK] or concerns[:1]

    gaps = [Check(SERVERS, CheckResult.UNKNOWN, gap) for gap in live.gaps]
    ranks = [*CheckResult]
    bad = sorted((item for item in listed if item.result != CheckResult.OK), key=lambda item: ranks.index(item.result))

    # Nobody should read "ok" there while a line below it says that a server is down.
    worst = bad[0].result if bad else CheckResult.OK
    healthy = sum(check.result == CheckResult.OK for check in listed)
    count = f"{healthy} of {len(live.servers)} {SERVERS} {where} are as they should be"
    return [Check(SERVERS, worst, count if live.servers else f"there are no {SERVERS} {where}"), *gaps, *bad]


async def survey_servers(cluster: "Cluster", query: Scope) -> tuple[Survey, str]:
    """Surveys all namespaces, or the one of the kubeconfig's context where only that is permitted."""
    stats, namespace = within_patience(cluster.stats), query.namespace
    try:
        live = await survey(cluster, namespace, stats, query.names, query.labels)
    except Forbidden:
        if namespace or not cluster.namespace:
            raise
        namespace = cluster.namespace
        live = await survey(cluster, namespace, stats, query.names, query.labels)
    return live, f"in namespace {namespace}" if namespace else "in all namespaces"


def format_checks(listed: Sequence[Check], columns: int = SCREEN_COLUMNS, *, wide: bool = False) -> Iterator[str]:
    """Yields each check with its remedy below it, and the totals. No text of others controls the terminal."""
    room = WITHOUT_LIMIT if wide else columns - len(INDENT)

    for check in listed:
        [first, *more] = wrap(f"{check.name}: {check.message}", room, WITHOUT_LIMIT)
        result = click.style(check.result, fg=COLOURS[check.result], bold=check.result == CheckResult.PROBLEM)
        yield f"{result}{' ' * (len(INDENT) - len(check.result))}{first}"
        yield from (f"{INDENT}{line}" for line in more)

        if check.step:
            yield from (f"{INDENT}{line}" for line in wrap(f"Next step: {check.step.text}", room, WITHOUT_LIMIT))
            # A command is not broken, so that it can be copied.
            yield from [f"{INDENT}  {one_line(check.step.command)}"] if check.step.command else []

    results = [check.result for check in listed]
    counts = {result: results.count(result) for result in CheckResult}
    words = [
        f"{count} {result}{'s' if count != 1 and result in (CheckResult.PROBLEM, CheckResult.WARNING) else ''}"
        for result, count in counts.items()
        if count
    ]
    worst = CheckResult.PROBLEM if counts[CheckResult.PROBLEM] else CheckResult.OK

    yield ""
    yield click.style(", ".join(words), fg=COLOURS[worst], bold=True)


def check_as_json(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "result": str(check.result),
        "message": check.message,
        "nextStep": check.step and {"text": check.step.text, "command": check.step.command},
    }
