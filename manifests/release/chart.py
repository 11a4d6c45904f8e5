"""Packs the chart as `helm package` does, but always to the same bytes."""

from pathlib import Path

from manifests.release.archives import pack
from manifests.release.source import NAME, ReleaseSource

FOLDER = f"charts/{NAME}"
_NOT_PACKED = ".helmignore"


def build_chart(source: ReleaseSource, folder: Path) -> Path:
    """Packs the files of the chart that git knows; returns the package."""
    names = [name for name in source.tracked_files(FOLDER) if name != _NOT_PACKED]
    package = folder / f"{NAME}-{source.version}.tgz"
    pack(package, {f"{NAME}/{name}": source.path(FOLDER) / name for name in names}, source.time)
    return package
