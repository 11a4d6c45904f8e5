"""Arguments and options that several commands share, and the cluster or snapshot that they look things up in."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.cli.candidates import complete_contexts, complete_namespaces, complete_servers
from app.settings import ENVIRONMENT_PREFIX, Address, default_kubeconfigs
from app.storage.object_defaults import why_not_usable
from app.storage.rendering import ObjectDefaults
from app.storage.spec import KIND
from app.storage.unusable_input import UnusableInput

# A pod can do without what reads files, and a command that reads them without what asks a cluster.
if TYPE_CHECKING:
    from app.cluster.client import Cluster
    from app.cluster.snapshot import Snapshot
    from app.cluster.survey import Stats
    from app.manifests import Document

Function = TypeVar("Function", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_servers)
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

report_option = option(
    "--output",
    "-o",
    type=click.Choice(["text", "wide", "json", "yaml"]),
    default="text",
    help="Output format: text for people, wide for more details, json or yaml for programs.",
)

context_option = option(
    "--context",
    shell_complete=complete_contexts,
    help="Context of the kubeconfig to use instead of its current one.",
)
namespace_option = option(
    "--namespace",
    "-n",
    shell_complete=complete_namespaces,
    help="Namespace to look in; by default, the one of the kubeconfig's context.",
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

    @property
    def title(self) -> str:
        """Returns the name of the context or snapshot. Raises OSError, TypeError and ValueError unless it was open."""
        if self.snapshot:
            return f"snapshot {self.snapshot.name}"

        from app.cluster.kubeconfig import current_context

        files = (self.kubeconfig,) if self.kubeconfig else default_kubeconfigs(os.environ, Path.home())
        context = self.context or current_context(files)
        return f"context {context}" if context else "the cluster of this pod"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple["Cluster | Snapshot", str | None, "Stats | None"]]:
        """Yields a reader, its context's namespace and kubelets' stats. Raises ClusterError and UnusableInput."""
        if self.snapshot:
            from app.cluster.snapshot import Snapshot

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
    @context_option
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
    @context_option
    @namespace_option
    @wraps(command)
    def run(*args: Any, kubeconfig: Path | None, context: str | None, **options: Any) -> None:
        command(*args, source=Source(kubeconfig, context, None), **options)

    return run


@dataclass(frozen=True)
class Scope:
    """The servers that a command is about: of all namespaces without one, and all of them without names and labels."""

    namespace: str | None = None
    names: tuple[str, ...] = ()
    labels: str = ""

    @property
    def title(self) -> str:
        place = f"namespace {self.namespace}" if self.namespace else "all namespaces"
        return f"{place}, label {self.labels}" if self.labels else place


@dataclass(frozen=True)
class Target:
    """The servers that a person chose, and the cluster or snapshot that they are in."""

    source: Source
    namespace: str | None = None
    names: tuple[str, ...] = ()
    labels: str = ""
    is_everywhere: bool = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple["Cluster | Snapshot", Scope, "Stats | None"]]:
        """Yields a reader, the servers to ask it about, and kubelets' stats. Raises ClusterError and UnusableInput."""
        async with self.source.open() as (reader, context_namespace, stats):
            yield reader, self._scope(context_namespace), stats

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple["Cluster", Scope]]:
        async with self.source.connect() as cluster:
            yield cluster, self._scope(cluster.namespace)

    def _scope(self, context_namespace: str | None) -> Scope:
        namespace = None if self.is_everywhere else self.namespace or context_namespace
        return Scope(namespace, self.names, self.labels)


all_namespaces_option = option("--all-namespaces", "-A", is_flag=True, help="Look in all namespaces.")
selector_option = option("--selector", "-l", help="Label selector of the DittoServers, such as team=media.")


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds NAME..., -n, -A, -l and the source to a command that reads, which receives them as one `target`."""

    @names_argument
    @source_options
    @namespace_option
    @all_namespaces_option
    @selector_option
    @wraps(command)
    def run(*args: Any, source: Source, selector: str | None, names: tuple[str, ...], **options: Any) -> None:
        if selector and source.snapshot:
            raise click.UsageError("--selector and --snapshot cannot be used together: choose servers by name")
        command(*args, **_with_target(source, names, selector, options))

    return run


def live_target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the same to a command that needs a cluster and the person's choice of servers."""

    @click.argument("names", nargs=-1, metavar="NAME...", shell_complete=complete_servers)
    @cluster_options
    @all_namespaces_option
    @selector_option
    @wraps(command)
    def run(*args: Any, source: Source, selector: str | None, names: tuple[str, ...], **options: Any) -> None:
        if not names and not selector:
            raise click.UsageError("name the DittoServers, or select them with --selector")
        command(*args, **_with_target(source, names, selector, options))

    return run


def installation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --operator-namespace and the choice of servers to a command about the operator and its servers."""

    @names_argument
    @cluster_options
    @all_namespaces_option
    @selector_option
    @option("--operator-namespace", help="Namespace of the operator; by default, all namespaces are searched for it.")
    @wraps(command)
    def run(*args: Any, source: Source, selector: str | None, names: tuple[str, ...], **options: Any) -> None:
        command(*args, **_with_target(source, names, selector, options))

    return run


def _with_target(
    source: Source, names: tuple[str, ...], selector: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    if selector and names:
        raise click.UsageError("NAME and --selector cannot be used together")

    namespace, is_everywhere = options["namespace"], options["all_namespaces"]
    target = Target(source, namespace, tuple(dict.fromkeys(names)), selector or "", is_everywhere)
    others = {name: value for name, value in options.items() if name not in ("namespace", "all_namespaces")}
    return {**others, "target": target}


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


def read_documents(paths: Sequence[str]) -> "list[Document]":
    """Reads the manifests. Raises UnusableInput when there is no DittoServer among them."""
    from app.manifests import read

    documents = read(paths)
    if not any(document.object["kind"] == KIND for document in documents):
        raise UnusableInput(", ".join(paths), None, f"expected at least one {KIND}, found none")
    return documents


def read_servers(paths: Sequence[str]) -> "list[Document]":
    """Reads the DittoServers among the manifests. Raises UnusableInput when there is none."""
    return [document for document in read_documents(paths) if document.object["kind"] == KIND]
