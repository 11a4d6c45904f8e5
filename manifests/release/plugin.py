"""Builds kubectl's plugin as a single file that contains the interpreter, for machines like the one that builds it.

The interpreter is the one that runs this; it needs the C library of this machine or a newer one.
"""

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from manifests.release.archives import pack
from manifests.release.source import ReleaseSource

PROGRAM = "kubectl-dittofs"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class CannotBuild(Exception):
    """The machine, or what it holds, is not fit for a build."""


def this_architecture() -> str:
    """Returns the architecture of this machine in the words of Kubernetes."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _ARCHITECTURES:
        raise CannotBuild(f"The single file is for Linux on amd64 and arm64, not for {platform.system()} on {machine}")
    return _ARCHITECTURES[machine]


def plugin_archive(version: str, architecture: str) -> str:
    return f"{PROGRAM}-{version}-linux-{architecture}.tar.gz"


def build_plugin(source: ReleaseSource, wheel: Path, folder: Path) -> Path:
    """Builds the file from the wheel and the locked packages; returns the archive that contains it."""
    archive = folder / plugin_archive(source.version, this_architecture())

    with TemporaryDirectory() as name:
        scratch = Path(name)
        _run(sys.executable, "-m", "venv", scratch / "venv")
        lock = source.path("requirements-plugin.lock")
        pip = (scratch / "venv/bin/pip", "--disable-pip-version-check", "install", "--quiet")
        _run(*pip, "--only-binary=:all:", "--require-hashes", "--requirement", lock)

        # Not installed, because that would note the path of this folder in the metadata.
        unpacked = scratch / "wheel"
        zipfile.ZipFile(wheel).extractall(unpacked)
        program = _freeze(source, unpacked, scratch)
        pack(archive, {PROGRAM: program, "LICENSE": source.path("LICENSE")}, source.time)

    return archive


def _freeze(source: ReleaseSource, unpacked: Path, scratch: Path) -> Path:
    [metadata] = unpacked.glob("*.dist-info")
    launcher = scratch / f"{PROGRAM}.py"
    launcher.write_bytes(source.path("manifests/release/launcher.py").read_bytes())

    # Commands are imported by name when they run.
    options = ["--onefile", "--log-level=ERROR", f"--name={PROGRAM}", f"--paths={unpacked}"]
    options += [
        "--collect-submodules=app",
        "--collect-submodules=certs",
        "--collect-data=app",
        f"--add-data={metadata}:{metadata.name}",
    ]
    folders = [f"--{kind}path={scratch / kind}" for kind in ("dist", "work", "spec")]
    # The order of sets is part of compiled code.
    fixed = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(source.time)}
    environ = {**os.environ, **fixed, "PYTHONPATH": str(unpacked), "PYINSTALLER_CONFIG_DIR": str(scratch / "config")}
    _run(scratch / "venv/bin/pyinstaller", *options, *folders, launcher, environ=environ)

    return scratch / "dist" / PROGRAM


def _run(*command: str | Path, environ: dict[str, str] | None = None) -> None:
    process = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
    if process.returncode:
        raise CannotBuild(f"{Path(command[0]).name} failed:\n{process.stdout}{process.stderr}")
