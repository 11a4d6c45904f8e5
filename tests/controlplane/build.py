"""The folder with kube-apiserver, kube-controller-manager, etcd and kubectl: $KUBEBUILDER_ASSETS, or one built from
the Go module of this folder and kept in the user's cache.
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


def programs(environ: Mapping[str, str]) -> Path:
    if assets := environ.get("KUBEBUILDER_ASSETS"):
        return _given(Path(assets).absolute())
    return go_module().built(environ)


def go_module(folder: Path = FOLDER) -> GoModule:
    number = version(folder)
    major, minor, _patch = number.removeprefix("v").split(".")
    # Without a version linked in, clients are told v0.0.0.
    stamps = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
    return GoModule(
        folder,
        package=".",
        names=PROGRAMS,
        stamps={f"k8s.io/component-base/version.{name}": value for name, value in stamps.items()},
        duration="about 10 minutes on 2 cores and 4 GB of disk; one minute when Go's caches are warm",
    )


def version(folder: Path = FOLDER) -> str:
    """The version of Kubernetes, such as v1.36.3."""
    return required_version(folder, "k8s.io/kubernetes")


def _given(folder: Path) -> Path:
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise Failed(f"KUBEBUILDER_ASSETS is {folder}, which lacks {', '.join(missing)}; unset it to build all of them")
    return folder


if __name__ == "__main__":
    try:
        print(programs(os.environ))
    except Failed as failure:
        sys.exit(str(failure))
