"""Prints what the commands report: lines, tables and JSON. Click removes colours where the output is no terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
import orjson

from app import manifests
from app.storage.finding import Finding, one_line
from app.storage.usage import Usage
from app.storage.volume_states import VolumeState

COLUMN_GAP = 3


def print_lines(lines: Iterable[str], gaps: Iterable[str] = ()) -> None:
    """Prints the lines, and the gaps on standard error, where they do not disturb a program that reads the lines."""
    for line in lines:
        click.echo(line)
    for gap in gaps:
        click.echo(one_line(gap), err=True)


def print_report(
    output: str, lines: Iterable[str], items: Iterable[Mapping[str, Any]], gaps: Iterable[str] = ()
) -> None:
    """Prints what was asked for: lines for people, or items for programs."""
    if output == "json":
        print_lines([format_json(items)], gaps)
    elif output == "yaml":
        print_lines([manifests.dump(list(items)).rstrip()], gaps)
    else:
        print_lines(lines, gaps)


def format_json(items: Iterable[Mapping[str, Any]]) -> str:
    return orjson.dumps(list(items), option=orjson.OPT_INDENT_2).decode()


def finding_as_json(finding: Finding) -> dict[str, Any]:
    return {"severity": finding.severity, "path": finding.path, "message": finding.message}


def volume_as_json(state: VolumeState, usage: Usage | None) -> dict[str, Any]:
    """Returns a volume for programs; the used space is None when nobody has reported it."""
    return {
        "volume": state.volume.name,
        "claim": state.claim_name,
        "storageClass": state.storage_class,
        "requested": state.volume.size,
        "capacity": state.capacity,
        "usedBytes": usage and usage.used,
        "fileSystemBytes": usage and usage.size,
        "phase": str(state.phase),
        "message": state.explain(),
    }


def format_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], colours: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Aligns the columns; `colours` has the colour of a cell by the heading of its column and by its text."""
    lines = [[heading.upper() for heading in headings], *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    for cells in lines:
        line = ""
        for heading, cell, width in zip(headings, cells, widths, strict=True):
            colour = colours.get(heading, {}).get(cell)
            line += click.style(cell, fg=colour) if colour else cell
            line += " " * (width - len(cell) + COLUMN_GAP)

        yield line.rstrip()
