"""`df`: lists DittoServers and their volumes with requests, capacities and used space. Writes to no cluster."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from app.cli.options import Source, option, output_option, source_options
from app.cli.output import format_json, format_table, print_lines, volume_as_json
from app.cluster.survey import Survey, survey
from app.storage import quantity
from app.storage.reading import read
from app.storage.spec import KIND
from app.storage.status_schema import ServerStatus
from app.storage.usage import Usage
from app.storage.volume_states import Phase, VolumeState, reported_states

HEADINGS = ("namespace", "server", "version", "volume", "class", "requested", "capacity", "used", "phase", "message")
PHASE_COLOURS: dict[str, str] = {Phase.BOUND: "green", Phase.LOST: "red", Phase.RESIZE_REFUSED: "red"}


@click.command()
@source_options
@option("--namespace", "-n", help="Namespace to list; by default, the one of the kubeconfig's context.")
@option("--all-namespaces", "-A", is_flag=True, help="List the volumes in all namespaces.")
@output_option
def df(source: Source, namespace: str | None, *, all_namespaces: bool, output: str) -> None:
    """Show the volumes of DittoServers: requested size, capacity, used space and the server's version.

    Without --kubeconfig and --snapshot, these are the volumes in the cluster that kubectl uses. With --snapshot, all of
    its namespaces are listed unless you choose one.
    """

    async def look() -> Survey:
        async with source.open() as (reader, context_namespace, stats):
            return await survey(reader, None if all_namespaces else namespace or context_namespace, stats)

    volumes = asyncio.run(look())
    rows = list_volumes(volumes)
    print_lines([format_json(map(as_json, rows))] if output == "json" else format_text(rows), volumes.gaps)


@dataclass(frozen=True)
class Row:
    """One volume; the server's version is None, and `usage` is, when nobody has reported it."""

    namespace: str
    server: str
    version: str | None
    state: VolumeState
    usage: Usage | None


def list_volumes(live: Survey) -> list[Row]:
    """Returns the volumes of every server, sorted by namespace and name of the server."""
    return [
        Row(*key, ServerStatus.read(manifest).version, state, live.usages.get((key[0], state.claim_name)))
        for key, manifest in sorted(live.servers.items())
        for state in reported_states(read(manifest).server, manifest, live.live_state(key))
    ]


def format_text(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        yield f"no {KIND}s found"
        return

    cells = []
    for row in rows:
        state = row.state
        used = f"{quantity.format_bytes(row.usage.used)} {row.usage.percent}%" if row.usage else "unknown"
        sizes = state.storage_class or "-", state.volume.size or "-", state.capacity or "-", used
        cells.append(
            (row.namespace, row.server, row.version or "-", state.volume.name, *sizes, state.phase, state.explain())
        )

    yield from format_table(HEADINGS, cells, {"phase": PHASE_COLOURS})


def as_json(row: Row) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "server": row.server,
        "version": row.version,
        **volume_as_json(row.state, row.usage),
    }
