"""Lays out what is known about a server on one screen, or in one line. No text of others controls the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from unicodedata import east_asian_width

import click

from app.cli.output import COLUMN_GAP, format_table
from app.cli.server_report import ServerReport
from app.storage import quantity
from app.storage.finding import one_line
from app.storage.next_step import NEARLY_FULL_PERCENT, State, meaning
from app.storage.spec import KIND
from app.storage.status_schema import Condition, ShareStatus
from app.storage.usage import Usage
from app.storage.volume_states import Phase, VolumeState

SCREEN_COLUMNS, SCREEN_LINES = 100, 40
NARROWEST_COLUMNS, NARROWEST_STEP_COLUMNS = 60, 30
BAR_COLUMNS = 20
LABEL_COLUMNS = 18

STATE_WORDS = {
    State.DOWN: "is down",
    State.UNOBSERVED: "is not looked after",
    State.BLOCKED: "serves, and waits for you",
    State.DEGRADED: "serves, and something is wrong",
    State.PAUSED: "serves, and is paused",
    State.WORKING: "is being worked on",
    State.NOTICE: "serves, with a notice",
    State.READY: "is ready",
    State.STOPPED: "is stopped",
}
STATE_COLOURS = {
    State.DOWN: "red",
    State.UNOBSERVED: "red",
    State.BLOCKED: "yellow",
    State.DEGRADED: "yellow",
    State.PAUSED: "yellow",
    State.WORKING: "cyan",
    State.NOTICE: "green",
    State.READY: "green",
}
PHASE_COLOURS: dict[str, str] = {Phase.BOUND: "green", Phase.LOST: "red", Phase.RESIZE_REFUSED: "red"}
HEADINGS = ("namespace", "server", "state", "reason", "for", "version", "fullest", "next step")
WIDE_HEADINGS = (*HEADINGS, "command", "node", "restarts", "nfs endpoint", "image")
# Of both, the status that is not as it should be.
_ABNORMAL_WHEN_TRUE = ("Reconciling", "Stalled")
_NOTHING = {"Reconciling": "nothing is being changed", "Stalled": "nothing blocks the operator"}
STATUS_WORDS = {"True": "yes", "False": "no", "Unknown": "unknown"}


@dataclass(frozen=True)
class Limits:
    """The most lines that each part of the screen may take."""

    message: int
    step: int
    value: int
    notes: int
    conditions: int
    volumes: int
    shares: int
    events: int
    event: int
    warning: int


# From generous to what always fits on a screen.
LIMITS = (
    *(Limits(5, 3, 2, 2, 8, 4, 6, events, event=1, warning=2) for events in (10, 6, 4, 3)),
    Limits(4, 2, 2, 1, 8, 4, 3, events=2, event=1, warning=2),
    Limits(4, 2, 1, 1, 8, 4, 2, events=2, event=1, warning=1),
    Limits(2, 2, 1, 0, 7, 4, 1, events=1, event=1, warning=1),
)
WIDE = Limits(*[1000] * 10)


def format_screen(report: ServerReport, columns: int = SCREEN_COLUMNS, *, wide: bool = False) -> list[str]:
    """Returns at most 40 lines, or when `wide`, everything."""
    if wide:
        return list(_lines(report, columns, WIDE))

    screens = (list(_lines(report, columns, limits)) for limits in LIMITS)
    return next(screen for screen in screens if len(screen) <= SCREEN_LINES)


def format_overview(reports: Iterable[ServerReport], *, wide: bool = False) -> Iterator[str]:
    """Yields a table with a line for each server."""
    rows = []
    for report in reports:
        concern, pod = report.concern, report.pod
        full = "-" if report.fullest is None else f"{report.fullest}%"
        since, version = age(concern.since, report.now), report.observed.version or "-"
        row = [*report.key, concern.state, concern.reason, since, version, full, concern.step.text]
        if wide:
            row.append(concern.step.command or "-")
            row += [pod.node or "-", str(pod.restarts)] if pod else ["-", "-"]
            row += [report.status.nfs_endpoint or "-", report.server.spec.image]
        rows.append(row)

    if not rows:
        yield f"no {KIND}s found"
        return
    if not wide:
        others = sum(max(map(width, column)) + COLUMN_GAP for column in zip(HEADINGS, *rows, strict=True))
        others -= max(width(row[-1]) for row in rows) + COLUMN_GAP
        for row in rows:
            row[-1] = fit(row[-1], max(SCREEN_COLUMNS - others, NARROWEST_STEP_COLUMNS))

    colours = {"state": {str(state): colour for state, colour in STATE_COLOURS.items()}}
    yield from format_table(WIDE_HEADINGS if wide else HEADINGS, rows, colours)


def age(since: str | None, now: datetime) -> str:
    """Returns how long ago it was as kubectl does, such as 5m; `-` when nobody knows."""
    try:
        seconds = max(0, int((now - datetime.fromisoformat(since or "")).total_seconds()))
    except (ValueError, TypeError):
        return "-"

    if seconds < 120:
        return f"{seconds}s"
    if seconds < 2 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def width(text: str) -> int:
    """Returns the columns of a terminal that the text takes."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int) -> str:
    """Returns the text as one line without control characters, shortened to the columns."""
    line = " ".join(one_line(text).split())
    if width(line) <= columns:
        return line
    while width(line) > columns - 1:
        line = line[: -max(1, (width(line) - columns) // 2)]
    return f"{line.rstrip()}…"


def cell(text: str, columns: int) -> str:
    """Returns the text in exactly so many columns."""
    line = fit(text, columns)
    return line + " " * (columns - width(line))


def wrap(text: str, columns: int, most: int) -> list[str]:
    """Breaks the text into lines, at most so many; the last one says that there is more."""
    lines, rest = [""], one_line(text).split()

    while rest:
        word = rest.pop(0)
        line = f"{lines[-1]} {word}".lstrip()
        if width(line) <= columns:
            lines[-1] = line
        elif width(word) > columns:
            # Such as a digest; it is continued in the next line.
            room = max(1, columns // 2)
            rest = [word[:room], word[room:], *rest]
        elif len(lines) == most:
            return [*lines[:-1], fit(f"{lines[-1]} {word} {' '.join(rest)}", columns)]
        else:
            lines.append(word)

    return [line for line in lines if line]


def is_normal(condition: Condition) -> bool:
    """Tells whether the condition has the status that it has while nothing is wrong."""
    return condition.status == ("False" if condition.type in _ABNORMAL_WHEN_TRUE else "True")


def explain_condition(report: ServerReport, condition: Condition) -> str:
    """Returns what a person should know about a condition, without what stands above all conditions already."""
    if condition.message and condition.message == report.concern.message:
        return f"{condition.reason}, see above"

    text = condition.message or _NOTHING.get(condition.type) or meaning(condition.reason)
    return text if is_normal(condition) else f"{condition.reason}: {text}"


def server_facts(report: ServerReport) -> dict[str, list[str]]:
    """Returns the things that a server has one of, or a few, by their names; no value of a Secret is among them."""
    observed, pod = report.observed, report.pod
    version = f"DittoFS {observed.version}" if observed.version else "unknown"
    if observed.family:
        version += f" ({observed.family})"
    if observed.started_at:
        version += f", started {age(observed.started_at, report.now)} ago"

    image = report.server.spec.image
    if pod and pod.image and pod.image != image:
        image += f"; the pod has {pod.image}"
    if pod and pod.image_id:
        image += f" ({pod.image_id.rpartition('@')[2]})"

    secrets = [
        f"{reference.title}: {reference.secret or 'not named'}{' (generated)' if is_generated else ''}"
        for reference, is_generated in report.secrets
    ]
    facts = {
        **_endpoints(report),
        "Version": [version],
        "Image": [image],
        "Pod": [_describe_pod(report)],
        "Secrets": secrets,
        "Next rollout": [report.status.pending_rollout or ""],
    }
    return {name: texts for name, texts in facts.items() if any(texts)}


def describe_size(state: VolumeState) -> str:
    """Returns the size of a volume, and the one that the spec asks for where it is another one."""
    requested, capacity = state.volume.size or "-", state.capacity
    if capacity is None:
        return f"{requested} requested"
    return capacity if capacity == requested else f"{capacity}, {requested} requested"


def sorted_shares(report: ServerReport) -> list[ShareStatus]:
    """Returns the shares by name, of which those come first that are not ready."""
    return sorted(report.status.shares or (), key=lambda share: (share.phase == "Ready", share.name))


def _lines(report: ServerReport, columns: int, limits: Limits) -> Iterator[str]:
    yield from _headline(report, columns, limits)

    sections = {
        "Conditions": _conditions(report, columns, limits),
        "": _facts(report, columns, limits),
        "Volumes": _volumes(report, columns, limits),
        "Shares": _shares(report, columns, limits),
        "Events, newest first": _events(report, columns, limits),
    }
    for title, lines in sections.items():
        if lines:
            yield ""
            yield from [click.style(title, bold=True)] if title else []
            yield from lines


def _headline(report: ServerReport, columns: int, limits: Limits) -> Iterator[str]:
    """Yields what matters most about the server, and the next step."""
    concern = report.concern
    since = age(concern.since, report.now)
    why = "" if concern.state in (State.READY, State.STOPPED) else f": {concern.reason}"
    title = f"{KIND} {report.title} {STATE_WORDS[concern.state]}{why}{'' if since == '-' else f', for {since}'}"
    yield click.style(fit(title, columns), fg=STATE_COLOURS.get(concern.state), bold=True)

    yield ""
    for line in wrap(concern.message, columns - 2, limits.message):
        yield f"  {line}"
    yield ""
    [first, *others] = wrap(f"Next step: {concern.step.text}", columns, limits.step)
    yield click.style(first, bold=True)
    yield from (click.style(line, bold=True) for line in others)
    if concern.step.command:
        yield from command_lines(concern.step.command, columns)


def command_lines(command: str, columns: int) -> list[str]:
    """Breaks a command into lines that can be copied into a shell together."""
    *others, last = wrap(command, columns - 6, 3)
    return [*(f"    {line} \\" for line in others), f"    {last}"]


def _conditions(report: ServerReport, columns: int, limits: Limits) -> list[str]:
    lines = []
    for condition in report.status.conditions or ():
        word = STATUS_WORDS[condition.status]
        since = age(condition.last_transition_time, report.now)
        text = explain_condition(report, condition)

        colour = "green" if is_normal(condition) else "yellow" if condition.status == "Unknown" else "red"
        label = f"  {cell(condition.type, LABEL_COLUMNS)}"
        rest = f"{since:>5}  {fit(text, columns - LABEL_COLUMNS - 18)}"
        lines.append(f"{label} {click.style(f'{word:7}', fg=colour)} {rest}".rstrip())
    return _cut(lines, limits.conditions)


def _facts(report: ServerReport, columns: int, limits: Limits) -> list[str]:
    """Returns a line or two about each thing that there is one of."""
    lines = []
    for label, texts in server_facts(report).items():
        for index, line in enumerate(wrap("; ".join(texts), columns - LABEL_COLUMNS - 3, limits.value)):
            lines.append(f"  {'' if index else label:{LABEL_COLUMNS}} {line}")
    return lines


def _endpoints(report: ServerReport) -> dict[str, list[str]]:
    """Returns where clients reach NFS, SMB and the API; an operator of an earlier version reported NFS alone."""
    endpoints = {endpoint.protocol: endpoint for endpoint in report.status.endpoints or ()}
    facts = {} if "nfs" in endpoints else {"NFS": [report.status.nfs_endpoint or "no endpoint yet"]}

    for protocol in ("nfs", "smb", "api"):
        if endpoint := endpoints.get(protocol):
            inside = f", {endpoint.cluster_ip} inside" if endpoint.cluster_ip else ""
            outside = f", {endpoint.external_address} outside" if endpoint.external_address else ""
            node_port = f", port {endpoint.node_port} of each node" if endpoint.node_port else ""
            facts[protocol.upper()] = [f"{endpoint.host}:{endpoint.port}{inside}{outside}{node_port}"]
    return facts


def _describe_pod(report: ServerReport) -> str:
    pod = report.pod
    if pod is None:
        return "none" if report.is_pod_known else "unknown"

    where = f"on node {pod.node}" if pod.node else "on no node"
    how = "ready" if pod.ready else "not ready"
    since = f", runs for {age(pod.started_at, report.now)}" if pod.started_at else ""
    return f"{pod.name} {where}: {pod.phase}, {how}, {pod.restarts} restarts{since}"


def _volumes(report: ServerReport, columns: int, limits: Limits) -> list[str]:
    lines, notes = [], limits.notes
    for state, usage in report.volumes[: limits.volumes]:
        size = f"{describe_size(state)}, class {state.storage_class or '-'}"
        bar, phase = _bar(usage), fit(state.phase, 24)
        room = columns - LABEL_COLUMNS - width(click.unstyle(bar)) - width(phase) - 8
        line = f"  {cell(state.volume.name, LABEL_COLUMNS)} {bar}"
        coloured = click.style(phase, fg=PHASE_COLOURS.get(state.phase, "yellow"))
        lines.append(f"{line}  {coloured}, {fit(size, room)}")

        message = state.explain()
        if message and notes and message != report.concern.message:
            notes -= 1
            lines.append(f"  {'':{LABEL_COLUMNS}} {fit(message, columns - LABEL_COLUMNS - 3)}")
    return lines


def _bar(usage: Usage | None) -> str:
    if usage is None:
        return f"{'usage unknown':{BAR_COLUMNS + 2}}"

    percent = min(usage.percent, 100)
    filled = percent * BAR_COLUMNS // 100
    colour = "red" if percent >= NEARLY_FULL_PERCENT else "green"
    bar = f"[{click.style('#' * filled, fg=colour)}{'-' * (BAR_COLUMNS - filled)}]"
    return f"{bar} {usage.percent}% of {quantity.format_bytes(usage.size)}"


def _shares(report: ServerReport, columns: int, limits: Limits) -> list[str]:
    lines = []
    for share in sorted_shares(report):
        message = f": {share.message}" if share.message else ""
        colour = {"Ready": "green", "Failed": "red"}.get(share.phase)
        text = fit(f"{share.path}{message}", columns - LABEL_COLUMNS - 13)
        lines.append(f"  {cell(share.name, LABEL_COLUMNS)} {click.style(f'{share.phase:9}', fg=colour)} {text}")
    return _cut(lines, limits.shares)


def _events(report: ServerReport, columns: int, limits: Limits) -> list[str]:
    lines = []
    for event in report.events[: limits.events]:
        times = fit(f"x{event.count}", 5) if event.count > 1 else ""
        is_warning = event.type == "Warning"
        kind = click.style(cell(event.type, 7), fg="yellow" if is_warning else None)
        text = f"{event.reason}, {event.kind} {event.name}: {event.message}"

        [first, *more] = wrap(text, columns - 21, limits.warning if is_warning else limits.event) or [""]
        lines += [
            f"  {fit(age(event.at, report.now), 4):>4} {times:>5} {kind} {first}",
            *(f"{'':21}{line}" for line in more),
        ]
    return lines


def _cut(lines: Sequence[str], most: int) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"  and {len(lines) - most + 1} more, see -o wide"] if most > 1 else list(lines[:1])
