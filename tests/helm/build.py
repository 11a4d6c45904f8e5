"""Provides the helm that the tests install the chart with, built from the Go module of this folder."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.controlplane.program import Failed
from tests.harness.go_module import GoModule, required_version

FOLDER = Path(__file__).parent
MODULE = "helm.sh/helm/v4"


def helm(environ: Mapping[str, str]) -> Path:
    """Returns the program, which is built at most once for each content of the module."""
    module = GoModule(
        FOLDER,
        package=f"{MODULE}/cmd/helm",
        names=("helm",),
        stamps={f"{MODULE}/internal/version.version": version()},
        duration="about 5 minutes on 2 cores",
    )
    return module.built(environ) / "helm"


def version() -> str:
    return required_version(FOLDER, MODULE)


if __name__ == "__main__":
    try:
        print(helm(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
