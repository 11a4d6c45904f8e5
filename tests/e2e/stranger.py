"""Somebody who has a clone of this repository and a cluster, and types what a page says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.controlplane.build import go_module
from tests.e2e.cluster import Cluster
from tests.harness.guides import ROOT
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell
from tests.helm.build import helm
from tests.helm.chart import environ_in


def open_shell(user: Namespace, folder: Path) -> Shell:
    """Opens a shell in a fresh copy of this repository, whose kubeconfig is for the user's namespace.

    The namespace is called `default` in what the terminal shows, as it is on the pages.
    """
    cluster = user.control_plane
    assert isinstance(cluster, Cluster)
    clone, home, scratch = folder / "dittofs-operator", folder / "home", folder / "scratch"
    home.mkdir()
    scratch.mkdir()
    _copy_repository(clone)

    programs = (go_module().built(os.environ), Path(helm(os.environ)).parent, Path(sys.executable).parent)
    environ = environ_in(cluster) | {
        "HOME": str(home),
        "KUBECONFIG": str(_kubeconfig(cluster, user.namespace, folder / "kubeconfig")),
        "KUBECACHEDIR": str(cluster.folder / "cache"),
        "KUBERC": "off",
        "PATH": ":".join((*map(str, programs), os.environ["PATH"])),
    }
    return Shell(clone, scratch, environ, aliases={user.namespace: "default"})


def _copy_repository(clone: Path) -> None:
    """Copies the files as they are here, with what is not committed yet, and without what is ignored."""
    listing = ("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0"):
        source, target = ROOT / name, clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _kubeconfig(cluster: Cluster, namespace: str, file: Path) -> Path:
    config = json.loads(cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    file.write_text(json.dumps(config))
    return file
