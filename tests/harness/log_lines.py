"""The lines that the operator logs, as its users get them: with the fields of what they belong to."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app import logs


@contextmanager
def record_lines(level: int = logging.INFO) -> Iterator[list[dict[str, Any]]]:
    """Yields the lines that this process logs meanwhile; whatever handlers there are go on."""
    lines: list[dict[str, Any]] = []

    class Lines(io.StringIO):
        def write(self, text: str) -> int:
            lines.extend(json.loads(line) for line in text.splitlines())
            return len(text)

    root, handler = logging.getLogger("app"), logs.log_handler(Lines(), "json")
    before = root.level
    root.setLevel(level)
    root.addHandler(handler)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
