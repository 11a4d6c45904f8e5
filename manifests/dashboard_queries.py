"""Lists the queries of the dashboard. Those about servers count each server once, whatever replica reported it."""

from dataclasses import dataclass

from app.storage.next_step import NEARLY_FULL_PERCENT


@dataclass(frozen=True)
class Query:
    """A query; `legend` is what a series is called. A table shows the labels of a query at one moment instead."""

    expr: str
    legend: str = ""
    is_table: bool = False
    is_instant: bool = False


@dataclass(frozen=True)
class DashboardProblem:
    """Something that makes a server need attention; `expr` has a series for each server that has it."""

    text: str
    color: str
    expr: str


OPERATOR = 'job="$job"'
SELECTED = f'{OPERATOR}, namespace=~"$namespace", server=~"$server"'

# The restarts that a container may have had before somebody should look at its log.
MANY_RESTARTS = 5

VARIABLES = {
    "job": "label_values(dittofs_operator_build_info, job)",
    "namespace": f"label_values(dittofs_operator_server_info{{{OPERATOR}}}, namespace)",
    "server": f'label_values(dittofs_operator_server_info{{{OPERATOR}, namespace=~"$namespace"}}, server)',
}


def _by_server(metric: str, matchers: str = "", more: str = "") -> str:
    """Returns one series of the metric for each server; `more` are labels that it keeps."""
    selected = ", ".join(filter(None, (SELECTED, matchers)))
    labels = ", ".join(filter(None, ("namespace, server", more)))
    return f"max by ({labels}) (dittofs_operator_server_{metric}{{{selected}}})"


def _condition(kind: str, status: str) -> str:
    return _by_server("condition", f'type="{kind}", status="{status}"')


def _phase(*phases: str) -> str:
    return _by_server("volume_phase", f'phase=~"{"|".join(phases)}"') + " == 1"


def _table(expr: str) -> Query:
    return Query(expr, is_table=True)


def _now(expr: str) -> Query:
    return Query(expr, is_instant=True)


# Volumes: the operator knows to which server a claim belongs, and the kubelet how full it is.

_CLAIM = "namespace, persistentvolumeclaim"
_VOLUMES = _by_server("volume_capacity_bytes", more="volume, persistentvolumeclaim")


def _of_kubelet(metric: str) -> str:
    """Returns the metric with the labels of the server's volume."""
    values = f"max by ({_CLAIM}) (kubelet_volume_stats_{metric})"
    return f"({_VOLUMES} * 0 + on ({_CLAIM}) group_left () {values})"


_USAGE = f"{_of_kubelet('used_bytes')} / {_of_kubelet('capacity_bytes')}"
_FULLEST = f"max by (namespace, server) ({_USAGE})"

# What needs attention, the worst first.

PROBLEMS = (
    DashboardProblem("Not ready", "red", f"{_condition('Ready', 'True')} == 0"),
    DashboardProblem("Blocked", "red", f"{_condition('Stalled', 'True')} == 1"),
    DashboardProblem("Expansion rejected", "orange", _phase("ResizeRefused")),
    DashboardProblem("Credentials missing or rejected", "orange", f"{_condition('CredentialsReady', 'False')} == 1"),
    DashboardProblem("Volume nearly full", "orange", f"{_FULLEST} >= {NEARLY_FULL_PERCENT / 100}"),
    DashboardProblem("Container restarts", "yellow", f"{_by_server('container_restarts')} >= {MANY_RESTARTS}"),
    DashboardProblem("Expansion under way", "blue", _phase("Resizing", "FileSystemResizePending")),
)


def _rank(problem: DashboardProblem, rank: int) -> str:
    return f'label_replace(({problem.expr}) * 0 + {rank}, "problem", "{problem.text}", "", "")'


_REASON = f"topk by (namespace, server) (1, dittofs_operator_server_info{{{SELECTED}}})"
_RANKED = " or ".join(_rank(problem, rank) for rank, problem in enumerate(reversed(PROBLEMS), start=1))
_ATTENTION = f"({_RANKED}) * on (namespace, server) group_left (reason) {_REASON}"
_WAITING = _by_server("waiting_seconds")

ATTENTION = _table(_ATTENTION)
ATTENTION_WAITING = _table(f"({_ATTENTION}) * 0 + on (namespace, server) group_left () {_WAITING}")

# An alert about the operator has no label `server`.
ALERTS = _table('max by (alertname, alertstate, severity, namespace, server) (ALERTS{alertname=~"Dittofs.*"})')

# One line for each server. 0 is not ready, 1 is ready, and 2 more that it is blocked.

_STATE = f"{_condition('Ready', 'True')} + 2 * {_condition('Stalled', 'True')}"
_RESTARTS = f"increase(dittofs_operator_server_restarts_total{{{SELECTED}}}[%s])"

INFO = _table(_by_server("info", more="version, phase, reason"))
STATE = _table(_STATE)
WAITING = _table(_WAITING)
CAPACITY = _table(f"sum by (namespace, server) ({_VOLUMES})")
FULLEST = _table(_FULLEST)
RESTARTS = _table(f"sum by (namespace, server) ({_RESTARTS % '$__range'})")
CONTAINER_RESTARTS = _table(_by_server("container_restarts"))
# In milliseconds, as Grafana has times.
CREDENTIALS_CHANGED = _table(f"{_by_server('credentials_changed_timestamp_seconds')} * 1000")

# Counts of the selected servers; a count of nothing is 0.

SERVERS = _now(f"count({_condition('Ready', 'True')}) or vector(0)")
NOT_READY = _now(f"count({_condition('Ready', 'True')} == 0) or vector(0)")
BLOCKED = _now(f"count({_condition('Stalled', 'True')} == 1) or vector(0)")
LONGEST_WAIT = _now(f"max({_WAITING})")
FULLEST_VOLUME = _now(f"max({_FULLEST})")
ALL_RESTARTS = _now(f"sum({_RESTARTS % '$__range'})")

# The selected servers over time. A graph cannot show more lines than these, and the others matter less.

MOST_LINES = 20
_SERVER = "{{namespace}}/{{server}}"
STATE_OVER_TIME = Query(_STATE, _SERVER)
USAGE_OVER_TIME = Query(f"topk({MOST_LINES}, {_USAGE})", f"{_SERVER} {{{{volume}}}}")
_RESTARTS_BY_CAUSE = f"sum by (namespace, server, cause) ({_RESTARTS})"
RESTARTS_BY_CAUSE = Query(_RESTARTS_BY_CAUSE % "$__rate_interval", f"{_SERVER} {{{{cause}}}}")
WAITING_OVER_TIME = Query(f"topk({MOST_LINES}, {_WAITING})", _SERVER)

VOLUME_PHASE = _table(f"{_by_server('volume_phase', more='volume, phase')} == 1")
VOLUME_REQUESTED = _table(_by_server("volume_requested_bytes", more="volume, persistentvolumeclaim"))
VOLUME_CAPACITY = _table(_VOLUMES)
VOLUME_USED = _table(_of_kubelet("used_bytes"))
VOLUME_USAGE = _table(_USAGE)

ANNOTATIONS = (Query(f"{_RESTARTS_BY_CAUSE % '1m'} > 0", "Restarts"),)

# Admission.


def _rate(metric: str, by: str, matchers: str = "") -> str:
    selected = ", ".join(filter(None, (OPERATOR, matchers)))
    return f"sum by ({by}) (rate({metric}{{{selected}}}[$__rate_interval]))"


def _percentile(hundredth: float, metric: str, by: str = "") -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({hundredth}, {_rate(f'{metric}_bucket', labels)})"


def _review_percentile(hundredth: float) -> str:
    """Returns it for each webhook, by the first word of its path."""
    percentile = _percentile(hundredth, "controller_runtime_webhook_latency_seconds", "webhook")
    return f'label_replace({percentile}, "review", "$1", "webhook", "/([a-z]+)-.*")'


_LOOKUP_SECONDS = "dittofs_operator_lookup_duration_seconds"
REVIEWS = Query(_rate("dittofs_operator_admission_reviews_total", "operation, verdict"), "{{operation}} {{verdict}}")
REVIEW_MEDIAN = Query(_review_percentile(0.5), "{{review}} p50")
REVIEW_SLOWEST = Query(_review_percentile(0.99), "{{review}} p99")
REVIEW_ERRORS = Query(_rate("dittofs_operator_admission_reviews_total", "verdict", 'verdict="error"'), "{{verdict}}")
HTTP_ERRORS = Query(_rate("controller_runtime_webhook_requests_total", "code", 'code!="200"'), "HTTP {{code}}")
FINDINGS = _table(
    f"sum by (rule, outcome) (increase(dittofs_operator_admission_findings_total{{{OPERATOR}}}[$__range])) > 0"
)
LOOKUPS = Query(_rate("dittofs_operator_lookups_total", "kind, result"), "{{kind}} {{result}}")
LOOKUP_SLOWEST = Query(_percentile(0.99, _LOOKUP_SECONDS, "kind"), "{{kind}}")

# The operator.

_RECONCILE_SECONDS = "controller_runtime_reconcile_time_seconds"
_EXPIRY = 'min(dittofs_operator_certificate_expiry_timestamp_seconds{%s, certificate="%s"}) * 1000'
LEADERS = _now(f"sum(leader_election_master_status{{{OPERATOR}}}) or vector(0)")
REPLICAS = _now(f"sum(up{{{OPERATOR}}}) or vector(0)")
SERVING_EXPIRY = _now(_EXPIRY % (OPERATOR, "serving"))
CA_EXPIRY = _now(_EXPIRY % (OPERATOR, "ca"))
BUILD = _table(f"max by (pod, version, python) (dittofs_operator_build_info{{{OPERATOR}}})")
RECONCILES = Query(_rate("controller_runtime_reconcile_total", "result"), "{{result}}")
RECONCILE_ERRORS = Query(
    f"sum(rate(controller_runtime_reconcile_errors_total{{{OPERATOR}}}[$__rate_interval]))", "errors"
)
RECONCILE_MEDIAN = Query(_percentile(0.5, _RECONCILE_SECONDS), "p50")
RECONCILE_SLOWEST = Query(_percentile(0.99, _RECONCILE_SECONDS), "p99")
QUEUE = Query(f"max(workqueue_depth{{{OPERATOR}}})", "waiting for a worker")
WORKERS = Query(f"sum(controller_runtime_active_workers{{{OPERATOR}}})", "workers at work")
LONGEST_RUNNING = Query(f"max(workqueue_longest_running_processor_seconds{{{OPERATOR}}})", "longest")
UNFINISHED = Query(f"max(workqueue_unfinished_work_seconds{{{OPERATOR}}})", "all together")
API_REQUESTS = Query(_rate("rest_client_requests_total", "method, code"), "{{method}} {{code}}")
MEMORY = Query(f"process_resident_memory_bytes{{{OPERATOR}}}", "{{pod}}")
