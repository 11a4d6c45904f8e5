"""Lays out what is known about servers as a web page in one file, which loads nothing and runs nothing."""

import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from urllib.parse import quote

from app.cli.markup import Element, Node, element
from app.cli.screen import (
    PHASE_COLOURS,
    STATE_COLOURS,
    STATE_WORDS,
    STATUS_WORDS,
    age,
    describe_size,
    explain_condition,
    is_normal,
    server_facts,
    sorted_shares,
)
from app.cli.server_report import ServerReport, mask_events
from app.settings import release
from app.storage import quantity
from app.storage.next_step import NEARLY_FULL_PERCENT, State
from app.storage.secret_mask import SecretMask
from app.storage.spec import KIND
from app.storage.unstructured import ObjectKey
from app.storage.usage import Usage

# Those before them are in `kubectl dittofs events`.
MAX_EVENTS = 20

_OVERVIEW = "overview"
_MASK = SecretMask()
# The classes of the style sheet by the colours of the terminal.
_TONES = {"red": "bad", "yellow": "warn", "cyan": "busy", "green": "good"}


@dataclass(frozen=True)
class StatusPage:
    """The reports on a page in their order, and what could not be read.

    `source` says in which cluster or file the servers were, and `scope` which of them were asked for.
    """

    reports: Sequence[ServerReport]
    gaps: Sequence[str]
    source: str
    scope: str
    now: datetime


def format_page(page: StatusPage) -> str:
    """Returns the whole file, in ASCII."""
    style = files("app.cli").joinpath("page.css").read_text(encoding="ascii")
    title = f"{KIND}s: {page.scope}, {page.source}, {_format_time(page.now)}"

    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_security_policy(style)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("title", title),
        element("style", style),
    )
    body = element("body", _header(page), _main(page), _footer(page))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en').render()}\n"


def _security_policy(style: str) -> str:
    """Allows this style sheet and nothing else, not even to a text that had become markup."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _header(page: StatusPage) -> Element:
    return element(
        "header",
        element("h1", f"{KIND}s"),
        element(
            "p",
            element("span", page.source),
            element("span", page.scope),
            element("span", "As of ", _time(page.now, _format_time(page.now))),
            class_="about",
        ),
    )


def _footer(page: StatusPage) -> Element:
    text = f"Written by kubectl dittofs status {release()}. Ages are as of {_format_time(page.now)}."
    return element("footer", element("p", f"{text} Secrets are named, and their values were not read."))


def _main(page: StatusPage) -> Element:
    reports = [mask_events(report, _MASK) for report in page.reports]
    # A table of one would repeat what is below it.
    has_overview = len(reports) > 1

    return element(
        "main",
        _overview(reports) if has_overview else None,
        _gaps(page.gaps) if page.gaps else None,
        *(_server(report, has_overview=has_overview) for report in reports),
        None if reports else element("p", f"No {KIND}s found.", class_="card"),
    )


def _gaps(gaps: Sequence[str]) -> Element:
    items = (element("li", _MASK.text(gap)) for gap in gaps)
    return element("section", element("h2", "What could not be read"), element("ul", *items), class_="card gaps")


def _overview(reports: Sequence[ServerReport]) -> Element:
    states = Counter(report.concern.state for report in reports)
    counts = [element("li", _badge(state), f" {states[state]}") for state in State if states[state]]
    headings = ("Server", "State", "Reason", "For", "Version", "Fullest volume", "Next step")
    rows: list[list[Node]] = []

    for report in reports:
        concern = report.concern
        link = element("a", report.title, href=f"#{_anchor(report.key)}")
        full = "-" if report.fullest is None else f"{report.fullest}%"
        version = report.observed.version or "-"
        since = _since(concern.since, report.now)
        rows.append([link, _badge(concern.state), concern.reason, since, version, full, concern.step.text])

    return element(
        "section",
        element("h2", "Overview"),
        # Lists without bullets are read as lists only with this role in some browsers.
        element("ul", *counts, class_="counts", role="list"),
        _table("overview", "Overview of the servers, the worst first", headings, rows),
        class_="card",
        id=_OVERVIEW,
    )


def _server(report: ServerReport, *, has_overview: bool) -> Element:
    concern, anchor = report.concern, _anchor(report.key)
    since = age(concern.since, report.now)
    why = "" if concern.state in (State.READY, State.STOPPED) else f": {concern.reason}"
    how = f"{KIND} {report.key[1]} {STATE_WORDS[concern.state]}{why}"
    back = element("a", "Overview", href=f"#{_OVERVIEW}", class_="back")

    parts = {
        "Conditions": _conditions(report),
        "Details": _facts(report),
        "Volumes": _volumes(report),
        "Shares": _shares(report),
        "Events, newest first": _events(report),
    }
    sections = (
        element("section", element("h3", title), *content) for title, nodes in parts.items() if (content := list(nodes))
    )
    return element(
        "article",
        element(
            "div", element("h2", report.title), _badge(concern.state), back if has_overview else None, class_="top"
        ),
        element("p", how, *([", for ", _since(concern.since, report.now)] if since != "-" else []), class_="how"),
        element("p", _MASK.text(concern.message)) if concern.message else None,
        element(
            "div",
            element("p", element("strong", "Next step: "), concern.step.text),
            element("pre", element("code", concern.step.command)) if concern.step.command else None,
            class_="step",
        ),
        *sections,
        class_="card",
        id=anchor,
    )


def _conditions(report: ServerReport) -> Iterator[Node]:
    rows: list[list[Node]] = []
    for condition in report.status.conditions or ():
        tone = "good" if is_normal(condition) else "warn" if condition.status == "Unknown" else "bad"
        word = element("span", STATUS_WORDS[condition.status], class_=f"word {tone}")
        since = _since(condition.last_transition_time, report.now)
        rows.append([condition.type, word, since, _MASK.text(explain_condition(report, condition))])

    if rows:
        yield _table("conditions", f"Conditions of {report.title}", ("Condition", "Status", "For", "Details"), rows)


def _facts(report: ServerReport) -> Iterator[Node]:
    facts = server_facts(report)
    entries = (
        element("div", element("dt", name), *(element("dd", _MASK.text(text)) for text in texts))
        for name, texts in facts.items()
    )
    yield element("dl", *entries)


def _volumes(report: ServerReport) -> Iterator[Node]:
    rows: list[list[Node]] = []
    for state, usage in report.volumes:
        message = state.explain()
        has_note = message and message != report.concern.message
        note = element("span", _MASK.text(message), class_="note") if has_note else None
        phase = element("span", str(state.phase), class_=f"word {_TONES[PHASE_COLOURS.get(state.phase, 'yellow')]}")
        used = element("div", *_usage(usage), class_="usage")
        size = describe_size(state)
        rows.append([state.volume.name, used, element("div", phase, note), size, state.storage_class or "-"])

    if rows:
        yield _table("volumes", f"Volumes of {report.title}", ("Volume", "In use", "State", "Size", "Class"), rows)


def _usage(usage: Usage | None) -> Iterator[Node]:
    """Yields a bar, which only repeats the text after it."""
    if usage is None:
        yield "unknown"
        return

    percent = min(usage.percent, 100)
    tone = "bad" if percent >= NEARLY_FULL_PERCENT else "good"
    # As attributes of a picture: the security policy allows no style in an element.
    filled = element("rect", width=str(percent), height="8", class_=f"filled {tone}")
    # Without this, it would be stretched to the whole cell only in one direction.
    bar = {"viewBox": "0 0 100 8", "preserveAspectRatio": "none"}
    yield element("svg", element("rect", width="100", height="8"), filled, aria_hidden="true", class_="bar", **bar)
    yield f"{usage.percent}% of {quantity.format_bytes(usage.size)}"


def _shares(report: ServerReport) -> Iterator[Node]:
    rows: list[list[Node]] = []
    for share in sorted_shares(report):
        tone = {"Ready": "good", "Failed": "bad"}.get(share.phase, "warn")
        phase = element("span", share.phase, class_=f"word {tone}")
        rows.append([share.name, phase, share.path, _MASK.text(share.message or "-")])

    if rows:
        yield _table("shares", f"Shares of {report.title}", ("Share", "State", "Path", "Message"), rows)


def _events(report: ServerReport) -> Iterator[Node]:
    rows: list[list[Node]] = []
    for event in report.events[:MAX_EVENTS]:
        tone = "warn" if event.type == "Warning" else "plain"
        kind = element("span", event.type or "-", class_=f"word {tone}")
        times = str(event.count)
        rows.append(
            [
                event.reason or "-",
                kind,
                _since(event.at, report.now),
                times,
                f"{event.kind} {event.name}",
                event.message,
            ]
        )

    if rows:
        headings = ("Reason", "Type", "Age", "Times", "Object", "Message")
        yield _table("events", f"Events about {report.title}", headings, rows)
    if (older := len(report.events) - MAX_EVENTS) > 0:
        command = shlex.join(["kubectl", "dittofs", "events", "-n", *report.key])
        yield element("p", f"{older} older ones are not shown: ", element("code", command), class_="note")


def _table(kind: str, caption: str, headings: Sequence[str], rows: Sequence[Sequence[Node]]) -> Element:
    """Returns a table whose first column names the row. On a phone the cells stand below each other with the headings.

    It has roles because browsers take a table that is laid out otherwise for none. `kind` is for the style sheet.
    """
    columns = (element("th", heading, scope="col", role="columnheader") for heading in headings)
    body = []
    for first, *others in rows:
        cells = [
            element("td", element("div", cell), data_label=heading, role="cell")
            for heading, cell in zip(headings[1:], others, strict=True)
        ]
        body.append(element("tr", element("th", first, scope="row", role="rowheader"), *cells, role="row"))

    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *columns, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
        class_=kind,
    )


def _badge(state: State) -> Element:
    return element("span", str(state), class_=f"badge {_TONES.get(STATE_COLOURS.get(state, ''), 'plain')}")


def _since(since: str | None, now: datetime) -> Node:
    """Returns how long ago it was, with the time itself for programs and for those who point at it."""
    text = age(since, now)
    return text if text == "-" else _time(datetime.fromisoformat(since or ""), text)


def _time(at: datetime, text: str) -> Element:
    return element("time", text, datetime=at.isoformat(), title=_format_time(at))


def _format_time(at: datetime) -> str:
    try:
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:  # In the first or the last year that there is.
        return at.isoformat()


def _anchor(key: ObjectKey) -> str:
    """Returns the part of a link to the page that leads to a server, the same each time the page is written."""
    return quote("/".join(key))
