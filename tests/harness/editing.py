"""Edits of live objects that a controller may write at the same time: read, change, write, and again on a conflict."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from app.cluster.client import Cluster
from app.cluster.errors import Conflict
from app.cluster.reader import Resource
from app.storage.unstructured import Manifest, ObjectKey

Result = TypeVar("Result")


async def without_conflict(work: Callable[[], Awaitable[Result]]) -> Result:
    """Repeats the work until nobody else has written the same object at the same time."""
    async with asyncio.timeout(60):
        while True:
            with suppress(Conflict):
                return await work()


async def edit(
    cluster: Cluster, resource: Resource, key: ObjectKey, change: Callable[[Manifest], Manifest]
) -> Manifest:
    """Writes what `change` makes of the live object, and returns the object as it was written."""
    namespace, name = key

    async def write() -> Manifest:
        return await cluster.replace(resource, change(await cluster.get(resource, name, namespace)))

    return await without_conflict(write)
