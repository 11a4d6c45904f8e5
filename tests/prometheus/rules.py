"""Renders the chart's alerts, and has promtool judge them."""

import json
import os
import subprocess
from pathlib import Path

from app.storage.unstructured import Manifest
from tests.helm.chart import manifests
from tests.prometheus.build import promtool

RELEASE, NAMESPACE = "dittofs-operator", "dittofs-system"


def rendered_rules(*values: str) -> Manifest:
    """Returns the content of a rule file with the chart's alerts; `values` are arguments of --set."""
    enabled = ("serviceMonitor.enabled=true", "prometheusRule.enabled=true")
    rendered = manifests(RELEASE, NAMESPACE, *enabled, *values)
    [rule] = [manifest for manifest in rendered if manifest["kind"] == "PrometheusRule"]
    spec: Manifest = rule["spec"]
    return spec


def run_promtool(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool(os.environ), *args], check=False, capture_output=True, text=True)


def write_rules(folder: Path, rules: Manifest) -> Path:
    """Writes a rule file into the folder and returns its path."""
    file = folder / "rules.yaml"
    file.write_text(json.dumps(rules))
    return file
