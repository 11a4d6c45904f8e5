"""Finds what a shell can complete: servers, shares, namespaces and contexts. Whatever fails, it stays silent."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cluster.errors import ClusterError
from app.cluster.reader import DITTO_SERVERS, NAMESPACES
from app.settings import default_kubeconfigs
from app.storage.unstructured import Manifest, namespaced_key
from app.storage.unusable_input import UnusableInput

if TYPE_CHECKING:
    from app.cluster.snapshot import Snapshot

# A person who has pressed a key waits no longer than this.
TIMEOUT_SECONDS = 2.0

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_servers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Returns the names of the servers in the namespace, without those that are there already."""
    typed = context.params.get(str(parameter.name)) or ()
    names = {namespaced_key(server)[1] for server in _find(_list_servers(context.params))}
    return _starting_with(incomplete, names.difference((typed,) if isinstance(typed, str) else typed))


def complete_shares(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Returns the shares of the server that is named before."""
    servers = _find(_list_servers(context.params))
    server = next((server for server in servers if server["metadata"]["name"] == context.params.get("name")), {})
    lists = [(server.get(part) or {}).get("shares") for part in ("spec", "status")]
    entries = [entry for entries in lists if isinstance(entries, list) for entry in entries if isinstance(entry, dict)]
    return _starting_with(incomplete, {str(entry.get("name") or "") for entry in entries})


def complete_namespaces(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return _starting_with(incomplete, (item["metadata"]["name"] for item in _find(_list_namespaces(context.params))))


def complete_contexts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from app.cluster.kubeconfig import context_names

    try:
        return _starting_with(incomplete, context_names(_kubeconfigs(context.params)))
    except (OSError, ValueError, TypeError):
        return []


def _find(search: Coroutine[Any, Any, list[Manifest]]) -> list[Manifest]:
    try:
        return asyncio.run(asyncio.wait_for(search, TIMEOUT_SECONDS))
    except (ClusterError, UnusableInput, OSError, TimeoutError):
        # An error message would end up in the middle of what the person is typing.
        return []


async def _list_servers(options: dict[str, Any]) -> list[Manifest]:
    if snapshot := _snapshot(options):
        return list((await snapshot.list(DITTO_SERVERS, options.get("namespace"))).items)

    async with _connect(options) as cluster:
        within = None if options.get("all_namespaces") else options.get("namespace") or cluster.namespace
        return list((await cluster.list(DITTO_SERVERS, within)).items)


async def _list_namespaces(options: dict[str, Any]) -> list[Manifest]:
    if snapshot := _snapshot(options):
        servers = (await snapshot.list(DITTO_SERVERS)).items
        return [{"metadata": {"name": namespaced_key(server)[0]}} for server in servers]

    async with _connect(options) as cluster:
        return list((await cluster.list(NAMESPACES)).items)


def _snapshot(options: dict[str, Any]) -> "Snapshot | None":
    from app.cluster.snapshot import Snapshot

    return Snapshot(Path(options["snapshot"])) if options.get("snapshot") else None


def _connect(options: dict[str, Any]) -> Any:
    from app.cluster.client import Cluster

    return Cluster.connect(_kubeconfigs(options), context=options.get("context") or "")


def _kubeconfigs(options: dict[str, Any]) -> tuple[Path, ...]:
    kubeconfig = options.get("kubeconfig")
    return (Path(kubeconfig),) if kubeconfig else default_kubeconfigs(os.environ, Path.home())


def _starting_with(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete) and name.isprintable() and name})
