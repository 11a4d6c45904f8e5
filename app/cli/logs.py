"""`logs`: prints the log of a DittoServer's pod. It stores nothing."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import TYPE_CHECKING

import click

from app.cli.live_view import run_until_interrupted
from app.cli.options import Scope, Target, live_target_options, option
from app.cli.output import print_lines
from app.cluster.errors import ClusterError, Forbidden, NotFound
from app.cluster.survey import list_servers
from app.storage.finding import one_line
from app.storage.pod import CONTAINER, pod_name
from app.storage.spec import KIND
from app.storage.unstructured import ObjectKey

if TYPE_CHECKING:
    from app.cluster.client import Cluster

# How long the API server may take to continue a log that is not followed.
QUIET_SECONDS = 30.0


@click.command()
@live_target_options
@option("--follow", "-f", is_flag=True, help="Follow the log until the pod ends or you interrupt.")
@option("--previous", "-p", is_flag=True, help="Print the log of the previous run of the container.")
@option("--tail", type=click.IntRange(0), help="Lines to print from the end of the log; by default, all.")
def logs(target: Target, tail: int | None, *, follow: bool, previous: bool) -> None:
    """Print the logs of DittoServers' pods.

    With several servers, each line begins with the one that it is from. Beware: DittoFS up to 0.17 prints the password
    of admin in clear text in its first log. Control characters are printed as spaces.
    """
    options = {"container": CONTAINER, "follow": str(follow).lower(), "previous": str(previous).lower()}
    if tail is not None:
        options["tailLines"] = str(tail)

    async def copy() -> list[ClusterError]:
        async with target.connect() as (cluster, scope):
            servers = await choose_servers(cluster, scope)
            prefixes = {key: f"[{'/'.join(key)}] " if len(servers) > 1 else "" for key in servers}
            copies = [copy_log(cluster, key, options, prefix) for key, prefix in prefixes.items()]
            if not follow:
                return [error for error in [await copy for copy in copies] if error]

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(copy) for copy in copies]
            return [error for task in tasks if (error := task.result())]

    errors = run_until_interrupted(copy())
    print_lines([], map(str, errors[1:]))
    if errors:
        raise errors[0]


async def choose_servers(cluster: "Cluster", scope: Scope) -> list[ObjectKey]:
    """Returns the servers, sorted. Raises ClusterError."""
    try:
        return sorted(await list_servers(cluster, scope.namespace, scope.names, scope.labels))
    except Forbidden:
        # Whoever may read the log of a pod need not be permitted to list servers.
        if scope.namespace is None or not scope.names:
            raise
        return sorted((scope.namespace, name) for name in scope.names)


async def copy_log(
    cluster: "Cluster", server: ObjectKey, options: Mapping[str, str], prefix: str
) -> ClusterError | None:
    """Prints the log of a server's pod. Returns why that was not possible; the others go on."""
    namespace, name = server
    # A server that has nothing to say is silent for as long as it likes.
    quiet_seconds = None if options["follow"] == "true" else QUIET_SECONDS
    chunks = cluster.log(pod_name(name), namespace, options, quiet_seconds)

    try:
        async for line in split_lines(chunks):
            click.echo(one_line(prefix + line.decode(errors="replace").expandtabs()))
    except NotFound as error:
        return NotFound(f"{KIND} {namespace}/{name} has no log: {error}; its status says why")
    except ClusterError as error:
        return error
    return None


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest
