"""Looks up what a review needs, all at once and under one deadline. It reduces Secrets to the traits of their keys."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from app.cluster.errors import ClusterError, NotFound, Unavailable, UnknownPath
from app.cluster.reader import (
    CLAIMS,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    VOLUME_SNAPSHOTS,
    Listing,
    Reader,
    Resource,
)
from app.storage.facts import (
    Claim,
    ExistingObject,
    Facts,
    Needs,
    Secret,
    StorageClass,
    StorageClasses,
    Unknown,
)

DEADLINE_SECONDS = 2.0
NO_SNAPSHOTS = "the cluster does not serve VolumeSnapshots; its CSI snapshotter is not installed"
NOTHING_TO_ASK = "neither a snapshot nor a cluster was given"

_RESOURCES = {resource.kind: resource for resource in (PRIORITY_CLASSES, SERVICE_ACCOUNTS, VOLUME_SNAPSHOTS)}

T = TypeVar("T")


async def gather(reader: Reader, needs: Needs, deadline_seconds: float = DEADLINE_SECONDS) -> Facts:
    """Asks all questions at once. What has no answer by the deadline is unknown, and spoils nothing else."""
    deadline = asyncio.get_running_loop().time() + deadline_seconds

    async def answer(question: Awaitable[T]) -> T | Unknown:
        try:
            async with asyncio.timeout_at(deadline):
                return await question
        except ClusterError as error:
            return Unknown(str(error))
        except TimeoutError:
            return Unknown(f"no answer within {deadline_seconds:g} s")

    async def get(resource: Resource, name: str, read: Callable[[Mapping[str, Any]], T]) -> T | None:
        try:
            return read(await reader.get(resource, name, needs.namespace))
        except NotFound:
            return None
        except UnknownPath:
            if resource == VOLUME_SNAPSHOTS:
                raise Unavailable(NO_SNAPSHOTS) from None
            raise

    async with asyncio.TaskGroup() as group:
        question = answer(reader.dry_run(STATEFUL_SETS, needs.stateful_set)) if needs.stateful_set else None
        dry_run = group.create_task(question) if question else None
        listed = group.create_task(answer(reader.list(STORAGE_CLASSES))) if needs.storage_classes else None
        secrets = {name: group.create_task(answer(get(SECRETS, name, Secret.read))) for name in sorted(needs.secrets)}
        names = sorted(needs.claims | needs.leftovers)
        claims = {name: group.create_task(answer(get(CLAIMS, name, Claim.read))) for name in names}
        existing = {
            reference: group.create_task(answer(get(_RESOURCES[reference.kind], reference.name, ExistingObject.read)))
            for reference in sorted(needs.objects)
        }

    classes = Facts().storage_classes
    if listed:
        listing = listed.result()
        listing = Listing(gap=listing.why) if isinstance(listing, Unknown) else listing
        classes = StorageClasses(tuple(StorageClass.read(item) for item in listing.items), listing.gap)

    # Without a cluster no earlier server is in question, and every new one would draw the same warning.
    unasked = {name for name in needs.leftovers if claims[name].result() == Unknown(NOTHING_TO_ASK)}
    return Facts(
        storage_classes=classes,
        secrets={name: task.result() for name, task in secrets.items()},
        claims={name: task.result() for name, task in claims.items() if name not in unasked},
        objects={reference: task.result() for reference, task in existing.items()},
        dry_run=dry_run.result() if dry_run else None,
    )
