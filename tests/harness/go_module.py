"""Builds programs for the tests from Go modules of this repository and keeps them in the user's cache.

It needs nothing but Python: the Go toolchain is a package on PyPI.
"""

import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.controlplane.program import Failed, Program

TOOLCHAIN = Path(__file__).parent.parent / "controlplane" / "requirements.lock"
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


@dataclass(frozen=True)
class GoModule:
    """A module whose `package` is compiled into one program that goes by each of the `names`.

    When `package` is the pattern `tool`, it is compiled into the programs that have those names. `stamps` are variables
    to link into them, `tags` leave code out or add some, and `duration` tells a person how long that takes.
    """

    folder: Path
    package: str
    names: tuple[str, ...]
    stamps: Mapping[str, str]
    duration: str
    tags: tuple[str, ...] = ()
    toolchain: Path = TOOLCHAIN

    def built(self, environ: Mapping[str, str]) -> Path:
        """Returns the folder with the programs, and builds them at most once for each content of the module.

        A second caller waits for the first one's build.
        """
        folder = cache(environ) / f"{self.folder.name}-{self.digest()}"
        if folder.exists():
            return folder

        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / "build.lock"):
            if not folder.exists():
                self._build(folder, environ)

        return folder

    def digest(self) -> str:
        """Returns a hash that changes with everything the programs are made of."""
        files = [self.folder / "go.mod", self.folder / "go.sum", self.toolchain, *sorted(self.folder.glob("*.go"))]
        parts = [*self._flags(), os.uname().sysname, os.uname().machine, *(file.read_text() for file in files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _flags(self) -> list[str]:
        link = " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in self.stamps.items())])
        tags = [f"-tags={','.join(self.tags)}"] if self.tags else []
        return ["-trimpath", "-mod=readonly", "-buildvcs=false", f"-ldflags={link}", *tags]

    def _build(self, folder: Path, environ: Mapping[str, str]) -> None:
        _print(f"Building {', '.join(self.names)} into {folder}.\nThe first time this takes {self.duration}.")
        # Renamed only when it is complete, so that an interrupted build leaves nothing that looks like a finished one.
        with TemporaryDirectory(prefix="building-", dir=folder.parent) as scratch:
            go = install_go(self.toolchain, Path(scratch), environ)
            built = Path(scratch, "built")
            built.mkdir()
            self.compile(go, built, environ)

            for name in self.names:
                if not (built / name).exists():
                    (built / name).symlink_to(self.folder.name)

            built.rename(folder)

    def compile(self, go: Path, target: Path, environ: Mapping[str, str]) -> None:
        """Compiles the programs into `target`, a folder that exists."""
        environ = {**environ, **GO_ENVIRONMENT}
        at: tuple[str | Path, ...] = ("-C", self.folder)

        counted = "modules downloaded"
        command: tuple[str | Path, ...] = ("list", *at, *self._flags(), "-deps", self.package)
        lines = run("Downloading Go modules", go, *command, environ=environ, counted=counted)
        packages = sum(not line.startswith("go: ") for line in lines)

        counted = f"of {packages} packages compiled; Go's cache may hold the others"
        command = ("build", *at, "-v", *self._flags(), "-o", target, self.package)
        run("Compiling and linking", go, *command, environ=environ, counted=counted)


def cache(environ: Mapping[str, str]) -> Path:
    """Returns the folder of what is built once for all runs of the tests."""
    return (Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "dittofs-operator").absolute()


def required_version(folder: Path, path: str) -> str:
    """Returns the version of a module that go.mod requires, such as v1.36.3."""
    requirement = re.search(rf"\s{re.escape(path)} (v\S+)", (folder / "go.mod").read_text())
    if not requirement:
        raise Failed(f"{folder / 'go.mod'} requires no {path}")

    return requirement[1]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _print("Waiting for another build to end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install_go(lock: Path, scratch: Path, environ: Mapping[str, str]) -> Path:
    """Installs the Go toolchain into the scratch folder and returns its go command."""
    home = scratch / "go"
    run("Making a virtual environment", sys.executable, "-m", "venv", home, environ=environ)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", lock)
    run("Installing the Go toolchain from PyPI", home / "bin/python", *pip, environ=environ)
    return home / "bin/go"


def run(what: str, *command: str | Path, environ: Mapping[str, str], counted: str = "") -> list[str]:
    """Runs a command and returns the lines that it wrote.

    Meanwhile it shows every 15 seconds how long the command has taken (on a terminal in place, each second). Where
    `counted` names what a line stands for, it also shows how many lines there are.
    """
    begun = time.monotonic()
    pause, start, end = (1, "\r\033[K", "") if sys.stderr.isatty() else (15, "", "\n")
    _print(f"{what}.")
    with TemporaryDirectory() as folder:
        program = Program(*command, folder=Path(folder), log=Path(folder, "log"), environ=environ)
        try:
            while not program.ended(within=pause):
                minutes, seconds = divmod(int(time.monotonic() - begun), 60)
                count = f"  {len(program.output())} {counted}" if counted else ""
                _print(f"{start}  {minutes}:{seconds:02}{count}", end)
        finally:
            program.stop()
            _print(start, end="")

        if not program.succeeded:
            raise program.failure(f"failed while {what[0].lower()}{what[1:]}")
        return program.output()


def _print(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
