"""Builds the images of the end-to-end test as docker-archives: the operator's, and those of the stand-in.

It needs buildah, debootstrap and Debian's packages, but no registry.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.controlplane.program import Failed
from tests.harness.go_module import run
from tests.helm.chart import IMAGE

ROOT = Path(__file__).parent.parent.parent
OPERATOR = IMAGE
# The tags are versions of both families of servers; DITTOFS tells a reader nothing of its own.
DITTOFS, LEGACY, CURRENT, S3, PAUSE = "dittofs:e2e", "dittofs:0.8.0", "dittofs:0.29.0", "s3:e2e", "pause:e2e"
PRIVATE = "private:0.29.0"
# What the samples name, which only a registry has, and what stands for it here: busybox for any image with a shell.
SAMPLED = {"marmos91c/dittofs:v0.29.0": CURRENT, "marmos91c/dittofs:v0.8.3": LEGACY, "busybox:1.37": OPERATOR}
# The stages of the Dockerfile.
STAGES = {
    DITTOFS: "legacy",
    LEGACY: "legacy",
    CURRENT: "current",
    PRIVATE: "private",
    S3: "s3",
    PAUSE: "pause",
}
SUITE = "bookworm"
BASE = f"{SUITE}-python3"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TOOLS = ("buildah", "debootstrap", "runc", "ip", "nft", "iptables", "jq")


@dataclass(frozen=True)
class Builder:
    """Builds images apart from those of the machine; `cache` keeps the base image and the layers of the others."""

    cache: Path

    def archives(self, standin: Path, folder: Path) -> list[Path]:
        """Builds all images and saves them into the folder."""
        self.prepare_base()
        self._build_operator()
        for image, stage in STAGES.items():
            target = ("--layers", "--target", stage)
            self._buildah(f"Building {image}", "build", "--tag", image, *target, "--file", _dockerfile(), standin)

        return [self._save(image, folder) for image in (OPERATOR, *STAGES)]

    def prepare_base(self) -> Mapping[str, str]:
        """Builds the base of the operator's image; returns the variables with which `make image` uses it."""
        demand_tools()
        self.cache.mkdir(parents=True, exist_ok=True)
        self._configure()
        self._build_base()

        return {**self._settings, **self._variables}

    @property
    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self._settings}

    @property
    def _variables(self) -> dict[str, str]:
        trust = f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"
        return {"BASE": f"localhost/{BASE}", "BUILD_OPTIONS": f"--network=host {trust}"}

    @property
    def _settings(self) -> dict[str, str]:
        return {"CONTAINERS_STORAGE_CONF": str(self.cache / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}

    def _configure(self) -> None:
        lines = ("[storage]", 'driver = "overlay"', f'graphroot = "{self.cache / "storage"}"')
        (self.cache / "storage.conf").write_text("\n".join((*lines, f'runroot = "{self.cache / "run"}"', "")))

    def _build_base(self) -> None:
        """Builds Debian with Python, in place of the base in the Dockerfile, which only a registry has."""
        if (self.cache / BASE).exists():
            return

        with TemporaryDirectory(dir=self.cache) as scratch:
            system = Path(scratch, "system")
            packages = "--include=python3,python3-venv,ca-certificates"
            command = ("debootstrap", "--variant=minbase", packages, SUITE, system)
            run("Making a base image of Debian's packages, a minute", *command, environ=self._environ)
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
                shutil.rmtree(system / waste)

            dockerfile = Path(scratch, "Dockerfile")
            dockerfile.write_text("FROM scratch\nCOPY . /\n")
            self._buildah("Packing it", "build", "--tag", BASE, "--file", dockerfile, system)

        (self.cache / BASE).touch()

    def _build_operator(self) -> None:
        # The image keeps its default name, which the chart expects.
        options = f"BUILD_OPTIONS=--layers {self._variables['BUILD_OPTIONS']}"
        variables = ("BUILDER=buildah", f"BASE={self._variables['BASE']}", options)
        run(f"Building {OPERATOR}", "make", "--directory", ROOT, "image", *variables, environ=self._environ)

    def _save(self, image: str, folder: Path) -> Path:
        archive = folder / f"{Path(image).name.replace(':', '-')}.tar"
        self._buildah(f"Saving {image}", "push", "--quiet", image, f"docker-archive:{archive}:{image}")
        return archive

    def _buildah(self, what: str, *args: str | Path) -> None:
        run(what, "buildah", *args, environ=self._environ)


def demand_tools() -> None:
    if missing := [name for name in TOOLS if not shutil.which(name)]:
        raise Failed(f"The end-to-end test needs {', '.join(missing)}: see .ci/run for Debian's packages")


def _dockerfile() -> Path:
    return Path(__file__).with_name("standin") / "Dockerfile"
