"""Draws how cost grows with the number of servers, and of what the time of a review consists."""

from collections.abc import Mapping, Sequence
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

    _save(figure, file)


def draw_layers(microseconds: Mapping[str, float], yes: float, file: Path) -> None:
    """Draws what each layer of a review adds; `yes` is the time of a route that only says yes."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    begin = 0.0

    for name, length in microseconds.items():
        axes.barh(name, length, left=begin, color="tab:blue")
        axes.annotate(f" {length:.0f}", (begin + length, name), va="center")
        begin += length
    axes.axvline(yes, color="tab:orange", label="a FastAPI route that only says yes, all of it")

    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(begin, yes))
    axes.set_xlabel("microseconds of processor time, one layer after the other")
    axes.legend(loc="upper right")
    axes.grid(axis="x", alpha=0.3)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    # Text stays text, which makes the SVG a third smaller.
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file)
