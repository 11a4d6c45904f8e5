"""Describes the dashboard for Grafana: the panels in their order, and the queries that each shows."""

from typing import Any

from app.storage.next_step import NEARLY_FULL_PERCENT, START_PATIENCE
from manifests import dashboard_queries as queries
from manifests.dashboard_queries import Query
from manifests.grafana import SOURCE, Json, Panel, PanelRow, column, join_columns, map_values, place_panels, thresholds

UID = "dittofs-operator"
JOB = "dittofs-operator"  # The name of the Service that the chart's ServiceMonitor selects, by default.

_RED, _ORANGE, _YELLOW, _GREEN, _BLUE = "red", "orange", "yellow", "green", "blue"

# Values of `queries.STATE`.
STATES = {
    0: ("not ready", _ORANGE),
    1: ("ready", _GREEN),
    2: ("not ready, blocked", _RED),
    3: ("ready, blocked", _YELLOW),
}
RANKS = {rank: (problem.text, problem.color) for rank, problem in enumerate(reversed(queries.PROBLEMS), start=1)}


def dashboard() -> Json:
    """Returns the dashboard as Grafana imports it."""
    return {
        "title": "DittoFS",
        "uid": UID,
        "description": "The file servers that the DittoFS operator manages, and the operator itself.",
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "graphTooltip": 1,
        "tags": ["dittofs"],
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "links": [],
        "annotations": {"list": [_annotation(query) for query in queries.ANNOTATIONS]},
        "templating": {"list": _variables()},
        "panels": list(place_panels(ROWS)),
    }


def _variables() -> list[Json]:
    everything = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    job = {"current": {"text": JOB, "value": JOB}}

    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _variable("job", "Operator", job),
        _variable("namespace", "Namespace", everything),
        _variable("server", "Server", everything),
    ]


def _variable(name: str, label: str, settings: Json) -> Json:
    query = queries.VARIABLES[name]
    # Sorted by name; looked up whenever the dashboard is loaded.
    common = {"name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 1, "sort": 1}
    return {**common, "query": query, "definition": query, **settings}


def _annotation(query: Query) -> Json:
    server = "{{namespace}}/{{server}}"
    common = {"datasource": SOURCE, "enable": True, "iconColor": _BLUE, "step": "60s", "tagKeys": "cause"}
    texts = {"titleFormat": f"{server} restarts", "textFormat": "because of {{cause}}"}
    return {"name": query.legend, "expr": query.expr, **common, **texts}


_FULL = NEARLY_FULL_PERCENT / 100
_USAGE = thresholds((None, _GREEN), (_FULL - 0.15, _YELLOW), (_FULL, _RED))
_BAR = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
_USED = {"unit": "percentunit", "min": 0, "max": 1, "thresholds": _USAGE}
_COLORED = {"type": "color-background", "mode": "basic"}
_WAIT = thresholds((None, _GREEN), (120, _YELLOW), (START_PATIENCE.total_seconds(), _RED))
_ZERO_IS_GOOD = thresholds((None, _GREEN), (1, _RED))
_LATEST = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background"}
_LINES = {"custom": {"drawStyle": "line", "fillOpacity": 10, "showPoints": "never"}}
_BARS = {"custom": {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal", "group": "A"}}}
_LEGEND = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
_AGO = "dateTimeFromNow"
_SELECT = [
    {
        "title": "Show only this server",
        "url": f"/d/{UID}?${{__url_time_range}}&${{job:queryparam}}"
        "&var-namespace=${__data.fields.Namespace}&var-server=${__data.fields.Server}",
    }
]


def _graph(title: str, width: int, unit: str, *shown: Query, bars: bool = False, description: str = "") -> Panel:
    settings = {"unit": unit, "min": 0, **(_BARS if bars else _LINES)}
    return Panel(title, "timeseries", width, 8, shown, description, settings=settings, options=_LEGEND)


def _stat(title: str, query: Query, **settings: Any) -> Panel:
    defaults = {"unit": "none", "thresholds": thresholds((None, _BLUE)), **settings}
    return Panel(title, "stat", 4, 4, [query], settings=defaults, options=_LATEST)


ATTENTION = Panel(
    "Needs attention",
    "table",
    14,
    9,
    [queries.ATTENTION, queries.ATTENTION_WAITING],
    "What is wrong with the selected servers, the worst first. `kubectl dittofs status NAME` has cause and remedy.",
    settings={"noValue": "Nothing. Every selected server is as its spec asks."},
    overrides=[
        column("Severity", mappings=map_values(RANKS), custom__cellOptions=_COLORED, custom__width=220),
        column("Waiting", unit="s"),
        column("Server", links=_SELECT),
    ],
    options={"sortBy": [{"displayName": "Severity", "desc": True}]},
    transformations=join_columns(
        {
            "Value #A": "Severity",
            "namespace": "Namespace",
            "server": "Server",
            "reason": "Reason",
            "Value #B": "Waiting",
        },
        hidden=["problem"],
    ),
)

ALERTS = Panel(
    "Alerts",
    "table",
    10,
    9,
    [queries.ALERTS],
    "Alerts that are firing, or pending until they have lasted long enough; prometheusRule.enabled installs them.",
    settings={"noValue": "No alert is firing or pending."},
    options={"sortBy": [{"displayName": "State", "desc": False}]},
    transformations=join_columns(
        {
            "alertstate": "State",
            "alertname": "Alert",
            "severity": "Severity",
            "namespace": "Namespace",
            "server": "Server",
        },
        hidden=["Value"],
    ),
)

SERVERS = Panel(
    "Servers",
    "table",
    24,
    10,
    [
        queries.INFO,
        queries.STATE,
        queries.WAITING,
        queries.CAPACITY,
        queries.FULLEST,
        queries.RESTARTS,
        queries.CONTAINER_RESTARTS,
        queries.CREDENTIALS_CHANGED,
    ],
    "A line for each server. Usage is that of its fullest volume, as the kubelet reports it.",
    overrides=[
        column("State", mappings=map_values(STATES), custom__cellOptions=_COLORED),
        column("Waiting", unit="s"),
        column("Capacity", unit="bytes"),
        column("Usage", custom__cellOptions=_BAR, **_USED),
        column("Restarts", decimals=0),
        column("Credentials changed", unit=_AGO),
        column("Server", links=_SELECT),
    ],
    options={"sortBy": [{"displayName": "Waiting", "desc": True}]},
    transformations=join_columns(
        {
            "namespace": "Namespace",
            "server": "Server",
            "Value #B": "State",
            "reason": "Reason",
            "Value #C": "Waiting",
            "version": "Version",
            "Value #D": "Capacity",
            "Value #E": "Usage",
            "Value #F": "Restarts",
            "Value #G": "Restarts of the container",
            "Value #H": "Credentials changed",
        },
        hidden=["Value #A", "phase"],
    ),
)

VOLUMES = Panel(
    "Volumes",
    "table",
    24,
    8,
    [
        queries.VOLUME_PHASE,
        queries.VOLUME_REQUESTED,
        queries.VOLUME_CAPACITY,
        queries.VOLUME_USED,
        queries.VOLUME_USAGE,
    ],
    "Used and Usage need the metrics of the kubelets in the same Prometheus.",
    overrides=[
        column("Requested", unit="bytes"),
        column("Capacity", unit="bytes"),
        column("Used", unit="bytes"),
        column("Usage", custom__cellOptions=_BAR, **_USED),
    ],
    options={"sortBy": [{"displayName": "Usage", "desc": True}]},
    transformations=join_columns(
        {
            "namespace": "Namespace",
            "server": "Server",
            "volume": "Volume",
            "phase": "Phase",
            "Value #B": "Requested",
            "Value #C": "Capacity",
            "Value #D": "Used",
            "Value #E": "Usage",
        },
        hidden=["Value #A", "persistentvolumeclaim"],
    ),
)

EVENTS = Panel(
    "Recent Events",
    "text",
    6,
    8,
    (),
    text=(
        "Events are not metrics, so Prometheus has none. These commands list them, the newest first:\n\n"
        "```\nkubectl dittofs status NAME\nkubectl dittofs events NAME\n```\n\n"
        "The marks in the graphs are the restarts that the operator caused, and why."
    ),
)

ROWS = (
    PanelRow(
        "",
        [
            _stat("Servers", queries.SERVERS),
            _stat("Not ready", queries.NOT_READY, thresholds=_ZERO_IS_GOOD),
            _stat("Blocked", queries.BLOCKED, thresholds=_ZERO_IS_GOOD),
            _stat("Longest wait", queries.LONGEST_WAIT, unit="s", thresholds=_WAIT),
            _stat("Fullest volume", queries.FULLEST_VOLUME, **_USED),
            _stat("Restarts", queries.ALL_RESTARTS, decimals=0),
            ATTENTION,
            ALERTS,
            SERVERS,
        ],
    ),
    PanelRow(
        "Selected servers",
        [
            Panel(
                "State",
                "state-timeline",
                12,
                8,
                [queries.STATE_OVER_TIME],
                settings={"mappings": map_values(STATES), "custom": {"fillOpacity": 80}},
                options={"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": {"showLegend": False}},
            ),
            _graph("Usage of volumes", 12, "percentunit", queries.USAGE_OVER_TIME),
            _graph("Restarts by cause", 9, "none", queries.RESTARTS_BY_CAUSE, bars=True),
            _graph("Seconds that servers wait", 9, "s", queries.WAITING_OVER_TIME),
            EVENTS,
            VOLUMES,
        ],
    ),
    PanelRow(
        "Admission",
        [
            _graph("Reviews by operation and verdict", 8, "reqps", queries.REVIEWS),
            _graph("How long a review takes", 8, "s", queries.REVIEW_MEDIAN, queries.REVIEW_SLOWEST),
            Panel(
                "Findings by rule",
                "table",
                8,
                8,
                [queries.FINDINGS],
                settings={"noValue": "No object had a finding."},
                overrides=[column("Objects", decimals=0)],
                options={"sortBy": [{"displayName": "Objects", "desc": True}]},
                transformations=join_columns({"rule": "Rule", "outcome": "Outcome", "Value": "Objects"}),
            ),
            _graph("Lookups by kind and result", 8, "reqps", queries.LOOKUPS),
            _graph("How long a lookup takes (p99)", 8, "s", queries.LOOKUP_SLOWEST),
            _graph("Failed reviews", 8, "reqps", queries.REVIEW_ERRORS, queries.HTTP_ERRORS),
        ],
    ),
    PanelRow(
        "Operator",
        [
            _stat("Leaders", queries.LEADERS, thresholds=thresholds((None, _RED), (1, _GREEN), (2, _RED))),
            _stat("Replicas", queries.REPLICAS),
            _stat("Certificate expires", queries.SERVING_EXPIRY, unit=_AGO),
            _stat("CA expires", queries.CA_EXPIRY, unit=_AGO),
            Panel(
                "Version",
                "table",
                8,
                4,
                [queries.BUILD],
                transformations=join_columns(
                    {"pod": "Pod", "version": "Version", "python": "Python"}, hidden=["Value"]
                ),
            ),
            _graph("Reconciles by result", 8, "ops", queries.RECONCILES, queries.RECONCILE_ERRORS),
            _graph("How long a reconcile takes", 8, "s", queries.RECONCILE_MEDIAN, queries.RECONCILE_SLOWEST),
            _graph("Queue", 8, "none", queries.QUEUE, queries.WORKERS),
            _graph("Longest reconcile under way", 8, "s", queries.LONGEST_RUNNING, queries.UNFINISHED),
            _graph("Requests to the API server", 8, "reqps", queries.API_REQUESTS),
            _graph("Memory", 8, "bytes", queries.MEMORY),
        ],
    ),
)
