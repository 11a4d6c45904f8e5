"""Looks up what a review needs, all at once and under one deadline. It reduces Secrets to the traits of their keys."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import product
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

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
    UNKNOWN_CLASSES,
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

_FOUND, _ABSENT, _UNKNOWN = "found", "absent", "unknown"
_KINDS = [resource.kind for resource in (STORAGE_CLASSES, SECRETS, CLAIMS, STATEFUL_SETS, *_RESOURCES.values())]

LOOKUPS = Counter(
    "dittofs_operator_lookups",
    "Objects that admission reviews looked up, by result: found, absent, or unknown when the API server gave no "
    "answer. Lookups of a StatefulSet are dry runs, found once they are answered.",
    ["kind", "result"],
)
DURATION = Histogram(
    "dittofs_operator_lookup_duration_seconds",
    "How long the API server took for a lookup of an admission review; there are fewer of these than lookups, because "
    "most are answered from memory.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, DEADLINE_SECONDS),
)
# The children are looked up once: `labels` takes longer than to count.
_LOOKUPS = {labels: LOOKUPS.labels(*labels) for labels in product(_KINDS, (_FOUND, _ABSENT, _UNKNOWN))}
_DURATIONS = {kind: DURATION.labels(kind) for kind in _KINDS}

T = TypeVar("T")


async def gather(reader: Reader, needs: Needs, deadline_seconds: float = DEADLINE_SECONDS) -> Facts:
    """Asks all questions at once. What has no answer by the deadline is unknown, and spoils nothing else."""
    if not needs:
        return Facts()

    deadline = asyncio.get_running_loop().time() + deadline_seconds

    async def answer(resource: Resource, question: Awaitable[T]) -> T | Unknown:
        result: T | Unknown
        with _DURATIONS[resource.kind].time():
            try:
                async with asyncio.timeout_at(deadline):
                    result = await question
            except ClusterError as error:
                result = Unknown(str(error))
            except TimeoutError:
                result = Unknown(f"no answer within {deadline_seconds:g} s")

        _count(resource, result)
        return result

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
        attempt = reader.dry_run(STATEFUL_SETS, needs.stateful_set) if needs.stateful_set else None
        dry_run = group.create_task(answer(STATEFUL_SETS, attempt)) if attempt else None
        all_classes = answer(STORAGE_CLASSES, reader.list(STORAGE_CLASSES)) if needs.storage_classes else None
        listed = group.create_task(all_classes) if all_classes else None
        secrets = {
            name: group.create_task(answer(SECRETS, get(SECRETS, name, Secret.read))) for name in sorted(needs.secrets)
        }
        names = sorted(needs.claims | needs.leftovers)
        claims = {name: group.create_task(answer(CLAIMS, get(CLAIMS, name, Claim.read))) for name in names}
        existing = {
            reference: group.create_task(answer(resource, get(resource, reference.name, ExistingObject.read)))
            for reference in sorted(needs.objects)
            for resource in (_RESOURCES[reference.kind],)
        }

    classes = UNKNOWN_CLASSES
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


def count_known(facts: Facts) -> None:
    """Counts the lookups that were answered without asking anybody: each for all objects of a kind, to be quick."""
    if facts.storage_classes.gap is None:
        _LOOKUPS[STORAGE_CLASSES.kind, _FOUND].inc()

    for kind, answers in ((SECRETS.kind, facts.secrets), (CLAIMS.kind, facts.claims)):
        absent = len([answer for answer in answers.values() if answer is None])
        if absent:
            _LOOKUPS[kind, _ABSENT].inc(absent)
        if absent < len(answers):
            _LOOKUPS[kind, _FOUND].inc(len(answers) - absent)


def _count(resource: Resource, result: object) -> None:
    is_unknown = isinstance(result, Unknown) or (isinstance(result, Listing) and result.gap is not None)
    _LOOKUPS[resource.kind, _UNKNOWN if is_unknown else _ABSENT if result is None else _FOUND].inc()
