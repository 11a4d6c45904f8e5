"""Sets an annotation of DittoServers, as the person who runs the command. It decides nothing."""

import asyncio
from collections.abc import Callable

from app.cli.options import Target
from app.cli.output import print_report
from app.cluster.errors import NotFound
from app.cluster.reader import DITTO_SERVERS
from app.cluster.survey import list_servers
from app.storage.finding import one_line
from app.storage.spec import KIND
from app.storage.unstructured import Manifest

MANAGER = "kubectl-dittofs"


def annotate(
    target: Target, annotation: tuple[str, str | None], describe: Callable[[Manifest], str], output: str
) -> None:
    """Sets the annotation, or removes it where its value is None, and prints what then happens to each server.

    `describe` gets the server as it was before. Raises NotFound, before anything is written, when one does not exist,
    and ClusterError after the first server that cannot be written; those before it are printed.
    """
    items: list[dict[str, str]] = []

    async def write() -> None:
        async with target.connect() as (cluster, scope):
            servers = await list_servers(cluster, scope.namespace, scope.names, scope.labels)
            if not servers:
                raise NotFound(f"no {KIND} has these labels: {scope.labels}")

            for server in servers.values():
                # With the uid, nothing is written to another server that has this name by now.
                identity = {key: server["metadata"][key] for key in ("name", "namespace", "uid")}
                patch = {"metadata": {**identity, "annotations": dict([annotation])}}
                await cluster.merge(DITTO_SERVERS, patch, MANAGER)
                result = {"namespace": identity["namespace"], "server": identity["name"], "result": describe(server)}
                items.append(result)

    try:
        asyncio.run(write())
    finally:
        # Whoever repeats the command should know which servers it has restarted already.
        lines = (one_line(f"{KIND} {item['namespace']}/{item['server']} {item['result']}") for item in items)
        if items:
            print_report(output, lines, items)
