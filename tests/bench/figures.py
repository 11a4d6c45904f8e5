"""What was measured, beside what should be reached: a table for people, JSON for programs."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`unit` is empty for a ratio; without `at_most` and `at_least` there is nothing to be reached."""

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
        said = " and ".join(f"{word} {_number(limit)}" for word, limit in limits if limit is not None)
        return f"{said}: {'yes' if self.reached else '**no**'}" if said else ""


def percentile(values: Iterable[float], hundredth: float) -> float:
    """The smallest of the values that this share of them, in hundredths, does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(ceil(len(ordered) * hundredth / 100), 1) - 1]


def table(figures: Sequence[Figure]) -> str:
    """In Markdown, a table for each section."""
    sections = dict.fromkeys(each.section for each in figures)
    return "\n\n".join(_section(name, [each for each in figures if each.section == name]) for name in sections)


def document(figures: Sequence[Figure], conditions: dict[str, Any]) -> dict[str, Any]:
    """What `--json` writes; `reached` is null where there is nothing to be reached."""
    return {"conditions": conditions, "figures": [{**asdict(each), "reached": each.reached} for each in figures]}


def machine() -> dict[str, Any]:
    """What the figures were measured on; of the load, the average of the last five minutes."""
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
    rows = [f"| {each.what} | {_number(each.value)} {each.unit}".rstrip() + f" | {each.reach} |" for each in figures]
    return "\n".join([f"| {name} | measured | to be reached |", "|---|---|---|", *rows])


def _number(value: float) -> str:
    """Three digits that count, and all those before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".removesuffix(".00")
