"""Builds the wheel with the locked build backend."""

import os
import subprocess
import sys
from pathlib import Path

from manifests.release.source import ReleaseSource


def build_wheel(source: ReleaseSource, folder: Path) -> Path:
    """Builds the wheel; its times are that of the source, and its modes those of no machine."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(source.time)}
    subprocess.run(command, cwd=source.root, env=environ, check=True, capture_output=True)

    [wheel] = folder.glob("*.whl")
    return wheel
