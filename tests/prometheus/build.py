"""Provides Prometheus and promtool, built from the Go module of this folder.

They judge the alerts and the dashboard's queries. They find targets in no cloud and serve no web pages.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.controlplane.program import Failed
from tests.harness.go_module import GoModule

FOLDER = Path(__file__).parent


def prometheus(environ: Mapping[str, str]) -> Path:
    """Returns the server."""
    return programs(environ) / "prometheus"


def promtool(environ: Mapping[str, str]) -> Path:
    """Returns the program that checks and tests rules."""
    return programs(environ) / "promtool"


def programs(environ: Mapping[str, str]) -> Path:
    """Returns the folder with the programs, which are built at most once for each content of the module."""
    module = GoModule(
        FOLDER,
        package="tool",
        names=("prometheus", "promtool"),
        stamps={},
        duration="about 5 minutes on 2 cores",
        # Service discovery needs the clients of two dozen clouds; the tests know the address of what they scrape.
        tags=("remove_all_sd",),
    )
    return module.built(environ)


if __name__ == "__main__":
    try:
        print(programs(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
