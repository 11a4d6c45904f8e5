"""Logs to standard error, JSON for programs or text for people; callers pass the fields beside the message in `extra`.

Whatever anybody has put into a field, a line stays one line, and a terminal only shows it.
"""

import asyncio
import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from app.storage.object_write import ObjectWrite

# In Python `name` is the logger's, but to a person who reads the log it is the object's.
FIELD_NAMES = {"object": "name"}

# What Python itself keeps in a record; everything else in it is a field.
_BLANK = vars(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}))
_OWN = _BLANK.keys() | {"message", "asctime"}

# A pipe that has any room takes so many bytes without a wait, see pipe(7).
PIPE_BYTES = 4096
# Seconds of reviews at the highest rate.
WAITING_BYTES = 4 * 2**20
RETRY_SECONDS = 0.02
EXIT_SECONDS = 1.0

_PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII)

log = logging.getLogger(__name__)

_correlated: ContextVar[Mapping[str, object]] = ContextVar("correlated", default={})  # noqa: B039 - never changed


class Line(logging.LogRecord):
    """Is a record at INFO that has its fields apart, where they need not be searched for among Python's own."""

    def __init__(self, logger: str, message: str, fields: Mapping[str, object]) -> None:
        vars(self).update(_BLANK, name=logger, msg=message, created=time.time())
        self.fields = dict(fields)


class JsonFormatter(logging.Formatter):
    """Writes a line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self._fields(record)
        try:
            line = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # orjson writes no half of a character, which somebody may have sent.
            return json.dumps(fields, default=str)

        # JSON has other control characters escaped already, and most lines have nothing else to escape.
        return line if line.isascii() and "\x7f" not in line else escape(line)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)

        if isinstance(record, Line):
            fields.update(record.fields)
        else:
            for name, value in vars(record).items():
                if name not in _OWN:
                    fields[FIELD_NAMES.get(name, name)] = value

        fields["time"] = datetime.fromtimestamp(record.created, UTC)
        return fields


class TextFormatter(JsonFormatter):
    """Writes time, level and message, then the fields as name=value; the lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in self._fields(record).items() if value not in (None, "", [], ())}
        time, level, message = fields.pop("time"), fields.pop("level"), fields.pop("message", "")
        fields.pop("logger", None)
        traceback = fields.pop("exception", "")

        words = [f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z", f"{level:7}", escape(message)]
        words += [f"{name}={_text(value)}" for name, value in fields.items()]
        return "\n".join([" ".join(words), *(f"    {escape(line)}" for line in traceback.splitlines())])


def configure(level: str = "info", log_format: str | None = None) -> None:
    """Configures the logging of the whole process; where no format is named, a terminal gets text.

    Of libraries only warnings and errors are logged: they may have more in them than anybody should read.
    """
    # No line has these fields, so do not collect them: see "Optimization" in the documentation of Python's logging.
    logging._srcfile = None  # noqa: SLF001 - documented
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    log_format = log_format or ("text" if sys.stderr.isatty() else "json")
    handler = log_handler(sys.stderr, log_format)
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("app").setLevel(number)


def log_handler(stream: TextIO, log_format: str) -> logging.Handler:
    """Returns what writes the lines to the stream."""
    try:
        handler: logging.Handler = BatchHandler(stream.fileno())
    except OSError:
        handler = logging.StreamHandler(stream)  # The stream is no file, but in memory.

    handler.addFilter(_add_correlated)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    return handler


class BatchHandler(logging.Handler):
    """Formats and writes what one step of the event loop has logged after it; without an event loop, each line at once.

    Warnings and errors are written at once, too, with all lines before them: they may be the last words of a process.
    Whoever reads them holds up nothing: what a pipe has no room for waits here. Lines beyond WAITING_BYTES are dropped,
    and counted in a line of their own.
    """

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)

        self._records: list[logging.LogRecord] = []
        self._waiting = bytearray()
        self._dropped = 0
        # This one has been asked to call _write_later.
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return

        if record.levelno > logging.INFO:
            self._write()  # The step may be the last one, or never end.
        if loop is not self._loop:
            self._loop = loop
            # Lines of its own belong to no reconcile and no review.
            loop.call_soon(self._write_later, loop, context=Context())

    def flush(self) -> None:
        """Writes everything; logging calls it when the process ends. Gives up where nobody reads it."""
        deadline = time.monotonic() + EXIT_SECONDS
        self._write()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
            self._write()

    def _write_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self.acquire()  # Other threads log as well.
        try:
            self._write()
            if self._waiting or self._records:
                loop.call_later(RETRY_SECONDS, self._write_later, loop)
                return

            self._loop = None
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                log.warning("lines dropped", extra={"lines": dropped})
        finally:
            self.release()

    def _write(self) -> None:
        """Writes what there is room for, in whole lines: a traceback of Python itself may come between."""
        records, self._records = self._records, []
        for record in records:
            self._format(record)

        with suppress(OSError):  # Nobody reads it any more, or the disk is full.
            while self._waiting and self._poll.poll(0):
                end = self._waiting.rfind(b"\n", 0, PIPE_BYTES) + 1
                written = os.write(self._file, self._waiting[: end or PIPE_BYTES])
                del self._waiting[:written]

    def _format(self, record: logging.LogRecord) -> None:
        if len(self._waiting) > WAITING_BYTES:
            self._dropped += 1
            return

        try:
            self._waiting += self.format(record).encode() + b"\n"
        except Exception:  # noqa: BLE001 - as in every handler: what is wrong with a line must not end what it is about
            self.handleError(record)


class correlate:  # noqa: N801 - a verb, as those of contextlib
    """Adds these fields to every line that is logged in the block, also by what it calls and by tasks it starts."""

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _correlated.set({**_correlated.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _correlated.reset(self._token)


def log_often(log: logging.Logger, message: str, fields: Mapping[str, object]) -> None:
    """Logs as log.info with `extra` does, at half of the cost: for what happens thousands of times a second.

    The fields have the names that they get in the log.
    """
    if log.isEnabledFor(logging.INFO):
        log.handle(Line(log.name, message, fields))


def log_write(log: logging.Logger, write: ObjectWrite, **cause: object) -> None:
    """Logs what has become of an object; `cause` are further fields, as those of the block say why it was written."""
    fields = {
        "verb": write.verb,
        "kind": write.kind,
        "namespace": write.namespace,
        "object": write.name,
        "fields": write.fields,
        "milliseconds": round(write.seconds * 1000, 3),
        **cause,
    }

    match write.verb:
        case "create":
            log.info("created", extra=fields)
        case "delete":
            log.info("deleted", extra=fields)
        case _:
            log.info("changed", extra=fields)


def escape(text: str) -> str:
    """Escapes, as in JSON, what is not printable; inside of JSON that changes no value."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


def _add_correlated(record: logging.LogRecord) -> bool:
    fields = record.fields if isinstance(record, Line) else vars(record)
    for name, value in _correlated.get().items():
        fields.setdefault(name, value)
    return True


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(item, str) and "," not in item for item in value):
        value = ",".join(value)

    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    is_plain = _PLAIN.fullmatch(text) or not isinstance(value, str)
    return escape(text if is_plain else json.dumps(text, ensure_ascii=False))
