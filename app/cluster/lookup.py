"""Looks up what a judgement needs, all at once and under one deadline. Of a Secret only its keys' traits are kept."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.reader import CLAIMS, SECRETS, STATEFUL_SETS, STORAGE_CLASSES, Listing, Reader, Resource
from app.cluster.snapshot import DEFAULT_NAMESPACE, find, objects, select
from app.manifests import Document
from app.storage.facts import Claim, DryRun, Facts, Needs, Secret, StorageClass, StorageClasses, Unknown
from app.storage.spec import KIND

DEADLINE = 2.0
NOTHING_GIVEN = "neither a snapshot nor a cluster was given"

Found = TypeVar("Found")


async def gather(reader: Reader, needs: Needs, deadline: float = DEADLINE) -> Facts:
    """Answers within `deadline` seconds; what was not answered by then is unknown, and spoils nothing else."""
    until = asyncio.get_running_loop().time() + deadline
    late = f"no answer within {deadline:g} s"

    async def answer(question: Awaitable[Found]) -> Found | Unknown:
        try:
            async with asyncio.timeout_at(until):
                return await question
        except ClusterError as error:
            return Unknown(str(error))
        except TimeoutError:
            return Unknown(late)

    async def look_up(resource: Resource, name: str, read: Callable[[Mapping[str, Any]], Found]) -> Found | None:
        try:
            return read(await reader.get(resource, name, needs.namespace))
        except NotFound:
            return None

    async def storage_classes() -> StorageClasses:
        listing = await answer(reader.list(STORAGE_CLASSES))
        if isinstance(listing, Unknown):
            return StorageClasses(gap=listing.why)
        return StorageClasses(tuple(StorageClass.read(item) for item in listing.items), listing.gap)

    async with asyncio.TaskGroup() as group:
        dry_run = answer(reader.dry_run(STATEFUL_SETS, needs.stateful_set)) if needs.stateful_set else None
        tried = group.create_task(dry_run) if dry_run else None
        classes = group.create_task(storage_classes()) if needs.storage_classes else None
        secrets = {
            name: group.create_task(answer(look_up(SECRETS, name, Secret.read))) for name in sorted(needs.secrets)
        }
        names = sorted(needs.claims | needs.leftovers)
        claims = {name: group.create_task(answer(look_up(CLAIMS, name, Claim.read))) for name in names}

    # Without a cluster there is no earlier server in question, and every new one would draw the same warning.
    unasked = {name for name in needs.leftovers if claims[name].result() == Unknown(NOTHING_GIVEN)}
    return Facts(
        storage_classes=classes.result() if classes else Facts().storage_classes,
        secrets={name: task.result() for name, task in secrets.items()},
        claims={name: task.result() for name, task in claims.items() if name not in unasked},
        dry_run=tried.result() if tried else None,
    )


class Overlay:
    """A Reader of documents given together, which count first, and of what lies beneath them, if anything does.

    DittoServers among them are what is judged, and no facts.
    """

    def __init__(self, documents: Iterable[Document], fallback: Reader | None = None) -> None:
        """Raises UnusableInput."""
        self._objects = objects(each for each in documents if each.object["kind"] != KIND)
        self._fallback: Reader = _Nothing() if fallback is None else fallback

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        try:
            return find(self._objects, resource, name, namespace)
        except NotFound:
            return await self._fallback.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        try:
            below = await self._fallback.list(resource, namespace, labels)
        except ClusterError as error:
            below = Listing(gap=str(error))
        own = select(self._objects, resource, namespace)
        names = {_identity(item) for item in own}
        return Listing((*own, *(item for item in below.items if _identity(item) not in names)), below.gap)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun | None:
        return await self._fallback.dry_run(resource, manifest)


class _Nothing:
    async def get(self, _resource: Resource, _name: str, _namespace: str | None = None) -> dict[str, Any]:
        raise Unavailable(NOTHING_GIVEN)

    async def list(self, _resource: Resource, _namespace: str | None = None, _labels: str = "") -> Listing:
        return Listing(gap=NOTHING_GIVEN)

    async def dry_run(self, _resource: Resource, _manifest: Mapping[str, Any]) -> DryRun | None:
        return None


def _identity(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace") or DEFAULT_NAMESPACE, item["metadata"]["name"]
