"""Builds the image of the operator for several platforms as one OCI archive, always to the same bytes."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from manifests.release.archives import pack
from manifests.release.publish import image_archive
from manifests.release.source import NAME, ReleaseSource


def build_image(source: ReleaseSource, folder: Path, platforms: str) -> Path:
    """Builds with buildah through `make image`, which reads BASE and BUILD_OPTIONS; returns the archive.

    The archive is packed here: that of buildah contains the time of the build.
    """
    archive = image_archive(source, folder)
    index = f"localhost/{NAME}-release:{source.version}"

    with TemporaryDirectory() as scratch:
        subprocess.run(["buildah", "manifest", "rm", index], check=False, capture_output=True)
        options = (
            f"--platform={platforms} --manifest={index} --timestamp={source.time} {os.environ.get('BUILD_OPTIONS', '')}"
        )
        make = ("make", "--silent", "image", "BUILDER=buildah", f"BUILD_OPTIONS={options}", "IMAGE=")
        subprocess.run(make, cwd=source.root, check=True)

        layout = Path(scratch, "layout")
        target = f"oci:{layout}:{source.version}"
        subprocess.run(["buildah", "manifest", "push", "--quiet", "--all", index, target], check=True)
        files = {str(path.relative_to(layout)): path for path in layout.rglob("*") if path.is_file()}
        pack(archive, files, source.time)

    return archive
