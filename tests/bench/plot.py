"""Draws how cost grows with the number of servers."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from tests.bench.reconciling import Cost


def draw(costs: Sequence[Cost], file: Path) -> None:
    """Draws the costs into an SVG, or into another format that the name of the file ends with."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    servers = [cost.servers for cost in costs]

    time.plot(servers, [cost.milliseconds_each for cost in costs], marker="o", label="operator")
    time.plot(servers, [1000 * cost.bare / cost.servers for cost in costs], marker="o", label="bare client")
    time.set_ylabel("milliseconds for each new server")
    time.legend()
    memory.plot(servers, [cost.kilobytes_each for cost in costs], marker="o")
    memory.set_ylabel("kilobytes of memory for each server")

    for axes in (time, memory):
        axes.set_xscale("log")
        axes.set_xticks(servers, labels=list(map(str, servers)))
        axes.minorticks_off()
        axes.set_xlabel("servers")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)

    # Text stays text, which makes the SVG a third smaller.
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file)
