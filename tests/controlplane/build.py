"""Provides kube-apiserver, kube-controller-manager, etcd and kubectl.

They come from $KUBEBUILDER_ASSETS, or are built from the Go module of this folder and kept in the user's cache. With
$KUBERNETES set to oldest or newest, the module of that folder is built instead: the bounds of what is supported.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.controlplane.program import Failed
from tests.harness.go_module import GoModule, required_version

REQUIRED = ("kube-apiserver", "etcd", "kubectl")
PROGRAMS = (*REQUIRED, "kube-controller-manager")
FOLDER = Path(__file__).parent
BOUNDS = ("oldest", "newest")
# The minor version from which on the API server checks the pod template of a StatefulSet.
TEMPLATES_CHECKED = 34


def programs(environ: Mapping[str, str]) -> Path:
    """Returns the folder with the programs."""
    if not (assets := environ.get("KUBEBUILDER_ASSETS")):
        return go_module(module_folder(environ)).built(environ)

    folder = Path(assets).absolute()
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise Failed(f"KUBEBUILDER_ASSETS is {folder}, which lacks {', '.join(missing)}; unset it to build all of them")

    return folder


def module_folder(environ: Mapping[str, str]) -> Path:
    """Returns the folder of the Go module for the version that $KUBERNETES chooses."""
    chosen = environ.get("KUBERNETES", "")
    if chosen and chosen not in BOUNDS:
        raise Failed(f"KUBERNETES is {chosen}, but has to be {' or '.join(BOUNDS)}; unset it for {version()}")
    return FOLDER / chosen


def go_module(folder: Path = FOLDER) -> GoModule:
    number = version(folder)
    major, minor, _patch = number.removeprefix("v").split(".")
    # Without a version linked in, the API server reports v0.0.0.
    stamps = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}

    return GoModule(
        folder,
        package=".",
        names=PROGRAMS,
        stamps={f"k8s.io/component-base/version.{name}": value for name, value in stamps.items()},
        duration="about 10 minutes on 2 cores and 4 GB of disk; one minute when Go's caches are warm",
    )


def version(folder: Path = FOLDER) -> str:
    """Returns the version of Kubernetes, such as v1.36.3."""
    return required_version(folder, "k8s.io/kubernetes")


def minor() -> int:
    """Returns the minor version of Kubernetes that the tests run with."""
    return int(version(module_folder(os.environ)).split(".")[1])


if __name__ == "__main__":
    try:
        print(programs(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
