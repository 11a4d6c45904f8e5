"""Writes the manifest with which krew, kubectl's plugin manager, installs the single file."""

from pathlib import Path

from app.manifests import dump
from manifests.release.checksums import sha256
from manifests.release.plugin import PROGRAM, plugin_archive
from manifests.release.source import ReleaseSource

MANIFEST = "dittofs.yaml"
_ARCHITECTURES = "amd64", "arm64"


def build_krew_manifest(source: ReleaseSource, folder: Path, downloads: str) -> Path:
    """Writes the manifest for the archives in the folder; below the address `downloads` each version has its files."""
    archives = {name: folder / plugin_archive(source.version, name) for name in _ARCHITECTURES}
    platforms = [
        {
            "selector": {"matchLabels": {"os": "linux", "arch": architecture}},
            "uri": f"{downloads.rstrip('/')}/v{source.version}/{archive.name}",
            "sha256": sha256(archive),
            "bin": PROGRAM,
        }
        for architecture, archive in archives.items()
        if archive.exists()
    ]
    manifest = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "dittofs"},
        "spec": {
            "version": f"v{source.version}",
            "homepage": "https://github.com/marmos91/dittofs",
            "shortDescription": "Inspect, check and troubleshoot DittoFS file servers",
            "description": (
                "Shows how the DittoServers of a cluster are and what to do next, how to mount their shares, how full"
                " their volumes are, and what applying a manifest would do.\n"
            ),
            "platforms": platforms,
        },
    }

    path = folder / MANIFEST
    path.write_text(dump(manifest))
    return path
