"""Logs JSON to standard error, one object a line; callers pass the fields beside the message in `extra`."""

import logging

from pythonjsonlogger.orjson import OrjsonFormatter

# In Python `name` is the logger's, but to a person who reads the log it is the object's.
FIELD_NAMES = {"levelname": "level", "name": "logger", "object": "name", "exc_info": "exception"}


def configure(level: int = logging.INFO) -> None:
    """Configures the logging of the whole process; of uvicorn, only warnings and errors are logged."""
    # No line has these fields, so do not collect them: see "Optimization" in the documentation of Python's logging.
    logging._srcfile = None  # noqa: SLF001 - documented
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    handler = logging.StreamHandler()
    handler.setFormatter(OrjsonFormatter(("levelname", "name", "message"), rename_fields=FIELD_NAMES, timestamp="time"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
