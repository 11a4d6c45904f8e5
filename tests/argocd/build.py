"""Provides the Lua interpreter of Argo CD with the libraries that it opens, built from this Go module."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.controlplane.program import Failed
from tests.harness.go_module import GoModule

FOLDER = Path(__file__).parent
PROGRAM = "argocd-health"


def argocd_health(environ: Mapping[str, str]) -> Path:
    """Returns the program that runs a health check, which is built at most once for each content of the module."""
    module = GoModule(FOLDER, package=".", names=(PROGRAM,), stamps={}, duration="a few seconds")
    return module.built(environ) / PROGRAM


if __name__ == "__main__":
    try:
        print(argocd_health(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
