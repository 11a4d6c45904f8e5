"""Samples a running process with py-spy: the share of its time in each part, including C libraries."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

RATE = 200
# A sample counts for the part of its innermost frame that is in one of these.
PARTS = {
    "TLS": ("libssl", "libcrypto", "_ssl.", "ssl.py", "sslproto"),
    "JSON": ("orjson",),
    "rules": ("app/storage", "app/cluster", "pydantic"),
    "log": ("logging", "pythonjsonlogger"),
    "metrics": ("prometheus_client",),
    "framework": ("fastapi", "starlette", "uvicorn", "httptools", "app/admission", "contextlib"),
}
REST = "the event loop and the kernel"


def shares(process: int, seconds: float) -> dict[str, float]:
    """Returns the shares, or nothing where py-spy is missing or may not look into processes."""
    program = shutil.which("py-spy", path=Path(sys.executable).parent)
    if program is None:
        return {}

    with TemporaryDirectory() as folder:
        file = Path(folder) / "stacks"
        command = (program, "record", "--native", "--format=raw", f"--rate={RATE}", f"--pid={process}")
        limits = (f"--duration={seconds:.0f}", f"--output={file}")
        subprocess.run([*command, *limits], check=False, capture_output=True)
        return parts(file.read_text().splitlines()) if file.exists() else {}


def parts(stacks: Iterable[str]) -> dict[str, float]:
    """Returns shares from lines with frames, from the outermost to the innermost, and how often they were sampled."""
    counter: Counter[str] = Counter()

    for line in stacks:
        stack, _, times = line.rpartition(" ")
        if "Thread.run" not in stack:  # Threads that wait for work look busy from outside.
            counter[_part(stack.split(";"))] += int(times)

    return {part: times / counter.total() for part, times in counter.most_common()}


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, marks in PARTS.items():
            if any(mark in frame for mark in marks):
                return part
    return REST
