"""Decides with which commands a release is published and signed, and whether it may be."""

import json
import tarfile
from pathlib import Path

from manifests.release.changelog import notes
from manifests.release.checksums import SUMS
from manifests.release.source import NAME, ReleaseSource, run_git

_SIGNATURE = f"{SUMS}.sigstore.json"


def why_not_publishable(source: ReleaseSource, folder: Path) -> str | None:
    """Returns what is missing for a release that is what its number says; None if nothing is."""
    tag = f"v{source.version}"

    if run_git(source.root, "status", "--porcelain"):
        return "There are changes that are not committed"
    if tag not in run_git(source.root, "tag", "--points-at", "HEAD").splitlines():
        return f"This commit has no tag {tag}"
    if not notes(source.path("CHANGELOG.md").read_text(), source.version):
        return f"CHANGELOG.md says nothing about {source.version}; run make cut"
    if not image_archive(source, folder).exists():
        return f"{folder} has no image of version {source.version}; run make release"
    return None


def publish_commands(source: ReleaseSource, folder: Path, registry: str) -> list[list[str]]:
    """Returns the commands in their order: image and chart first, because who reads of a release wants them.

    What is signed is the digest of the image, and the list with the digests of all files. No key is needed: cosign asks
    who runs it, which is the workflow.
    """
    archive = image_archive(source, folder)
    image = f"{registry}/{NAME}"
    tag = f"v{source.version}"
    files = [str(path) for path in sorted(folder.iterdir()) if path.name != _SIGNATURE]
    changes = notes(source.path("CHANGELOG.md").read_text(), source.version)

    return [
        [
            "skopeo",
            "copy",
            "--all",
            "--preserve-digests",
            f"oci-archive:{archive}",
            f"docker://{image}:{source.version}",
        ],
        ["cosign", "sign", "--yes", f"{image}@{image_digest(archive)}"],
        ["helm", "push", str(folder / f"{NAME}-{source.version}.tgz"), f"oci://{registry}/charts"],
        ["cosign", "sign-blob", "--yes", "--bundle", str(folder / _SIGNATURE), str(folder / SUMS)],
        [
            "gh",
            "release",
            "create",
            tag,
            "--verify-tag",
            "--title",
            tag,
            "--notes",
            changes,
            *files,
            str(folder / _SIGNATURE),
        ],
    ]


def image_archive(source: ReleaseSource, folder: Path) -> Path:
    return folder / f"{NAME}-{source.version}.oci.tar"


def image_digest(archive: Path) -> str:
    """Returns the digest of the image for all platforms in an OCI archive."""
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        [manifest] = json.load(index)["manifests"]
    return str(manifest["digest"])
