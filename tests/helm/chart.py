"""The chart, as helm makes manifests of it."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from tests.helm.build import helm

CHART = Path(__file__).parent.parent.parent / "charts/dittofs-operator"

Manifest = dict[str, Any]


def run(*args: str | Path, environ: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(os.environ), *args], check=False, env=environ, capture_output=True, text=True)


@cache
def _templated(*args: str) -> str:
    done = run("template", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(release: str, namespace: str, *values: str) -> list[Manifest]:
    """All but hooks; `values` are as for --set."""
    return _loaded(release, str(CHART), "--namespace", namespace, "--no-hooks", *_set(values))


def _loaded(*args: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(_templated(*args)) if each]


def _set(values: Iterable[str]) -> list[str]:
    return list(chain.from_iterable(("--set", value) for value in values))
