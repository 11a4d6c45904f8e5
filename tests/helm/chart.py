"""Renders the chart and its variants with helm."""

import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.helm.build import helm

CHART = Path(__file__).parent.parent.parent / "charts/dittofs-operator"

# The values of an earlier version, which `helm upgrade --reuse-values` renders today's chart with.
EARLIER_VALUES = Path(__file__).with_name("earlier-values.yaml")

CRD = "dittoservers.dittofs.dittofs.com"


def expected_image() -> str:
    """Returns the image that the chart expects by default."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    repository = yaml.safe_load((CHART / "values.yaml").read_text())["image"]["repository"]
    return f"{repository}:{version}"


IMAGE = expected_image()


def earlier(folder: Path, *, lacking: str) -> Path:
    """Writes an earlier version of the chart, whose CRD and values lack what came later; returns its folder."""
    copy = with_earlier_values(folder / "earlier")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump({**chart, "version": "0.0.9", "appVersion": "0.0.9"}))

    crd = yaml.safe_load((CHART / "files/crd.yaml").read_text())
    spec = spec_of(crd)
    del spec["properties"][lacking]
    rules = spec["x-kubernetes-validations"]
    spec["x-kubernetes-validations"] = [rule for rule in rules if f"self.{lacking}" not in rule["rule"]]
    (copy / "files/crd.yaml").write_text(yaml.safe_dump(crd))

    return copy


def with_earlier_values(folder: Path) -> Path:
    """Copies the chart without the values that it has gained since; returns the folder of the copy."""
    shutil.copytree(CHART, folder)
    shutil.copyfile(EARLIER_VALUES, folder / "values.yaml")
    return folder


def spec_of(crd: Any) -> Any:
    [version] = crd["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def fields_of(crd: Any) -> Any:
    return spec_of(crd)["properties"]


def run(*args: str | Path, environ: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(os.environ), *args], check=False, env=environ, capture_output=True, text=True)


def run_in(cluster: ControlPlane, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return run(*args, environ=environ_in(cluster))


def environ_in(cluster: ControlPlane) -> dict[str, str]:
    """Returns an environment without the user's settings and without a cache that other clusters share."""
    homes = {f"HELM_{kind}_HOME": str(cluster.folder / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
    return os.environ | homes | {"KUBECONFIG": str(cluster.kubeconfig)}


def output(process: subprocess.CompletedProcess[str]) -> str:
    """Returns what a successful run printed; fails with helm's message after any other."""
    assert process.returncode == 0, process.stderr
    return process.stdout


@cache
def template(release: str, namespace: str, *args: str) -> str:
    return output(run("template", release, CHART, "--namespace", namespace, *args))


def manifests(release: str, namespace: str, *values: str) -> list[Manifest]:
    """Returns all manifests except hooks; `values` are arguments of --set."""
    options = [part for value in values for part in ("--set", value)]
    return loaded(template(release, namespace, "--no-hooks", *options))


def loaded(text: str) -> list[Manifest]:
    manifests = [pickle.loads(_parse(document)) for document in documents(text)]
    return [manifest for manifest in manifests if manifest]


def documents(text: str) -> list[str]:
    return re.split(r"^---$", text, flags=re.MULTILINE)


@cache
def _parse(document: str) -> bytes:
    # Most renderings share their largest document, the CRD, which takes 50 ms even with the loader in C.
    return pickle.dumps(yaml.load(document, yaml.CSafeLoader))


def umbrella(folder: Path, *dependencies: Manifest, values: Manifest | None = None, template: str = "") -> Path:
    """Writes a chart "platform" that depends on this chart once for each item of `dependencies`; returns its folder."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    common = {"name": CHART.name, "version": version, "repository": f"file://{CHART}"}
    chart = {
        "apiVersion": "v2",
        "name": "platform",
        "version": "1.0.0",
        "dependencies": [{**common, **dependency} for dependency in dependencies],
    }

    parent = folder / "platform"
    (parent / "templates").mkdir(parents=True)
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (parent / "values.yaml").write_text(yaml.safe_dump(values or {}))
    (parent / "templates/own.yaml").write_text(template)

    output(run("dependency", "update", parent, environ=os.environ | {"HELM_CACHE_HOME": str(folder / "cache")}))
    return parent
