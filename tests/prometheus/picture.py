"""Draws the panels of the dashboard from what Prometheus answers to their queries. Grafana does not take part."""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import Locator, MaxNLocator, MultipleLocator
from PIL import Image

from manifests.grafana import COLUMNS
from tests.prometheus.grafana import Grafana

# Inches of one column, and of one unit of a panel's height; the heads of panels and their frames take a part of it.
COLUMN, UNIT = 0.62, 0.33
DOTS = 100
CAPTION = (
    "Drawn by matplotlib from the answers of a real Prometheus, which scraped a real operator, to the queries of the "
    "dashboard. It is no screenshot of Grafana. What the kubelet reports about pods and volumes was staged."
)

_COLORS = {"red": "#d64550", "orange": "#f2913d", "yellow": "#eac645", "green": "#56a64b", "blue": "#5794f2"}
_TEXT, _FAINT, _GRID = "#24292e", "#6e7680", "#e3e6ea"
_SERIES = ("#5794f2", "#f2913d", "#56a64b", "#b877d9", "#d64550", "#37872d", "#eac645", "#8ab8ff", "#7c4b94", "#ffa6b0")
_MAX_LEGEND = 9

Draw = Callable[[Axes, Mapping[str, Any], Grafana], None]


def draw(grafana: Grafana, file: Path) -> None:
    """Draws the whole dashboard into a picture."""
    panels = grafana.dashboard["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = COLUMNS * COLUMN, (bottom + 2) * UNIT
    figure = Figure(figsize=(width, height), dpi=DOTS, facecolor="#f4f5f5")

    figure.text(0.008, 1 - 0.6 * UNIT / height, grafana.dashboard["title"], size=14, weight="bold", va="center")
    chosen = ", ".join(f"{name}: {'All' if value == '.*' else value}" for name, value in grafana.chosen.items())
    figure.text(0.08, 1 - 0.6 * UNIT / height, chosen, size=9, color=_FAINT, va="center")
    figure.text(0.008, 0.45 * UNIT / height, CAPTION, size=9, color=_FAINT, va="center")

    for panel in panels:
        place = panel["gridPos"]
        gap = 0.06
        left, top = place["x"] * COLUMN + gap, (place["y"] + 1.2) * UNIT + gap
        across, down = place["w"] * COLUMN - 2 * gap, place["h"] * UNIT - 2 * gap
        frame = (left / width, 1 - (top + down) / height, across / width, down / height)
        _draw_panel(figure, panel, frame, grafana)

    # A few dozen colors are in use, and a palette makes the file a third as large.
    figure.savefig(file)
    with Image.open(file) as picture:
        reduced = picture.convert("RGB").quantize(128)
    reduced.save(file, optimize=True)


def _draw_panel(
    figure: Figure, panel: Mapping[str, Any], frame: tuple[float, float, float, float], grafana: Grafana
) -> None:
    left, bottom, across, down = frame
    height = figure.get_figheight()
    if panel["type"] == "row":
        figure.text(left, bottom + down / 2, panel["title"], size=12, weight="bold", va="center")
        return

    figure.add_artist(Rectangle((left, bottom), across, down, facecolor="white", edgecolor="#d8dbdf", zorder=-2))
    figure.text(left + 0.006, bottom + down - 0.11 / height, panel["title"], size=9.5, weight="bold", va="center")

    head = 0.27 / height
    axes = figure.add_axes((left, bottom, across, down - head))
    _DRAWN[panel["type"]](axes, panel, grafana)


def _draw_text(axes: Axes, panel: Mapping[str, Any], grafana: Grafana) -> None:
    axes.set_axis_off()
    lines: list[str] = []
    for line in panel["options"]["content"].replace("```", "").split("\n"):
        lines += textwrap.wrap(line, 44) or [""]
    axes.text(0.04, 0.95, "\n".join(lines), size=8.5, va="top", linespacing=1.35, color=_TEXT)


def _draw_stat(axes: Axes, panel: Mapping[str, Any], grafana: Grafana) -> None:
    axes.set_axis_off()
    settings = panel["fieldConfig"]["defaults"]
    [series] = grafana.series(panel["targets"][0])
    value = float(series["value"][1])

    axes.add_patch(Rectangle((0.03, 0.08), 0.94, 0.9, facecolor=_COLORS[_threshold(settings, value)]))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    unit = "whole" if "decimals" in settings else settings["unit"]
    text = _format(value, unit, series["value"][0])
    axes.text(0.5, 0.52, text, size=20, weight="bold", ha="center", va="center", color="white")


def _draw_table(axes: Axes, panel: Mapping[str, Any], grafana: Grafana) -> None:
    # As many as there is room for; in Grafana one scrolls.
    room = panel["gridPos"]["h"] - 2
    rows, overrides = grafana.rows(panel)[:room], _overrides(panel)
    names = list(rows[0]) if rows else []
    cells = [[_cell(row[name], overrides.get(name, {})) for name in names] for row in rows]
    widths = [
        max([len(name) + 2, *(16 if _is_bar(overrides.get(name, {})) else len(line[at]) + 2 for line in cells)])
        for at, name in enumerate(names)
    ]
    edges = [sum(widths[:at]) / sum(widths) for at in range(len(names) + 1)]
    lines, padding = room + 1, 0.09 / (COLUMN * panel["gridPos"]["w"])

    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(lines, 0))
    for at, name in enumerate(names):
        left, width = edges[at], edges[at + 1] - edges[at]
        axes.text(left + padding, 0.5, name, size=8.5, weight="bold", color=_FAINT, va="center")
        for line, row in enumerate(rows, start=1):
            settings = overrides.get(name, {})
            _draw_cell(axes, (left + padding, line, width - padding), row[name], cells[line - 1][at], settings)
    for line in range(1, len(rows) + 1):
        axes.axhline(line, color=_GRID, linewidth=0.7)


def _draw_cell(axes: Axes, place: tuple[float, int, float], value: Any, text: str, settings: Mapping[str, Any]) -> None:
    left, line, width = place
    color, inside = _TEXT, 0.0
    if mapped := _mapping(settings, value):
        axes.add_patch(Rectangle((left, line + 0.06), width * 0.97, 0.88, facecolor=_COLORS[mapped["color"]]))
        color, inside = _TEXT if mapped["color"] == "yellow" else "white", 0.006
    elif _is_bar(settings) and value is not None:
        bar = width * 0.6
        filled = _COLORS[_threshold(settings, value)]
        axes.add_patch(Rectangle((left, line + 0.25), bar, 0.5, facecolor=_GRID))
        axes.add_patch(Rectangle((left, line + 0.25), bar * min(value, 1), 0.5, facecolor=filled))
        inside = bar + 0.006
    axes.text(left + inside, line + 0.5, text, size=8.5, color=color, va="center")


def _draw_timeseries(axes: Axes, panel: Mapping[str, Any], grafana: Grafana) -> None:
    settings = panel["fieldConfig"]["defaults"]
    is_bars = settings["custom"]["drawStyle"] == "bars"
    curves = sorted(_curves(panel, grafana), key=lambda curve: -max(curve[2]))
    # Series that are zero all the time tell nothing apart.
    shown = [curve for curve in curves if max(curve[2]) > 0] or curves

    bottoms: dict[float, float] = {}
    for position, (label, times, values) in enumerate(shown):
        color = _SERIES[position % len(_SERIES)]
        legend = label if position < _MAX_LEGEND else None
        if is_bars:
            starts = [bottoms.get(time, 0.0) for time in times]
            axes.bar(times, values, width=grafana.interval, bottom=starts, color=color, label=legend)
            bottoms |= {time: start + value for time, start, value in zip(times, starts, values, strict=True)}
        else:
            axes.plot(times, values, color=color, linewidth=1.3, label=legend)
            axes.fill_between(times, values, color=color, alpha=0.08, linewidth=0)
    _draw_annotations(axes, grafana)

    top = max([value for curve in shown for value in curve[2]] + list(bottoms.values()) or [1]) or 1
    axes.set_ylim(0, 1 if settings["unit"] == "percentunit" else top * 1.15)
    axes.yaxis.set_major_locator(_ticks(axes.get_ylim()[1], settings["unit"]))
    axes.yaxis.set_major_formatter(lambda value, _: _format(value, settings["unit"]))
    _set_time_axis(axes, grafana, legend=2 if len(shown) > 2 else 1)
    columns = 3 if panel["gridPos"]["w"] > 8 else 2
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.14),
        ncols=columns,
        fontsize=7,
        frameon=False,
        labelcolor=_TEXT,
        borderaxespad=0,
        columnspacing=1.2,
        handlelength=1,
        labelspacing=0.3,
    )


def _draw_timeline(axes: Axes, panel: Mapping[str, Any], grafana: Grafana) -> None:
    curves = sorted(_curves(panel, grafana))
    settings = panel["fieldConfig"]["defaults"]
    for line, (_, times, values) in enumerate(curves):
        for time, value in zip(times, values, strict=True):
            mapped = _mapping(settings, value)
            color = _COLORS[mapped["color"]] if mapped else _GRID
            axes.broken_barh([(time, grafana.interval)], (line + 0.1, 0.8), facecolors=color, linewidth=0)

    axes.set_ylim(len(curves), 0)
    axes.set_yticks([line + 0.5 for line in range(len(curves))], labels=[label for label, _, _ in curves])
    _set_time_axis(axes, grafana, legend=1, inches=1.1)
    handles = [Rectangle((0, 0), 1, 1, facecolor=_COLORS[entry["color"]]) for entry in _options(settings).values()]
    labels = [entry["text"] for entry in _options(settings).values()]
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, -0.12),
        ncols=4,
        fontsize=7.5,
        frameon=False,
        borderaxespad=0,
    )


_DRAWN: Mapping[str, Draw] = {
    "stat": _draw_stat,
    "state-timeline": _draw_timeline,
    "table": _draw_table,
    "text": _draw_text,
    "timeseries": _draw_timeseries,
}


def _curves(panel: Mapping[str, Any], grafana: Grafana) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yields each series with the name that its legend gives it, and its points."""
    for target in panel["targets"]:
        for series in grafana.series(target):
            label = target["legendFormat"]
            for name, value in series["metric"].items():
                label = label.replace(f"{{{{{name}}}}}", value)
            points = [(time, float(value)) for time, value in series["values"] if value != "NaN"]
            if points:
                yield label, [time for time, _ in points], [value for _, value in points]


def _draw_annotations(axes: Axes, grafana: Grafana) -> None:
    """Marks where an annotation begins."""
    for _, found in grafana.annotations():
        for series in found:
            begun = series["values"][0][0]
            axes.axvline(begun, color=_COLORS["blue"], linestyle="--", linewidth=0.9)
            axes.plot([begun], [0], marker="^", color=_COLORS["blue"], markersize=5, clip_on=False, zorder=5)


def _set_time_axis(axes: Axes, grafana: Grafana, legend: int, inches: float = 0.6) -> None:
    place, figure = axes.get_position(), axes.figure
    assert isinstance(figure, Figure)
    height, left = figure.get_figheight(), inches / (place.width * figure.get_figwidth())
    below = (0.25 + 0.17 * (legend + 1)) / height
    wide = place.width * (1 - left - 0.02)
    axes.set_position((place.x0 + place.width * left, place.y0 + below, wide, place.height - below - 0.05 / height))
    axes.xaxis.set_major_formatter(lambda time, _: datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S"))
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize=7.5, colors=_FAINT, length=0)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _ticks(top: float, unit: str) -> Locator:
    if unit == "bytes":
        step = 2.0 ** math.floor(math.log2(top / 2)) if top else 1
        return MultipleLocator(step)
    return MaxNLocator(4, integer=unit == "none")


# What Grafana makes of a panel's settings.


def _overrides(panel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        override["matcher"]["options"]: {entry["id"]: entry["value"] for entry in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


def _is_bar(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("custom.cellOptions", {}).get("type") == "gauge")


def _options(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    options: Mapping[str, Any] = settings["mappings"][0]["options"] if settings.get("mappings") else {}
    return options


def _mapping(settings: Mapping[str, Any], value: Any) -> Mapping[str, str] | None:
    return _options(settings).get(str(int(value))) if isinstance(value, float) else None


def _threshold(settings: Mapping[str, Any], value: float) -> str:
    steps: Sequence[Mapping[str, Any]] = settings["thresholds"]["steps"]
    color: str = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return color


def _cell(value: Any, settings: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if mapped := _mapping(settings, value):
        return mapped["text"]
    return _format(value, settings.get("unit", "none" if "decimals" not in settings else "whole"))


def _format(value: float, unit: str, now: float | None = None) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "bytes":
        power = max(min(int(math.log2(value) // 10), 4), 0) if value > 0 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    if unit == "whole":
        return f"{value:.0f}"
    if unit == "s":
        return _format_seconds(value)
    if unit == "dateTimeFromNow":
        left = value / 1000 - (now or datetime.now(UTC).timestamp())
        text = _format_seconds(abs(left))
        return f"in {text}" if left > 0 else f"{text} ago"
    if value == 0:
        return "0"
    number = f"{value:.3g}"
    return {"reqps": f"{number} req/s", "ops": f"{number} ops/s"}.get(unit, f"{value:.0f}" if value >= 10 else number)


def _format_seconds(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
