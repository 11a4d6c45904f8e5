"""Renders panels and rows of panels as Grafana imports them. What they show is in `dashboard`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.dashboard_queries import Query

COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """A panel; `width` is in columns of 24, `settings` are further fields of its fieldConfig.defaults."""

    title: str
    kind: str
    width: int
    height: int
    queries: Sequence[Query]
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    text: str = ""


@dataclass(frozen=True)
class PanelRow:
    """Panels below a title, which folds them; without one, they are the top of the dashboard."""

    title: str
    panels: Sequence[Panel]


def place_panels(rows: Sequence[PanelRow]) -> Iterator[Json]:
    """Yields the panels of every row from left to right, each with its place and its number."""
    number, top = 0, 0
    for row in rows:
        if row.title:
            number += 1
            place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
            yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
            top += 1

        left, height = 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            number, height = number + 1, panel.height
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield {"id": number, "gridPos": place, **_render(panel)}
            left += panel.width
        top += height


def _render(panel: Panel) -> Json:
    rendered: Json = {"title": panel.title, "type": panel.kind}
    if panel.description:
        rendered["description"] = panel.description
    if panel.kind == "text":
        return rendered | {"options": {"mode": "markdown", "content": panel.text}}

    return rendered | {
        "datasource": SOURCE,
        "fieldConfig": {"defaults": dict(panel.settings), "overrides": list(panel.overrides)},
        "options": dict(panel.options),
        "targets": [_target(query, chr(ord("A") + index)) for index, query in enumerate(panel.queries)],
        "transformations": list(panel.transformations),
    }


def _target(query: Query, reference: str) -> Json:
    target = {"refId": reference, "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
    if query.is_table:
        return target | {"format": "table", "instant": True, "range": False}
    return target | {"instant": query.is_instant, "range": not query.is_instant}


def map_values(texts: Mapping[int, tuple[str, str]]) -> list[Json]:
    """Shows a text in a color instead of each value."""
    options = {str(value): {"text": text, "color": color, "index": value} for value, (text, color) in texts.items()}
    return [{"type": "value", "options": options}]


def thresholds(*steps: tuple[float | None, str]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def column(name: str, **properties: Any) -> Json:
    """Sets properties of a table's column; `__` stands for the dot in the name of a property."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def join_columns(names: Mapping[str, str], hidden: Sequence[str] = ()) -> list[Json]:
    """Joins the queries of a table; `names` has the title of each column that is shown, in their order."""
    order = {name: index for index, name in enumerate(names)}
    settings = {
        "excludeByName": dict.fromkeys(("Time", *hidden), True),
        "indexByName": order,
        "renameByName": {name: title for name, title in names.items() if name != title},
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": settings}]
