"""Fills in the variables of a dashboard and asks Prometheus for its queries, as Grafana does."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.prometheus.server import SCRAPE_SECONDS, Prometheus

_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass
class Grafana:
    """Shows a dashboard of the last seconds; `interval` is the time between two points of a graph, in seconds."""

    dashboard: Mapping[str, Any]
    prometheus: Prometheus
    range: int
    interval: int
    chosen: dict[str, str] = field(default_factory=dict)

    def open(self) -> Mapping[str, list[str]]:
        """Looks up what the variables can be, in their order, and chooses as when the dashboard is opened first."""
        options: dict[str, list[str]] = {}
        for variable in self.dashboard["templating"]["list"]:
            if variable["type"] != "query":
                continue

            query = _LABEL_VALUES.fullmatch(variable["query"])
            assert query, variable["query"]
            values = [*self.prometheus.label_values(self.fill_in(query[1]), query[2])]
            options[variable["name"]] = values

            default = variable["current"]["value"]
            if default == "$__all":
                self.chosen[variable["name"]] = variable["allValue"]
            elif values:
                # A default that is not there gives way to the first value.
                self.chosen[variable["name"]] = default if default in values else values[0]
        return options

    def fill_in(self, expr: str) -> str:
        """Replaces the variables, the dashboard's own and those that Grafana has; what is none stays."""
        builtin = {
            "__rate_interval": f"{max(self.interval + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s",
            "__range": f"{self.range}s",
        }
        known = builtin | self.chosen
        return re.sub(r"\$(\w+)", lambda name: known.get(name[1], name[0]), expr)

    def series(self, target: Mapping[str, Any]) -> list[Any]:
        """Returns what a panel gets for a query."""
        expr = self.fill_in(target["expr"])
        if target["instant"]:
            return self.prometheus.at_once(expr)
        return self.prometheus.over_time(expr, self.range, self.interval)

    def annotations(self) -> Iterator[tuple[str, list[Any]]]:
        """Yields what each annotation finds, by its name."""
        for annotation in self.dashboard["annotations"]["list"]:
            yield (
                annotation["name"],
                self.prometheus.over_time(self.fill_in(annotation["expr"]), self.range, self.interval),
            )

    @property
    def panels(self) -> list[Mapping[str, Any]]:
        return [panel for panel in self.dashboard["panels"] if panel.get("targets")]

    def rows(self, panel: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns the rows of a table by the titles of its columns, in their order; each label is a column, too.

        Rows of several queries become one where they agree in all columns that every query has.
        """
        several = len(panel["targets"]) > 1
        frames = []
        for target in panel["targets"]:
            name = f"Value #{target['refId']}" if several else "Value"
            series = self.series(target)
            frames.append([{**_labels(entry), name: float(entry["value"][1])} for entry in series])

        merged, organized = panel["transformations"]
        assert (merged["id"], organized["id"]) == ("merge", "organize")
        settings = organized["options"]
        rows = [
            {
                settings["renameByName"].get(name, name): row.get(name)
                for name in settings["indexByName"]
                if not settings["excludeByName"].get(name)
            }
            for row in _merge([frame for frame in frames if frame])
        ]

        for order in panel["options"].get("sortBy", []):
            rows.sort(key=lambda row: row[order["displayName"]] or 0, reverse=order["desc"])
        return rows

    def columns(self, panel: Mapping[str, Any]) -> set[str]:
        """Returns the columns that the queries of a table have, before any is renamed or hidden."""
        several = len(panel["targets"]) > 1
        values = {f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]}
        return values | {
            name for target in panel["targets"] for entry in self.series(target) for name in _labels(entry)
        }


def _labels(entry: Any) -> dict[str, str]:
    return {name: value for name, value in entry["metric"].items() if name != "__name__"}


def _merge(frames: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    shared = sorted(set.intersection(*({name for row in frame for name in row} for frame in frames))) if frames else []
    rows: list[dict[str, Any]] = []
    for frame in frames:
        for row in frame:
            fits = [other for other in rows if all(other.get(name) == row.get(name) for name in shared)]
            fits = [other for other in fits if not other.keys() & row.keys() - set(shared) - _equal(other, row)]
            if fits and shared:
                fits[0].update(row)
            else:
                rows.append(dict(row))
    return rows


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one.keys() & other.keys() if one[name] == other[name]}
