"""Checks the configuration of kube-state-metrics against the CRD: a path that leads nowhere is no error."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.metadata import METADATA_SCHEMA
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.unstructured import Manifest

FILE = Path(__file__).parent.parent / "manifests/monitoring/kube-state-metrics.yaml"
[RESOURCE] = yaml.safe_load(FILE.read_text())["spec"]["resources"]
METRICS = {metric["name"]: metric for metric in RESOURCE["metrics"]}

CRD = custom_resource_definition()
[VERSION] = CRD["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SERVER = {"properties": {**SCHEMA["properties"], "metadata": METADATA_SCHEMA}}

# What each type of metric may have, of which `path` and `labelsFromPath` are common to all.
FIELDS = {"Gauge": {"valueFrom"}, "Info": set[str](), "StateSet": {"valueFrom", "labelName", "list"}}


def resolve(schema: Manifest, path: list[str]) -> Manifest:
    """Returns the schema of the field; fails if there is none."""
    for name in path:
        properties = schema.get("properties", {})
        assert name in properties or "additionalProperties" in schema, f"{path}: no field {name}"
        schema = properties.get(name) or schema["additionalProperties"]
    return schema


def parts(metric: Manifest) -> tuple[str, Manifest, Manifest]:
    """Returns the type of the metric, what is set for it, and the schema of what it is made of: of each, for a list."""
    kind = metric["each"]["type"]
    settings = metric["each"][kind[0].lower() + kind[1:]]
    schema = resolve(SERVER, settings.get("path", []))
    return kind, settings, schema["items"] if schema.get("type") == "array" else schema


@pytest.mark.parametrize("name", METRICS)
def test_every_path_leads_to_a_field(name: str) -> None:
    kind, settings, schema = parts(METRICS[name])
    value = resolve(schema, settings.get("valueFrom", []))

    assert settings.keys() <= {"path", "labelsFromPath"} | FIELDS[kind]
    for path in settings.get("labelsFromPath", {}).values():
        assert resolve(schema, path)["type"] in ("string", "integer")

    if kind == "Gauge":
        assert is_number(name, value)
    elif kind == "StateSet":
        assert settings["list"] == value["enum"]
    else:
        assert name.endswith("info")
        assert settings["labelsFromPath"]


def is_number(name: str, schema: dict[str, Any]) -> bool:
    """Tells whether kube-state-metrics can make a number of it: it parses times, quantities and the text `true`."""
    is_text = schema["type"] == "string"
    return not is_text or schema.get("format") == "date-time" or name.endswith("_bytes") or name == "paused"


def test_it_is_about_dittoservers() -> None:
    names = CRD["spec"]["names"]
    kind = {"group": CRD["spec"]["group"], "version": VERSION["name"], "kind": names["kind"]}

    assert RESOURCE["groupVersionKind"] == kind
    assert RESOURCE["labelsFromPath"] == {"namespace": ["metadata", "namespace"], "server": ["metadata", "name"]}
    assert METRICS["paused"]["each"]["gauge"]["path"][-1] == PAUSED_ANNOTATION


def test_every_metric_has_a_name_and_a_meaning_of_its_own() -> None:
    assert len(METRICS) == len(RESOURCE["metrics"])
    assert len({metric["help"] for metric in METRICS.values()}) == len(METRICS)


def test_an_absent_field_is_no_error_in_the_log() -> None:
    """Only what every DittoServer has from the start is missed when it is absent."""
    always = {"info", "created", "metadata_generation", "status_observed_generation", "spec_replicas"}
    assert {name for name, metric in METRICS.items() if "errorLogV" not in metric} == always


def test_every_metric_is_in_the_guide() -> None:
    guide = (FILE.parent.parent.parent / "docs/how-to/connect-other-tools.md").read_text()
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", guide, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} >= METRICS.keys()
