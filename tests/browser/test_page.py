"""The page of `status --html` in a real browser: accessible, readable on a phone, and deaf to what texts ask for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize

from app.cli.page import format_page
from tests.browser.chromium import DEADLINE_MILLISECONDS, Scheme, chromium, opened, write
from tests.harness.sample_page import FILMS, HOSTILE, hostile_page, hostile_server, page, sample_page

DESKTOP, PHONE, REFLOW = 1200, 360, 320  # WCAG asks for the last one (1.4.10).
A4 = 794
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
# The criteria of WCAG 2.1 AA, and what the authors of axe recommend besides.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}
# Returns what reaches over the right edge of the window.
TOO_WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
    .map(e => `${e.tagName}: ${e.textContent.slice(0, 60)}`)"""
ATTACKS = (
    "<script>document.title = 'owned'</script>",
    "<img src='https://example.com/x.png'>",
    "<b style='color: red'>x</b>",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Provides files by the names of what is on them."""
    folder = tmp_path_factory.mktemp("pages")
    contents = {
        "sample": sample_page(),
        "single": page(FILMS, gaps=("Events are unknown: forbidden",)),
        "none": page(),
        "attacked": page(hostile_server("".join(HOSTILE))),
        "hostile": hostile_page(),
    }
    return {name: write(folder, name, content) for name, content in contents.items()}


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("sample", DESKTOP, "light"),
        ("sample", DESKTOP, "dark"),
        ("sample", PHONE, "light"),
        ("sample", PHONE, "dark"),
        ("single", PHONE, "light"),
        ("attacked", DESKTOP, "dark"),
        ("none", PHONE, "light"),
    ],
)
def test_axe_has_nothing_to_object(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Scheme
) -> None:
    with opened(browser, pages[name], width, scheme) as shown:
        violations = Axe().run(shown, options=RULES).response["violations"]

    assert violations == [], json.dumps(violations, indent=1)[:4000]


@pytest.mark.parametrize("name", ["sample", "single", "hostile"])
def test_nobody_has_to_scroll_sideways(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with opened(browser, pages[name]) as shown:
        for width in (DESKTOP, 861, 860, PHONE, REFLOW):
            shown.set_viewport_size(ViewportSize(width=width, height=800))

            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate(TOO_WIDE) == []


def test_the_style_sheet_is_accepted(browser: Browser, pages: dict[str, Path]) -> None:
    backgrounds = []
    for scheme in SCHEMES:
        with opened(browser, pages["sample"], scheme=scheme) as shown:
            backgrounds.append(background(shown, ".card"))
            assert box(shown.locator("rect.filled").first)["width"] > 100  # 96 % of a bar of 120.

    assert backgrounds[0] == "rgb(255, 255, 255)"
    assert backgrounds[1] != backgrounds[0]


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_the_page_asks_for_nothing(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with listened(browser, pages[name]) as (shown, requests, complaints):
        assert shown.title().startswith("DittoServers: ")
        assert shown.locator("script, img, iframe, link, object, form, [onload], [style]").count() == 0
        assert requests == [pages[name].as_uri()]
        assert complaints == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_even_markup_could_do_nothing(browser: Browser, tmp_path: Path, attack: str) -> None:
    """If escaping failed some day, the security policy would still keep the text from doing anything."""
    file = tmp_path / "broken.html"
    file.write_text(format_page(sample_page()).replace("</main>", f"{attack}</main>"))

    with listened(browser, file) as (shown, _, complaints):
        assert shown.title().startswith("DittoServers: ")
        assert any("Content Security Policy" in complaint for complaint in complaints)


def test_links_work_by_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["sample"]) as shown:
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "media/films"
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

        shown.keyboard.press("Tab")
        shown.keyboard.press("Enter")
        shown.wait_for_function("location.hash == '#media/files'")
        heading = shown.get_by_role("heading", name="media/files")
        assert box(heading)["y"] < 100

        shown.keyboard.press("Tab")
        shown.keyboard.press("Enter")
        shown.wait_for_function("location.hash == '#overview' && scrollY < 200")


def test_a_screen_reader_finds_its_way(browser: Browser, pages: dict[str, Path]) -> None:
    """On a phone as well, where the tables are laid out otherwise."""
    with opened(browser, pages["sample"], PHONE) as shown:
        levels = shown.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1])")
        table = shown.get_by_role("table", name="Conditions of media/films")
        row = table.get_by_role("row").filter(has=shown.get_by_role("rowheader", name="Reconciling"))
        texts = row.get_by_role("cell").all_text_contents()

        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert texts == ["yes", "12m", "QuotaExceeded, see above"]
        assert shown.get_by_role("banner").count() == shown.get_by_role("main").count() == 1


def test_paper_is_white_and_wide_enough(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["sample"], A4, "dark") as shown:
        shown.emulate_media(media="print")

        assert background(shown, "body") == "rgb(255, 255, 255)"
        assert shown.evaluate("getComputedStyle(document.body).color") == "rgb(28, 36, 48)"
        assert shown.evaluate(TOO_WIDE) == []
        assert shown.locator(".back").first.is_hidden()


@contextmanager
def listened(browser: Browser, file: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """Yields an opened file, what it asked for, and what the browser complained about."""
    requests, complaints = list[str](), list[str]()
    context = browser.new_context()
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    try:
        page.goto(file.as_uri(), timeout=DEADLINE_MILLISECONDS)
        # The answer comes after all that the browser had to tell before.
        page.evaluate("1")
        yield page, requests, complaints
    finally:
        context.close()


def box(locator: Locator) -> FloatRect:
    rectangle = locator.bounding_box()
    assert rectangle is not None
    return rectangle


def background(shown: Page, selector: str) -> str:
    colour: str = shown.locator(selector).first.evaluate("e => getComputedStyle(e).backgroundColor")
    return colour
