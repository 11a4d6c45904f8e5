"""Sets an annotation of DittoServers, as the person who runs the command. It decides nothing."""

import asyncio
from collections.abc import Callable, Sequence

import click

from app.cli.options import Source
from app.cluster.reader import DITTO_SERVERS
from app.storage.finding import one_line
from app.storage.spec import KIND
from app.storage.unstructured import DEFAULT_NAMESPACE, Manifest

MANAGER = "kubectl-dittofs"


def annotate(
    source: Source,
    namespace: str | None,
    names: Sequence[str],
    annotation: tuple[str, str | None],
    describe: Callable[[Manifest], str],
) -> None:
    """Sets the annotation, or removes it where its value is None, and prints what then happens to each server.

    `describe` gets the server as it was before. Raises NotFound, before anything is written, when one does not exist.
    """

    async def write() -> list[str]:
        async with source.connect() as cluster:
            within = namespace or cluster.namespace or DEFAULT_NAMESPACE
            servers = [await cluster.get(DITTO_SERVERS, name, within) for name in dict.fromkeys(names)]

            lines = []
            for server in servers:
                # With the uid, nothing is written to another server that has this name by now.
                identity = {key: server["metadata"][key] for key in ("name", "namespace", "uid")}
                patch = {"metadata": {**identity, "annotations": dict([annotation])}}
                await cluster.merge(DITTO_SERVERS, patch, MANAGER)
                lines.append(f"{KIND} {within}/{server['metadata']['name']} {describe(server)}")
            return lines

    for line in asyncio.run(write()):
        click.echo(one_line(line))
