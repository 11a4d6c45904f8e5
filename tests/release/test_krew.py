from pathlib import Path

import pytest
import yaml

from manifests.release.checksums import sha256
from manifests.release.krew import build_krew_manifest
from manifests.release.plugin import plugin_archive
from manifests.release.source import project_version, read_source


@pytest.mark.parametrize("architectures", [("amd64",), ("amd64", "arm64")])
def test_each_archive_is_named_by_address_and_digest(architectures: tuple[str, ...], tmp_path: Path) -> None:
    archives = [tmp_path / plugin_archive(project_version(), architecture) for architecture in architectures]
    for archive in archives:
        archive.write_text(archive.name)

    path = build_krew_manifest(read_source(), tmp_path, "https://example.com/releases/")
    manifest = yaml.safe_load(path.read_text())

    assert (manifest["kind"], manifest["metadata"]["name"]) == ("Plugin", path.stem)
    assert manifest["spec"]["version"] == f"v{project_version()}"
    assert manifest["spec"]["platforms"] == [
        {
            "selector": {"matchLabels": {"os": "linux", "arch": architecture}},
            "uri": f"https://example.com/releases/v{project_version()}/{archive.name}",
            "sha256": sha256(archive),
            "bin": "kubectl-dittofs",
        }
        for architecture, archive in zip(architectures, archives, strict=True)
    ]
