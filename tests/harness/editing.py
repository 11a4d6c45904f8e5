"""Edits and deletes live objects that a controller may write at the same time, and tries again on a conflict."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from app.cluster.client import Cluster
from app.cluster.errors import Conflict
from app.cluster.reader import Resource
from app.storage.unstructured import Manifest, ObjectKey

Result = TypeVar("Result")


async def edit(
    cluster: Cluster, resource: Resource, key: ObjectKey, change: Callable[[Manifest], Manifest]
) -> Manifest:
    """Writes what `change` makes of the live object, and returns the object as it was written."""
    namespace, name = key

    async def write() -> Manifest:
        return await cluster.replace(resource, change(await cluster.get(resource, name, namespace)))

    return await _without_conflict(write)


async def delete(cluster: Cluster, resource: Resource, key: ObjectKey, *, orphan: bool = False) -> None:
    """Deletes the object as kubectl does, whatever its version is."""
    namespace, name = key

    async def write() -> None:
        await cluster.delete(resource, await cluster.get(resource, name, namespace), orphan=orphan)

    await _without_conflict(write)


async def _without_conflict(write: Callable[[], Awaitable[Result]]) -> Result:
    async with asyncio.timeout(60):
        while True:
            with suppress(Conflict):
                return await write()
