"""The generated files are those that their sources make, and what kubectl installs is what Helm installs."""

import os
from collections.abc import Iterable

import yaml

from app.storage.unstructured import Manifest
from manifests.__main__ import INSTALL, NAME, NAMESPACE, files_from_chart, files_from_code
from tests.helm.build import helm
from tests.helm.chart import manifests


def test_generated_files_are_what_their_sources_make() -> None:
    generated = {**files_from_code(), **files_from_chart(helm(os.environ))}
    stale = [str(path) for path, text in generated.items() if path.read_text() != text]

    assert not stale, "run `make manifests`"


def test_no_yaml_anchor_is_in_them() -> None:
    assert not any("&id" in text or "*id" in text for text in files_from_code().values())


def test_kubectl_installs_what_helm_installs() -> None:
    installed = by_name(yaml.safe_load_all(INSTALL.read_text()))
    namespace = installed.pop(("Namespace", NAMESPACE))

    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}

    templated = by_name(manifests(NAME, NAMESPACE))

    assert installed.keys() == templated.keys()

    for key, manifest in templated.items():
        assert without_marks(installed[key]) == without_marks(manifest)


def by_name(found: Iterable[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def without_marks(manifest: Manifest) -> Manifest:
    """Without what tells Helm that an object is its own."""
    metadata = {**manifest["metadata"]}
    for name in ("labels", "annotations"):
        metadata[name] = {
            key: value
            for key, value in metadata.get(name, {}).items()
            if not key.startswith("helm.sh/") and (key, value) != ("app.kubernetes.io/managed-by", "Helm")
        }
    return {**manifest, "metadata": metadata}
