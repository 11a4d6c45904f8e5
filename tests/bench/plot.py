"""How cost grows with the number of servers, drawn."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from tests.bench.reconciling import Cost


def draw(costs: Sequence[Cost], file: Path) -> None:
    """As SVG, or as what the name of the file ends with."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    servers = [each.servers for each in costs]
    time.plot(servers, [each.milliseconds_each for each in costs], marker="o", label="operator")
    time.plot(servers, [1000 * each.bare / each.servers for each in costs], marker="o", label="bare client")
    time.set_ylabel("milliseconds for each new server")
    time.legend()
    memory.plot(servers, [each.kilobytes_each for each in costs], marker="o")
    memory.set_ylabel("kilobytes of memory for each server")
    for axes in (time, memory):
        axes.set_xscale("log")
        axes.set_xticks(servers, labels=[str(each) for each in servers])
        axes.minorticks_off()
        axes.set_xlabel("servers")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    # Text stays text, in an SVG of two thirds of the size.
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file)
