import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app import logs


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Logging is the whole process's: what was configured before the test is there after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_what_happened_to_whom_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("app.x").info("reviewed", extra={"object": "files", "milliseconds": 1.5})
    [line] = lines(capsys)

    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "INFO",
        "logger": "app.x",
        "message": "reviewed",
        "name": "files",
        "milliseconds": 1.5,
    }


def test_an_exception_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("app.x").error("failed", exc_info=RuntimeError("out\nof order"))
    [line] = lines(capsys)
    assert line["exception"].endswith("RuntimeError: out\nof order")


def test_uvicorn_logs_only_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert [line["message"] for line in lines(capsys)] == ["Invalid HTTP request received."]
