"""`logs`: prints the log of a DittoServer's pod. It stores nothing."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import click

from app.cli.options import Source, cluster_options, option
from app.storage.finding import one_line
from app.storage.pod import CONTAINER, pod_name
from app.storage.unstructured import DEFAULT_NAMESPACE

# How long the API server may take to continue a log that is not followed.
QUIET_SECONDS = 30.0


@click.command()
@click.argument("name")
@cluster_options
@option("--follow", "-f", is_flag=True, help="Go on until the server ends, or you interrupt.")
@option("--previous", "-p", is_flag=True, help="Print the log of the run before the last restart.")
@option("--tail", type=click.IntRange(0), help="Number of lines from the end; by default, all of them.")
def logs(name: str, source: Source, namespace: str | None, tail: int | None, *, follow: bool, previous: bool) -> None:
    """Print the log of a DittoServer's pod.

    Beware: DittoFS up to 0.8 prints the password of admin in clear text in its first log. Control characters are
    printed as spaces.
    """
    options = {"container": CONTAINER, "follow": str(follow).lower(), "previous": str(previous).lower()}
    if tail is not None:
        options["tailLines"] = str(tail)

    async def copy() -> None:
        async with source.connect() as cluster:
            within = namespace or cluster.namespace or DEFAULT_NAMESPACE
            # A server that has nothing to say is silent for as long as it likes.
            chunks = cluster.log(pod_name(name), within, options, None if follow else QUIET_SECONDS)
            async for line in split_lines(chunks):
                click.echo(one_line(line.decode(errors="replace").expandtabs()))

    asyncio.run(copy())


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest
