"""Lists the volumes of DittoServers: what is asked for, what there is, how full it is. Writes to no cluster."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
import orjson

from app.cluster.survey import Survey
from app.storage import quantity
from app.storage.finding import one_line
from app.storage.inventory import Entry, inventory
from app.storage.reading import read
from app.storage.resize import Phase
from app.storage.spec import KIND
from app.storage.usage import Usage

_COLOURS: dict[str, str] = {Phase.BOUND: "green", Phase.LOST: "red", Phase.RESIZE_REFUSED: "red"}
_HEADINGS = ("namespace", "server", "volume", "class", "requested", "capacity", "used", "phase", "message")
_PHASE = _HEADINGS.index("phase")


@dataclass(frozen=True)
class Row:
    """One volume; `usage` is None when nobody says how full it is."""

    namespace: str
    server: str
    entry: Entry
    usage: Usage | None


def df(found: Survey) -> list[Row]:
    """The volumes of every server, by namespace and name."""
    return [
        Row(*key, entry, found.usages.get((key[0], entry.claim)))
        for key, manifest in sorted(found.servers.items())
        for entry in inventory(read(manifest).server, manifest, found.live_state(key))
    ]


def text(rows: Sequence[Row]) -> Iterator[str]:
    """A table; styled, and click takes the style off where the output is no terminal."""
    if not rows:
        yield f"no {KIND}s found"
        return
    lines = [tuple(heading.upper() for heading in _HEADINGS), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        gaps = [" " * (width - len(cell) + 3) for cell, width in zip(cells, widths, strict=True)]
        styled = [*cells[:_PHASE], click.style(cells[_PHASE], fg=_COLOURS.get(cells[_PHASE])), *cells[_PHASE + 1 :]]
        yield "".join(cell + gap for cell, gap in zip(styled, gaps, strict=True)).rstrip()


def json(rows: Iterable[Row]) -> Iterator[str]:
    """For programs: a list with one object a volume."""
    yield orjson.dumps([_plain(row) for row in rows], option=orjson.OPT_INDENT_2).decode()


OUTPUTS = {"text": text, "json": json}


def _cells(row: Row) -> tuple[str, ...]:
    entry = row.entry
    used = f"{quantity.format_bytes(row.usage.used)} {row.usage.percent}%" if row.usage else "unknown"
    sizes = entry.storage_class or "-", entry.requested or "-", entry.capacity or "-", used
    cells = row.namespace, row.server, entry.name, *sizes, entry.phase, entry.message
    return tuple(map(one_line, cells))


def _plain(row: Row) -> dict[str, Any]:
    entry = row.entry
    return {
        "namespace": row.namespace,
        "server": row.server,
        "volume": entry.name,
        "claim": entry.claim,
        "storageClass": entry.storage_class,
        "requested": entry.requested,
        "capacity": entry.capacity,
        "usedBytes": row.usage and row.usage.used,
        "fileSystemBytes": row.usage and row.usage.size,
        "phase": entry.phase,
        "message": entry.message,
    }
