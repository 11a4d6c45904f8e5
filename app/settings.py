"""What the command line and the environment can set, read once; frozen from then on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

ENVIRONMENT_PREFIX = "DITTOFS_OPERATOR_"


def users_kubeconfig(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """The files that kubectl merges when it is given none, without those that do not exist; none at all in a pod."""
    if named := environ.get("KUBECONFIG"):
        files = [Path(name) for name in dict.fromkeys(named.split(os.pathsep)) if name]
    else:
        files = [home / ".kube" / "config"]
    return tuple(file for file in files if file.exists())


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class AddressType(click.ParamType[Address]):
    """HOST:PORT on the command line; an IPv6 host stands in brackets, port 0 is any free one."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT, such as 0.0.0.0:9443", param, ctx)
        return Address(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True)
class Settings:
    """For `serve`. Without kubeconfig and snapshot, the cluster that the process runs in is meant.

    `namespace` are those that are looked after, empty for all of them. Without tls_cert and tls_key it makes its own
    certificate, and keeps it in a Secret.
    """

    listen: Address
    health_listen: Address
    tls_cert: Path | None
    tls_key: Path | None
    certificate_secret: str
    service: str
    webhook_configuration: str
    certificate_days: float
    ca_days: float
    kubeconfig: Path | None
    snapshot: Path | None
    reconcile: bool
    leader_elect: bool
    namespace: tuple[str, ...]
    workers: int
    resize_patience_seconds: int
