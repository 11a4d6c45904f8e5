import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from app.cli.page import MAX_EVENTS, format_page
from app.storage.finding import one_line
from app.storage.next_step import State
from tests.harness.sample_page import (
    FILES,
    FILMS,
    HOSTILE,
    MUSIC,
    SampleServer,
    ago,
    event,
    hostile_page,
    hostile_server,
    page,
    sample_page,
)

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "article", "div"),
    *("h1", "h2", "h3", "p", "span", "strong", "time", "a", "ul", "li", "dl", "dt", "dd", "pre", "code"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "rect"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "datetime", "title", "role", "scope"),
    *("data-label", "aria-hidden", "width", "height", "viewbox", "preserveaspectratio"),
}


class Page(HTMLParser):
    """Reads a page as a browser does: its text, its tags, and the rows of its tables."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag != "meta":
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"expected no comment, got {data}")

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data)
        if {"th", "td"} & {*self._open}:
            self.rows[-1][-1] += data
        elif self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def read(*servers: SampleServer, gaps: tuple[str, ...] = ()) -> Page:
    return Page(format_page(page(*servers, gaps=gaps)))


def test_the_worst_server_comes_first() -> None:
    shown = read(MUSIC, FILES, FILMS)

    assert [heading for heading in shown.headings if "/" in heading] == ["media/films", "media/files", "media/music"]
    assert shown.rows[:4] == [
        ["Server", "State", "Reason", "For", "Version", "Fullest volume", "Next step"],
        ["media/films", "Down", "QuotaExceeded", "12m", "-", "-", "Raise the quota, or free some of it."],
        [
            *("media/files", "Degraded", "VolumeNearlyFull", "-", "0.29.0", "96%"),
            "Raise storage.metadataSize, or delete what nobody needs.",
        ],
        ["media/music", "Ready", "Available", "3d", "0.29.0", "41%", "Nothing has to be done."],
    ]


def test_links_of_the_overview_lead_to_the_servers() -> None:
    shown = read(FILMS, FILES)
    links = {link for link in shown.values("href") if link != "#overview"}

    assert links == {"#media/films", "#media/files"}
    assert {link.removeprefix("#") for link in shown.values("href")} <= {*shown.values("id")}


def test_a_single_server_has_no_overview() -> None:
    shown = read(FILMS)

    assert "Overview" not in shown.text
    assert shown.values("href") == []


def test_all_about_a_server_that_is_down() -> None:
    shown = read(FILMS)

    assert shown.headings == ["DittoServers", "media/films", "Conditions", "Details", "Volumes", "Events, newest first"]
    assert "DittoServer films is down: QuotaExceeded, for 12m" in shown.text
    assert "raise ResourceQuota team, or free some of it" in shown.text
    assert "Next step: Raise the quota, or free some of it.kubectl -n media describe resourcequotas" in shown.text
    assert ["Ready", "no", "12m", "QuotaExceeded, see above"] in shown.rows
    assert ["StorageReady", "yes", "3d", "every claim is bound"] in shown.rows
    assert ["metadata", "unknown", "Bound", "10Gi", "fast"] in shown.rows
    assert "films-file.media.svc.cluster.local:2049, 10.96.0.17 inside" in shown.text
    assert "S3 credentials: s3" in shown.text
    assert "JWT: films-jwt-secret (generated)" in shown.text
    [row] = [row for row in shown.rows if row[0] == "FailedCreate"]
    assert row[1:5] == ["Warning", "8s", "12", "StatefulSet films"]
    assert "is forbidden: exceeded quota" in row[5]


def test_volumes_have_bars_and_shares_have_paths() -> None:
    shown = read(FILES)
    bars = [
        attributes for tag, attributes in shown.elements if tag == "rect" and "filled" in attributes.get("class", "")
    ]

    assert [(bar["width"], bar["class"]) for bar in bars] == [("96", "filled bad"), ("31", "filled good")]
    assert ["metadata", "96% of 10Gi", "Bound", "10Gi", "fast"] in shown.rows
    assert ["attic", "Retained", "/attic", "it was removed from spec.shares, and kept"] in shown.rows
    assert ["projects", "Ready", "/projects", "-"] in shown.rows
    assert "DittoFS 0.29.0 (Current), started 3d ago" in shown.text
    assert "files-0 on node worker-1: Running, ready, 0 restarts, runs for 3d" in shown.text
    assert "marmos91c/dittofs:v0.29.0 (sha256:3f1b" in shown.text


def test_older_events_are_counted() -> None:
    events = tuple(
        event(f"Reason{number}", "why", ("Pod", "files-0"), lastTimestamp=ago(minutes=number))
        for number in range(MAX_EVENTS + 3)
    )
    shown = read(SampleServer("files", events=events))

    assert sum(row[0].startswith("Reason") for row in shown.rows) == MAX_EVENTS + 1
    assert "3 older ones are not shown: kubectl dittofs events -n media files" in shown.text


def test_the_page_tells_when_and_where_it_is_from() -> None:
    shown = Page(format_page(sample_page()))

    assert "context production" in shown.text
    assert "namespace media" in shown.text
    assert "As of 2026-02-01 12:00:00 UTC" in shown.text
    assert "2026-02-01T12:00:00+00:00" in shown.values("datetime")
    assert "2026-02-01 11:48:00 UTC" in shown.values("title")


def test_what_could_not_be_read_is_on_the_page() -> None:
    shown = read(FILMS, gaps=("Events are unknown: forbidden",))

    assert "What could not be read" in shown.headings
    assert "Events are unknown: forbidden" in shown.text


def test_a_page_about_no_server_says_so() -> None:
    assert "No DittoServers found." in read().text


def test_each_state_has_a_tone_of_the_style_sheet() -> None:
    html = format_page(sample_page())
    assert all(f".badge.{tone} " in html for tone in ("good", "warn", "bad", "busy", "plain"))
    assert State.DOWN in html


def test_the_page_loads_and_runs_nothing() -> None:
    html = format_page(sample_page())
    shown = Page(html)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    [policy] = [value for value in shown.values("content") if "default-src" in value]
    digest = b64encode(sha256(style.encode()).digest()).decode()

    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert {tag for tag, _ in shown.elements} <= TAGS
    assert {name for _, attributes in shown.elements for name in attributes} <= ATTRIBUTES
    assert all(link.startswith("#") for link in shown.values("href"))
    assert not re.search(r"url\(|@import|://", html)


def test_tables_name_their_rows_and_columns() -> None:
    shown = Page(format_page(sample_page()))
    tags = [tag for tag, _ in shown.elements]

    assert tags.count("caption") == tags.count("table") > 5
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in shown.elements if tag == "th")
    assert len({*shown.values("id")}) == len(shown.values("id"))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_tenant_becomes_markup(text: str) -> None:
    html = format_page(page(hostile_server(text)))
    shown, harmless = Page(html), read(hostile_server("harmless"))

    assert html.isascii()
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in harmless.elements]
    assert {name for _, attributes in shown.elements for name in attributes} <= ATTRIBUTES
    assert all(part.isprintable() for part in shown.texts if part.strip("\n"))
    assert one_line(text) in shown.text


def test_a_page_full_of_attacks_is_well_formed() -> None:
    html = format_page(hostile_page())
    shown = Page(html)

    assert html.isascii()
    assert {tag for tag, _ in shown.elements} <= TAGS
    assert {name for _, attributes in shown.elements for name in attributes} <= ATTRIBUTES
    assert len({*shown.values("id")}) == len(shown.values("id"))
    assert {unquote(link) for link in shown.values("href")} <= {f"#{unquote(anchor)}" for anchor in shown.values("id")}
    assert not any(re.search(r"\s", anchor) for anchor in shown.values("id"))


def test_what_looks_like_a_secret_is_masked() -> None:
    leak = "login failed at https://admin:hunter22@minio.example.com with password: hunter22"
    shown = read(SampleServer("files", events=(event("Failed", leak, ("Pod", "files-0"), type="Warning"),)))

    assert "login failed at" in shown.text
    assert "hunter22" not in shown.text
