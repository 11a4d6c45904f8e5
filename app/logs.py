"""Logs as JSON on standard error, one object a line; what is logged says `extra` for the fields beside the message."""

import logging

from pythonjsonlogger.orjson import OrjsonFormatter

# `name` is the logger's in Python, but to a person who reads the log it is the object's.
_RENAMED = {"levelname": "level", "name": "logger", "object": "name", "exc_info": "exception"}


def configure(level: int = logging.INFO) -> None:
    """For the whole process; uvicorn speaks up from warnings on."""
    # What no line says need not be found out for each: see "Optimization" in the documentation of Python's logging.
    logging._srcfile = None  # noqa: SLF001 - documented
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(OrjsonFormatter(("levelname", "name", "message"), rename_fields=_RENAMED, timestamp="time"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
