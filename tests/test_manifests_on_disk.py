"""The generated files match their sources, and kubectl installs what Helm installs."""

import os
from collections.abc import Iterable

import yaml

from app.storage.unstructured import Manifest
from manifests.__main__ import INSTALL, NAME, NAMESPACE, files_from_chart, files_from_code
from tests.helm.build import helm
from tests.helm.chart import manifests


def test_generated_files_match_their_sources() -> None:
    generated = {**files_from_code(), **files_from_chart(helm(os.environ))}
    stale = [str(path) for path, text in generated.items() if path.read_text() != text]

    assert not stale, "run `make manifests`"


def test_generated_files_have_no_yaml_anchors() -> None:
    assert not any("&id" in text or "*id" in text for text in files_from_code().values())


def test_kubectl_installs_what_helm_installs() -> None:
    installed = by_name(yaml.safe_load_all(INSTALL.read_text()))
    namespace = installed.pop(("Namespace", NAMESPACE))

    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}

    templated = by_name(manifests(NAME, NAMESPACE))

    assert installed.keys() == templated.keys()

    for key, manifest in templated.items():
        assert without_marks(installed[key]) == without_marks(manifest)


def by_name(manifests: Iterable[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def without_marks(manifest: Manifest) -> Manifest:
    """Returns the manifest without the marks by which Helm knows its objects."""
    metadata = {**manifest["metadata"]}
    for name in ("labels", "annotations"):
        metadata[name] = {
            key: value
            for key, value in metadata.get(name, {}).items()
            if not key.startswith("helm.sh/") and (key, value) != ("app.kubernetes.io/managed-by", "Helm")
        }

    return {**manifest, "metadata": metadata}
