"""`df`: lists DittoServers and their volumes with requests, capacities and used space. Writes to no cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from app.cli.live_view import View, ViewItem, present, watch_option
from app.cli.options import Scope, Target, report_option, target_options
from app.cli.output import format_table, volume_as_json
from app.cluster.survey import Stats, Survey, survey
from app.storage import quantity
from app.storage.reading import read
from app.storage.spec import KIND
from app.storage.status_schema import ServerStatus
from app.storage.usage import Usage
from app.storage.volume_states import Phase, VolumeState, reported_states

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot

HEADINGS = ("namespace", "server", "version", "volume", "class", "requested", "capacity", "used", "phase", "message")
WIDE_HEADINGS = (*HEADINGS, "claim", "persistent volume")
PHASE_COLOURS: dict[str, str] = {Phase.BOUND: "green", Phase.LOST: "red", Phase.RESIZE_REFUSED: "red"}


@click.command()
@target_options
@report_option
@watch_option
def df(target: Target, output: str, *, watch: bool) -> None:
    """Show the volumes of DittoServers: requested size, capacity, used space and the server's version.

    Without --kubeconfig and --snapshot, these are the volumes in the cluster that kubectl uses. With --snapshot, all of
    its namespaces are listed unless you choose one.
    """

    async def look(reader: "Cluster | Snapshot", scope: Scope, stats: Stats | None) -> View:
        live = await survey(reader, scope.namespace, stats, scope.names, scope.labels)
        rows = list_volumes(live)
        items = [ViewItem(row.title, summarize(row), as_json(row)) for row in rows]
        return View(list(format_text(rows, wide=output == "wide")), items, live.gaps)

    present(target, look, output, watch=watch)


@dataclass(frozen=True)
class Row:
    """One volume; the server's version is None, and `usage` is, when nobody has reported it."""

    namespace: str
    server: str
    version: str | None
    state: VolumeState
    usage: Usage | None

    @property
    def title(self) -> str:
        return f"{self.namespace}/{self.server} {self.state.volume.name}"

    @property
    def used(self) -> str:
        return f"{quantity.format_bytes(self.usage.used)} {self.usage.percent}%" if self.usage else "unknown"


def list_volumes(live: Survey) -> list[Row]:
    """Returns the volumes of every server, sorted by namespace and name of the server."""
    return [
        Row(*key, ServerStatus.read(manifest).version, state, live.usages.get((key[0], state.claim_name)))
        for key, manifest in sorted(live.servers.items())
        for state in reported_states(read(manifest).server, manifest, live.live_state(key))
    ]


def format_text(rows: Sequence[Row], *, wide: bool = False) -> Iterator[str]:
    if not rows:
        yield f"no {KIND}s found"
        return

    cells = []
    for row in rows:
        state = row.state
        sizes = state.storage_class or "-", state.volume.size or "-", state.capacity or "-", row.used
        cell = [row.namespace, row.server, row.version or "-", state.volume.name, *sizes, state.phase, state.explain()]
        if wide:
            cell += [state.claim_name, (state.claim and state.claim.volume) or "-"]
        cells.append(cell)

    yield from format_table(WIDE_HEADINGS if wide else HEADINGS, cells, {"phase": PHASE_COLOURS})


def summarize(row: Row) -> str:
    state = row.state
    message = f": {state.explain()}" if state.explain() else ""
    sizes = f"{state.capacity or 'no volume'}, {state.volume.size or '-'} requested, used {row.used}"
    return f"{row.title} {state.phase}, {sizes}{message}"


def as_json(row: Row) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "server": row.server,
        "version": row.version,
        **volume_as_json(row.state, row.usage),
    }
