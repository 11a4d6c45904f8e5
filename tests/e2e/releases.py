"""Builds a release as the page for maintainers says, and another one of the same commit in another folder.

The base of the image is the one of the other tests, because only a registry has the pinned one. It takes minutes, and
the other tests mostly wait, so that it goes on beside them: `python -m tests.e2e.releases FOLDER`.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.controlplane.program import Program
from tests.e2e.images import Builder
from tests.harness.go_module import cache
from tests.harness.guides import GUIDES, ROOT, type_page
from tests.harness.shell import Shell
from tests.release.repositories import copy_of_this

# What the page calls the version, and where the manifest for krew finds it by default.
VERSION = "0.2.0"
DOWNLOADS = "https://example.com/dittofs-operator"
BUILD_SECONDS = 1800.0


class Releases:
    """Two releases that are built inside a `with`, in the folders `first` and `second`."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = folder / "first", folder / "second"
        command = (sys.executable, "-m", __name__, folder)
        self._program = Program(*command, folder=ROOT, log=folder / "log", environ=os.environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    def wait(self) -> None:
        """Returns once both are built. Raises Failed with the end of the output otherwise."""
        if not self._program.ended(within=BUILD_SECONDS):
            raise self._program.failure("has not built two releases in time")
        if not self._program.succeeded:
            raise self._program.failure("has not built two releases")


def main(folder: Path) -> None:
    environ = os.environ | Builder(cache(os.environ) / "images").prepare_base()
    first = copy_of_this(folder / "first", time=1_700_000_000)
    _add_a_change(first / "CHANGELOG.md")
    _type_page(first, folder / "scratch", environ)

    second = folder / "second"
    shutil.copytree(first, second, ignore=shutil.ignore_patterns(".venv", "dist"))
    command = ("build", "--folder", second / "dist", "--platforms", _platform(), "--downloads", DOWNLOADS)
    subprocess.run([sys.executable, "-m", "manifests.release", *command], cwd=second, env=environ, check=True)


def _add_a_change(changelog: Path) -> None:
    """Lets a version be cut also right after another one."""
    heading = "## Unreleased\n"
    changelog.write_text(changelog.read_text().replace(heading, f"{heading}\n- A change.\n", 1))


def _type_page(clone: Path, scratch: Path, environ: Mapping[str, str]) -> None:
    scratch.mkdir()
    person = {f"GIT_{role}_{part}": "a@localhost" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}

    with Shell(clone, scratch, {**environ, **person, "PLATFORMS": _platform()}) as shell:
        type_page(GUIDES / "release.md", shell)


def _platform() -> str:
    """Returns this machine's platform, because others cannot be emulated everywhere."""
    return {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
