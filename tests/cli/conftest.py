import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.controlplane.cluster import ControlPlane


@pytest.fixture
def plugin(control_plane: ControlPlane, crd: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs `kubectl dittofs` and returns its lines on standard output and standard error."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def kubectl(*arguments: str) -> list[str]:
        result = control_plane.kubectl("dittofs", *arguments)
        return [*result.stdout.splitlines(), *result.stderr.splitlines()]

    return kubectl
