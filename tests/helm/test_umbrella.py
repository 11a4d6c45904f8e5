"""Renders the chart as a dependency of another one; tests/helm/test_release.py installs it that way."""

import re
from pathlib import Path

import pytest
import yaml

from app.storage.unstructured import Manifest
from tests.helm.chart import CHART, CRD, loaded, output, run, umbrella

NAMESPACE = "dittofs-system"
NAME = "dittofs-operator"
ALIASES = ({"alias": "storage", "condition": "storage.enabled"}, {"alias": "archive", "condition": "archive.enabled"})


def render(parent: Path, *values: str, release: str = "platform") -> list[Manifest]:
    flags = [part for value in values for part in ("--set", value)]
    return loaded(output(run("template", release, parent, "--namespace", NAMESPACE, *flags)))


def names(documents: list[Manifest], kind: str) -> list[str]:
    return [manifest["metadata"]["name"] for manifest in documents if manifest["kind"] == kind]


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_condition_includes_the_chart_or_not(tmp_path: Path, enabled: str) -> None:
    parent = umbrella(tmp_path, {"condition": f"{NAME}.enabled"})
    documents = render(parent, f"{NAME}.enabled={enabled}")
    assert names(documents, "Deployment") == (["platform-dittofs-operator"] if enabled == "true" else [])


def test_values_that_a_platform_adds_are_accepted(tmp_path: Path) -> None:
    parent = umbrella(tmp_path, {"condition": f"{NAME}.enabled", "tags": ["storage"]})
    platform = ("global.imageRegistry=registry.example.com", "tags.storage=true", f"{NAME}.enabled=true")
    below = (f"{NAME}.tags.storage=true", f"{NAME}.global.cattle.clusterId=local", f"{NAME}.exports.data.a=b")
    assert names(render(parent, *platform, *below), "Deployment") == ["platform-dittofs-operator"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("enable=true", "additional properties 'enable' not allowed"),
        ("enabled=yes", "at '/enabled': got string, want boolean"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("tags=storage", "at '/tags': got string, want object"),
    ],
)
def test_a_typing_error_is_still_rejected(tmp_path: Path, value: str, message: str) -> None:
    parent = umbrella(tmp_path, {})
    done = run("template", "platform", parent, "--set", f"{NAME}.{value}")
    assert done.returncode != 0
    assert message in done.stderr


def test_a_parent_can_import_values(tmp_path: Path) -> None:
    imported = {"import-values": [{"child": "image", "parent": "operatorImage"}]}
    data = "{image: {{ .Values.operatorImage.repository }}}"
    config_map = f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: own}}, data: {data}}}"

    documents = render(umbrella(tmp_path, imported, template=config_map))

    [config] = [manifest for manifest in documents if manifest["metadata"]["name"] == "own"]

    assert config["data"] == {"image": "localhost/dittofs-operator"}


def test_readme_shows_how_to_depend_on_it(tmp_path: Path) -> None:
    readme = (CHART / "README.md").read_text()
    [example] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)]
    [dependency] = example["dependencies"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]

    assert (dependency["name"], dependency["version"]) == (CHART.name, version)

    parent = umbrella(tmp_path, {**dependency, "repository": f"file://{CHART}"})

    assert render(parent, f"{dependency['condition']}=true")
    assert not render(parent, f"{dependency['condition']}=false")


def test_an_alias_names_the_objects(tmp_path: Path) -> None:
    parent = umbrella(tmp_path, {"alias": "storage", "condition": "storage.enabled"})
    documents = render(parent, "storage.enabled=true", "storage.replicas=1")

    [deployment] = [manifest for manifest in documents if manifest["kind"] == "Deployment"]
    [pod] = [manifest for manifest in documents if manifest["kind"] == "Pod"]

    assert deployment["metadata"]["name"] == "platform-storage"
    assert deployment["spec"]["replicas"] == 1
    assert not deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert not render(parent, "storage.enabled=false")


def test_two_aliases_share_no_object_and_no_pod(tmp_path: Path) -> None:
    documents = render(umbrella(tmp_path, *ALIASES), "archive.crds.enabled=false")

    keys = [
        (manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
        for manifest in documents
    ]

    assert len(keys) == len(set(keys))
    assert names(documents, "CustomResourceDefinition") == [CRD]

    storage, archive = (manifest["spec"] for manifest in documents if manifest["kind"] == "Deployment")

    assert not storage["selector"]["matchLabels"].items() <= archive["template"]["metadata"]["labels"].items()
    assert not archive["selector"]["matchLabels"].items() <= storage["template"]["metadata"]["labels"].items()
