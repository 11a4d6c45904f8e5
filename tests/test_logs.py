import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import characters, text

from app import logs
from app.settings import LOG_FORMATS, LOG_LEVELS

pytestmark = pytest.mark.anyio

LOG = logging.getLogger("app.x")
# As a tenant may name things: a line of their own, the sequences that a terminal obeys, and text that reads backwards.
HOSTILE = 'x\n2026-11-27T00:00:00.000Z INFO    created\r\x1b[2J\x9b2J\u202e\x7f\u2028" a=b \\'


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Logging is the whole process's: what was configured before the test is there after it."""
    loggers = logging.getLogger(), logging.getLogger("app")
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    logs.configure()
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def written(log_format: str, message: str, error: Exception | None = None, **fields: Any) -> str:
    stream = io.StringIO()
    handler = logs.log_handler(stream, log_format)
    record = logging.LogRecord("app.x", logging.INFO, "", 0, message, (), (type(error), error, None) if error else None)
    record.created = datetime.fromisoformat("2026-11-27T03:04:05.678912Z").timestamp()
    record.__dict__ |= fields
    handler.handle(record)
    return stream.getvalue()


def test_a_line_says_what_happened_to_whom_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    LOG.info("reviewed", extra={"object": "files", "milliseconds": 1.5})
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
    LOG.error("failed", exc_info=RuntimeError("out\nof order"))
    [line] = lines(capsys)
    assert line["exception"].endswith("RuntimeError: out\nof order")


def test_text_is_for_people() -> None:
    line = written(
        "text", "changed", kind="Service", object="a b", fields=("spec.type", "data[a.b]"), milliseconds=1.5, more=None
    )
    assert line == (
        '2026-11-27T03:04:05.678Z INFO    changed kind=Service name="a b" '
        'fields="spec.type,data[a.b]" milliseconds=1.5\n'
    )


def test_a_traceback_is_indented_in_text() -> None:
    first, *others = written("text", "failed", RuntimeError("out\nof order")).splitlines()
    assert first.endswith("INFO    failed")
    assert others == ["    RuntimeError: out", "    of order"]


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@given(value=text(characters()) | text(alphabet=HOSTILE))
def test_no_text_is_a_line_of_its_own_or_obeyed_by_a_terminal(log_format: str, value: str) -> None:
    line = written(log_format, value, reason=value, fields=[value], deep={"key": [value]})

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if log_format == "json":
        read = json.loads(line)
        assert (read["message"], read["reason"], read["fields"], read["deep"]) == (
            value,
            value,
            [value],
            {"key": [value]},
        )


def test_a_traceback_with_hostile_text_is_not_obeyed() -> None:
    first, *others = written("text", "failed", ValueError(HOSTILE)).split("\n")
    assert first.isprintable()
    assert all(line.isprintable() and line.startswith("    ") for line in others[:-1])


@pytest.mark.parametrize(
    ("level", "logged"),
    [("debug", LOG_LEVELS), ("info", LOG_LEVELS[1:]), ("warning", LOG_LEVELS[2:]), ("error", LOG_LEVELS[3:])],
)
def test_the_level_is_that_of_the_least_severe_line(
    level: str, logged: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level)
    for name in LOG_LEVELS:
        LOG.log(logging.getLevelNamesMapping()[name.upper()], name)
    assert [line["message"] for line in lines(capsys)] == list(logged)


@pytest.mark.parametrize("level", LOG_LEVELS)
@pytest.mark.parametrize("library", ["uvicorn.error", "kubernetes.client.rest", "aiohttp.client", "asyncio"])
def test_libraries_log_only_warnings_and_errors(level: str, library: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level)
    logging.getLogger(library).debug("response body: eyJhbGciOi")
    logging.getLogger(library).info("Started server process")
    logging.getLogger(library).error("Invalid HTTP request received.")
    assert [line["message"] for line in lines(capsys)] == ["Invalid HTTP request received."]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "log_format", "is_text"),
    [
        (io.StringIO, None, False),
        (Terminal, None, True),
        (Terminal, "json", False),
        (io.StringIO, "text", True),
    ],
)
def test_a_terminal_gets_text_unless_told_otherwise(
    stream: type[io.StringIO], log_format: str | None, is_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stderr := stream())
    logs.configure(log_format=log_format)
    LOG.info("stopped")
    assert stderr.getvalue().startswith("{") != is_text


def test_lines_have_the_fields_of_what_they_belong_to(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    with logs.correlate(reconcile_id="1", server="files"):
        with logs.correlate(generation=2):
            LOG.info("a", extra={"server": "other"})
        LOG.info("b")
    LOG.info("c")

    fields = [{name: line.get(name) for name in ("reconcile_id", "server", "generation")} for line in lines(capsys)]
    assert fields == [
        {"reconcile_id": "1", "server": "other", "generation": 2},
        {"reconcile_id": "1", "server": "files", "generation": None},
        {"reconcile_id": None, "server": None, "generation": None},
    ]


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_what_is_logged_often_is_logged_alike(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format=log_format)
    fields = {"operation": "CREATE", "server": "files", "warnings": ["a b"], "reason": ""}

    with logs.correlate(review_id="1", server="other"):
        LOG.info("reviewed", extra=fields)
        logs.log_often(LOG, "reviewed", fields)
    logs.configure("warning")
    logs.log_often(LOG, "reviewed", fields)

    times = re.compile(r"\d{4}-\d\d-\d\dT[^ \"]*")
    one, another = (times.sub("now", line) for line in capsys.readouterr().err.splitlines())
    assert one == another
    assert "server" in one
    assert "review_id" not in fields


class Pipe:
    """Reads the lines that the process logs; nobody reads them before."""

    def __init__(self, reader: int) -> None:
        self._reader = os.fdopen(reader, "rb", buffering=0)

    def read(self) -> list[dict[str, Any]]:
        parts = iter(lambda: self._reader.read(2**20), None)
        return [json.loads(line) for line in b"".join(parts).splitlines()]

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream, closing(Pipe(reader)) as pipe:
        monkeypatch.setattr("sys.stderr", stream)
        logs.configure(log_format="json")
        yield pipe


def log_numbers(numbers: Iterable[int]) -> None:
    for number in numbers:
        LOG.info("a line that is as long as many others, with its number and more", extra={"number": number})


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [line["number"] for line in lines if "number" in line]


def test_without_an_event_loop_a_line_is_written_at_once(pipe: Pipe) -> None:
    log_numbers([1])

    assert numbers(pipe.read()) == [1]


async def test_lines_of_one_step_are_written_after_it(pipe: Pipe) -> None:
    log_numbers(range(100))
    during = pipe.read()
    await asyncio.sleep(0)
    after = pipe.read()
    log_numbers([100])
    await asyncio.sleep(0)

    assert during == []
    assert numbers(after) == [*range(100)]
    assert numbers(pipe.read()) == [100]


async def test_threads_log_among_the_others(pipe: Pipe) -> None:
    log_numbers([1])
    await asyncio.to_thread(log_numbers, [2])
    log_numbers([3])
    await asyncio.sleep(0)

    assert numbers(pipe.read()) == [1, 2, 3]


async def test_lines_wait_for_a_reader_who_stopped(pipe: Pipe) -> None:
    lines: list[int] = []

    for first in range(0, 5000, 100):
        log_numbers(range(first, first + 100))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while len(lines) < 5000:
            lines += numbers(pipe.read())
            await asyncio.sleep(0.01)

    assert lines == [*range(5000)]


async def test_lines_beyond_the_limit_are_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING_BYTES", 2**16)
    lines: list[dict[str, Any]] = []

    with logs.correlate(review_id="1"):
        log_numbers(range(5000))
    async with asyncio.timeout(10):
        while not lines or lines[-1]["message"] != "lines dropped":
            lines += pipe.read()
            await asyncio.sleep(0.01)
    log_numbers([5000])
    await asyncio.sleep(0)

    *kept, dropped = lines
    assert dropped["lines"] + len(kept) == 5000
    assert "review_id" not in dropped
    assert numbers(kept) == [*range(len(kept))]
    assert numbers(pipe.read()) == [5000]


async def test_a_reader_who_is_gone_is_no_error(pipe: Pipe) -> None:
    pipe.close()

    log_numbers(range(100))
    await asyncio.sleep(0)


LAST_STEP = """
import asyncio, logging, sys
from app import logs

async def main():
    for number in range({lines}):
        logging.getLogger("app.x").info("line", extra={{"number": number}})
    {end}

logs.configure()
asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["pass", "sys.exit(1)", "raise KeyboardInterrupt", "raise ValueError"])
def test_the_lines_of_the_last_step_are_written(end: str) -> None:
    code = LAST_STEP.format(lines=3000, end=end)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

    lines = [json.loads(line) for line in process.stderr.splitlines() if line.startswith("{")]
    assert numbers(lines) == [*range(3000)]


def test_the_last_words_of_a_killed_process_are_written() -> None:
    end = 'logging.getLogger("app.x").warning("last"); import os; os.kill(os.getpid(), 9)'
    code = LAST_STEP.format(lines=3, end=end)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)

    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert numbers(lines) == [0, 1, 2]
    assert lines[-1]["message"] == "last"


def test_a_process_ends_whose_log_nobody_reads() -> None:
    code = LAST_STEP.format(lines=3000, end="pass")
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 0
