"""Runs the Chromium of this machine. It downloads none: `make browser` says which packages to install."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from app.cli.page import StatusPage, format_page

# Of each step; a machine may be slow.
DEADLINE_MILLISECONDS = 60_000

Scheme = Literal["light", "dark"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yields a browser without windows. Raises FileNotFoundError when there is none on this machine."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        raise FileNotFoundError("there is no Chromium; on Debian: apt-get install chromium fonts-liberation")

    # Root has no sandbox, and what the browser shows is ours.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=DEADLINE_MILLISECONDS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser, file: Path, width: int = 1200, scheme: Scheme = "light", scale: float = 1
) -> Iterator[Page]:
    """Yields a file in a window of so many CSS pixels."""
    size = ViewportSize(width=width, height=800)
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale)
    context.set_default_timeout(DEADLINE_MILLISECONDS)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        yield page
    finally:
        context.close()


def write(folder: Path, name: str, page: StatusPage) -> Path:
    file = folder / f"{name}.html"
    file.write_text(format_page(page))
    return file
