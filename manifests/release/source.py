"""Reads from the repository what a release is made of: its version, its time, its files."""

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "dittofs-operator"


@dataclass(frozen=True)
class ReleaseSource:
    """The commit that is released, and its time in seconds since 1970: the only time in any file of a release."""

    root: Path
    version: str
    revision: str
    time: int

    def path(self, name: str) -> Path:
        return self.root / name

    def tracked_files(self, folder: str) -> list[str]:
        """Returns the files of a folder that git knows, sorted, each relative to it."""
        return run_git(self.path(folder), "ls-files").splitlines()


def read_source(root: Path = ROOT) -> ReleaseSource:
    """Reads the source. SOURCE_DATE_EPOCH replaces the time of the commit, as it does in other build tools."""
    time = os.environ.get("SOURCE_DATE_EPOCH") or run_git(root, "show", "--no-patch", "--format=%ct", "HEAD")
    return ReleaseSource(root, project_version(root), run_git(root, "rev-parse", "HEAD"), int(time))


def project_version(root: Path = ROOT) -> str:
    """Returns the version in pyproject.toml, from which every other is derived."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def run_git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
