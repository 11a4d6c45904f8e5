"""The settings of `serve`, and the environment that the command line reads. Nothing changes after the start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from app.storage.rendering import ObjectDefaults

ENVIRONMENT_PREFIX = "DITTOFS_OPERATOR_"
# The variable by which the script of a shell asks what it can complete.
COMPLETION_VARIABLE = "_DITTOFS_COMPLETE"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "text")


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """The options of `serve`."""

    listen: Address
    health_listen: Address
    # Without these two, the operator manages a certificate itself and stores it in a Secret.
    tls_cert: Path | None
    tls_key: Path | None
    certificate_secret: str
    service: str
    webhook_configuration: str
    certificate_days: float
    ca_days: float
    # Without these two, the operator uses the cluster that it runs in.
    kubeconfig: Path | None
    snapshot: Path | None
    reconcile: bool
    leader_elect: bool
    server_metrics: bool
    namespace: tuple[str, ...]  # The namespaces to reconcile; empty for all.
    workers: int
    resize_patience_seconds: int
    defaults: ObjectDefaults
    cluster_domain: str | None  # Without it, that of /etc/resolv.conf.
    log_level: str  # One of LOG_LEVELS.
    log_format: str | None  # One of LOG_FORMATS. Without it, text on a terminal.


def release() -> str:
    """Returns the version of this program."""
    try:
        return version("dittofs-operator")
    except PackageNotFoundError:
        return "unreleased"


def default_kubeconfigs(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Returns the existing files that kubectl merges when it is given none; in a pod, there are usually none."""
    if names := environ.get("KUBECONFIG"):
        files = [Path(name) for name in dict.fromkeys(names.split(os.pathsep)) if name]
    else:
        files = [home / ".kube" / "config"]

    return tuple(file for file in files if file.exists())
