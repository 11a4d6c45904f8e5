"""Shows what was measured next to the goals: as a table for people, and as JSON for programs."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

YES_ROUTE = "a FastAPI route that only says yes"


@dataclass(frozen=True)
class Figure:
    """A measured value; `unit` is empty for a ratio, and `at_most` and `at_least` are the goals, if any."""

    section: str
    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool | None:
        if self.at_most is None and self.at_least is None:
            return None

        not_above = self.at_most is None or self.value <= self.at_most
        return not_above and (self.at_least is None or self.value >= self.at_least)

    @property
    def reach(self) -> str:
        limits = (("at most", self.at_most), ("at least", self.at_least))
        goal = " and ".join(f"{word} {_number(limit)}" for word, limit in limits if limit is not None)
        return f"{goal}: {'yes' if self.reached else '**no**'}" if goal else ""


@dataclass(frozen=True)
class Layer:
    """What a layer adds: microseconds by the minimum and by the median of all rounds, and instructions if counted."""

    name: str
    least: float
    median: float
    instructions: float | None = None


def percentile(values: Iterable[float], hundredth: float) -> float:
    """Returns the smallest value that this share of them, in hundredths, does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(ceil(len(ordered) * hundredth / 100), 1) - 1]


def table(figures: Sequence[Figure]) -> str:
    """Returns Markdown with a table for each section."""
    sections = dict.fromkeys(figure.section for figure in figures)
    return "\n\n".join(_section(name, [figure for figure in figures if figure.section == name]) for name in sections)


def table_of_layers(layers: Sequence[Layer], yes: Layer) -> str:
    """Returns Markdown: a line for each layer, then the whole, and a route that only says yes for comparison."""
    counts = [layer.instructions for layer in layers if layer.instructions is not None]
    least, middle = sum(layer.least for layer in layers), sum(layer.median for layer in layers)
    whole = Layer("**all of it**", least, middle, sum(counts) if counts else None)

    lines = ["| layer | µs, least | µs, median | share | instructions |", "|---|---|---|---|---|"]
    for layer in (*layers, whole, yes):
        count = f"{layer.instructions:,.0f}" if layer.instructions is not None else ""
        share = layer.least / whole.least
        lines.append(f"| {layer.name} | {layer.least:.1f} | {layer.median:.1f} | {share:.0%} | {count} |")

    count = f"{whole.instructions / yes.instructions:.2f}" if whole.instructions and yes.instructions else ""
    return "\n".join(
        [*lines, f"| the whole to yes | {least / yes.least:.2f} | {middle / yes.median:.2f} | | {count} |"]
    )


def table_of_libraries(shares: Mapping[str, float], whole: float) -> str:
    lines = ["| the same by library | µs | share |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {share * whole:.1f} | {share:.1%} |" for name, share in shares.items())])


def document(figures: Sequence[Figure], conditions: dict[str, Any]) -> dict[str, Any]:
    """Returns what `--json` writes; `reached` is null for a figure without a goal."""
    rows = [{**asdict(figure), "reached": figure.reached} for figure in figures]
    return {"conditions": conditions, "figures": rows}


def machine() -> dict[str, Any]:
    """Describes the machine; the load is the average of the last five minutes."""
    model = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30

    return {
        "processor": model[0] if model else platform.machine(),
        "processors": os.cpu_count(),
        "memory": f"{memory:.0f} GB",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[1], 1),
    }


def _section(name: str, figures: Sequence[Figure]) -> str:
    values = [(figure, f"{_number(figure.value)} {figure.unit}".rstrip()) for figure in figures]
    rows = [f"| {figure.what} | {value} | {figure.reach} |" for figure, value in values]
    return "\n".join([f"| {name} | measured | to be reached |", "|---|---|---|", *rows])


def _number(value: float) -> str:
    """Formats with three significant digits, and with all digits before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".removesuffix(".00")
