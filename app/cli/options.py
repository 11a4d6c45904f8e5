"""Arguments and options that several commands share, and the cluster or snapshot that they look things up in."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app import manifests
from app.cluster.snapshot import Snapshot
from app.settings import ENVIRONMENT_PREFIX, Address, default_kubeconfigs
from app.storage.object_defaults import why_not_usable
from app.storage.rendering import ObjectDefaults
from app.storage.spec import KIND
from app.storage.unusable_input import UnusableInput

if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.survey import Stats

Function = TypeVar("Function", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

names_argument = click.argument("names", nargs=-1, required=True, metavar="NAME...")
paths_argument = click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|- ...", type=click.Path())


def option(flag: str, *short: str, **attributes: Any) -> Callable[[Function], Function]:
    """Declares a flag that an environment variable can set, too."""
    variable = ENVIRONMENT_PREFIX + flag.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *short, envvar=variable, show_envvar=True, show_default=True, **attributes)


output_option = option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Output format: text for people, json for programs.",
)


def parse_address(text: str) -> Address:
    """Parses HOST:PORT; an IPv6 host stands in brackets, and port 0 is any free one."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as 0.0.0.0:9443")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


address_option = partial(option, type=parse_address, metavar="HOST:PORT")


@dataclass(frozen=True)
class Source:
    """The cluster or snapshot that a person named; if they named none, it is the cluster that kubectl uses."""

    kubeconfig: Path | None
    context: str | None
    snapshot: Path | None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple["Cluster | Snapshot", str | None, "Stats | None"]]:
        """Yields a reader, its context's namespace and kubelets' stats. Raises ClusterError and UnusableInput."""
        if self.snapshot:
            yield Snapshot(self.snapshot), None, None
            return

        async with self.connect() as cluster:
            yield cluster, cluster.namespace, cluster.stats

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Cluster"]:
        from app.cluster.client import Cluster

        kubeconfig = self.kubeconfig or default_kubeconfigs(os.environ, Path.home())
        async with Cluster.connect(kubeconfig, context=self.context or "") as cluster:
            yield cluster


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --kubeconfig, --context and --snapshot to a command, which receives them as one `source`."""

    @option("--kubeconfig", type=PATH, help="Kubeconfig file of the cluster to use.")
    @option("--context", help="Context of the kubeconfig to use instead of its current one.")
    @option("--snapshot", type=PATH, help="File or folder of manifests to use instead of a cluster.")
    @wraps(command)
    def run(*args: Any, kubeconfig: Path | None, context: str | None, snapshot: Path | None, **options: Any) -> None:
        refuse_two_sources(kubeconfig, snapshot)
        if context and snapshot:
            raise click.UsageError("--context and --snapshot cannot be used together: a snapshot has no contexts")

        command(*args, source=Source(kubeconfig, context, snapshot), **options)

    return run


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --kubeconfig, --context and --namespace to a command that writes; it receives a `source` and a namespace."""

    @option("--kubeconfig", type=PATH, help="Kubeconfig file of the cluster to use.")
    @option("--context", help="Context of the kubeconfig to use instead of its current one.")
    @option("--namespace", "-n", help="Namespace of the server; by default, the one of the kubeconfig's context.")
    @wraps(command)
    def run(*args: Any, kubeconfig: Path | None, context: str | None, **options: Any) -> None:
        command(*args, source=Source(kubeconfig, context, None), **options)

    return run


def parse_entry(text: str) -> tuple[str, str]:
    """Parses KEY=VALUE at the first equals sign, which no key has."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE, such as team=storage")
    return key, value


entries_option = partial(option, type=parse_entry, metavar="KEY=VALUE", multiple=True)


def defaults_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what all objects of all servers get to a command, which receives it as `defaults`."""

    @entries_option(
        "--object-label",
        help="Label for all objects of all DittoServers, pods included; can be given more than once.",
    )
    @entries_option(
        "--object-annotation",
        help="Annotation for all objects of all DittoServers, pods included; can be given more than once.",
    )
    @option(
        "--image-pull-secret",
        multiple=True,
        help="Secret in the namespace of each DittoServer with which its image is pulled; can be given more than once.",
    )
    @wraps(command)
    def run(
        *args: Any,
        object_label: Sequence[tuple[str, str]],
        object_annotation: Sequence[tuple[str, str]],
        image_pull_secret: Sequence[str],
        **options: Any,
    ) -> None:
        pull_secrets = tuple(dict.fromkeys(image_pull_secret))
        defaults = ObjectDefaults(
            _by_key("--object-label", object_label), _by_key("--object-annotation", object_annotation), pull_secrets
        )
        if why := why_not_usable(defaults):
            raise click.UsageError(why)

        command(*args, defaults=defaults, **options)

    return run


def _by_key(flag: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise click.UsageError(f'{flag} sets "{repeated}" more than once')
    return entries


def refuse_two_sources(kubeconfig: Path | None, snapshot: Path | None) -> None:
    if kubeconfig and snapshot:
        raise click.UsageError("--kubeconfig and --snapshot cannot be used together: choose a cluster or a snapshot")


def read_documents(paths: Sequence[str]) -> list[manifests.Document]:
    """Reads the manifests. Raises UnusableInput when there is no DittoServer among them."""
    documents = manifests.read(paths)
    if not any(document.object["kind"] == KIND for document in documents):
        raise UnusableInput(", ".join(paths), None, f"expected at least one {KIND}, found none")
    return documents


def read_servers(paths: Sequence[str]) -> list[manifests.Document]:
    """Reads the DittoServers among the manifests. Raises UnusableInput when there is none."""
    return [document for document in read_documents(paths) if document.object["kind"] == KIND]
