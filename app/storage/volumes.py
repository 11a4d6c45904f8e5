"""The volumes of a server: their names, sizes and mount paths, and which changes of them a live claim can follow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.storage import quantity
from app.storage.facts import Claim, StorageClasses
from app.storage.spec import Storage


@dataclass(frozen=True)
class Volume:
    """One volume claim template; `size` is None while the server has no such volume."""

    name: str
    field: str
    mount_path: str
    size: str | None

    @property
    def bytes(self) -> int | None:
        return None if self.size is None else quantity.parse(self.size)

    def claim_name(self, server: str) -> str:
        """The claim of the only pod, as the StatefulSet controller names it."""
        return f"{self.name}-{server}-0"


# The control plane's database is a folder of the metadata volume, mounted a second time.
DATABASE_MOUNT_PATH = "/data/controlplane"
_CLAIM_NAME = re.compile("(?:metadata|content|cache)-(.+)-0")


def volumes(storage: Storage) -> tuple[Volume, ...]:
    """Every volume in the order of the claim templates."""
    return (
        Volume("metadata", "spec.storage.metadataSize", "/data/metadata", storage.metadata_size),
        Volume("content", "spec.storage.contentSize", "/data/content", storage.content_size),
        Volume("cache", "spec.storage.cacheSize", "/data/cache", storage.cache_size),
    )


def server_of_claim(claim: str) -> str | None:
    """The server whose volume a claim of this name would be, whether there is such a server or not.

    The name alone identifies a claim: one that was restored or provisioned by hand has none of our labels.
    """
    match = _CLAIM_NAME.fullmatch(claim)
    return match[1] if match else None


def mount_paths(storage: Storage) -> tuple[str, ...]:
    return (*(volume.mount_path for volume in volumes(storage) if volume.size), DATABASE_MOUNT_PATH)


def storage_class_of(storage: Storage, claim: Claim | None, classes: StorageClasses) -> str | None:
    """The class that a claim has, or will have; None where it is to be the default one and there is none."""
    if claim and (claim.storage_class is not None or is_bound(claim)):
        return claim.storage_class or ""
    if storage.storage_class_name is not None:
        return storage.storage_class_name
    return classes.default.name if classes.default else None


def resized(new: Storage, old: Storage) -> Iterator[Volume]:
    """The volumes of `new` that have no size or another one in `old`; 1024Mi is no other size than 1Gi."""
    for volume, former in zip(volumes(new), volumes(old), strict=True):
        if volume.bytes is not None and volume.bytes != former.bytes:
            yield volume


def refusal(volume: Volume, claim: Claim, classes: StorageClasses) -> str | None:
    """Why the live claim cannot have the volume's size; None when it can, or when nothing tells that it cannot."""
    if claim.capacity is None or volume.bytes is None:
        return None
    if volume.bytes < quantity.parse(claim.capacity):
        return f"must be at least {claim.capacity}, which volume claim {claim.name} has; volumes cannot shrink"
    if _has_to_grow(volume, claim) and not _class_is_unknown(claim, classes):
        return _growth_refusal(claim, classes)
    return None


def doubt(volume: Volume, claim: Claim, classes: StorageClasses) -> str | None:
    """What could not be found out about the live claim that would have to grow; None when all is known."""
    if _has_to_grow(volume, claim) and _class_is_unknown(claim, classes):
        return f"that {_class_of(claim)} can expand volumes: {classes.gap}"
    return None


def reuse(volume: Volume, claim: Claim, wanted: str | None, classes: StorageClasses) -> str:
    """Says what a new volume becomes whose claim exists already; `wanted` is the class that a new claim would have."""
    if claim.terminating:
        return _reuse_of_terminating(claim)
    if claim.phase == "Lost":
        what = f"volume claim {claim.name} has lost its volume, and the server waits for it"
        return f"{what}; restore the volume, or delete the claim"
    if not is_bound(claim):
        return _reuse_of_unbound(claim, wanted, classes)

    size = f"{claim.capacity}, growing to {volume.size}," if _has_to_grow(volume, claim) else f"{claim.capacity}"
    contents = f"{size} {described_class(claim, wanted)}"
    return f"volume claim {claim.name} exists and is reused with its data: {contents}{_remedy(claim, wanted)}"


def class_difference(claim: Claim, storage: Storage) -> str:
    """Says that a bound claim is not of the class that the spec names, and what to do; empty where that is not so.

    A spec that names none says nothing: which class is the default one may have changed since the claim was made.
    """
    wanted = storage.storage_class_name
    if not (is_bound(claim) and is_of_another_class(claim, wanted)):
        return ""

    advice = "volumes cannot move; for another class, copy the data to a DittoServer of another name"
    return f"volume claim {claim.name} is {described_class(claim, wanted)} as the spec asks; {advice}"


def is_bound(claim: Claim) -> bool:
    return claim.capacity is not None and claim.phase == "Bound"


def is_of_another_class(claim: Claim, wanted: str | None) -> bool:
    """Whether the claim is not of the `wanted` class, which is empty for none, and None where nobody can say.

    An unbound claim without a class may yet get the default one: the API server adds it as soon as there is one.
    """
    undecided = claim.storage_class is None and not is_bound(claim)
    return wanted is not None and not undecided and wanted != (claim.storage_class or "")


def described_class(claim: Claim, wanted: str | None) -> str:
    """Says of which class a claim is, and which was wanted if that is another: `of StorageClass "slow", not "fast"`."""
    of = f'of StorageClass "{claim.storage_class}"' if claim.storage_class else "without a StorageClass"
    if not is_of_another_class(claim, wanted):
        return of
    return f'{of}, not "{wanted}"' if wanted else f"{of}, not without one"


def _reuse_of_terminating(claim: Claim) -> str:
    what = f"volume claim {claim.name} is being deleted with its data; the server waits, then gets a new volume"
    if claim.volume is None:
        return what
    return f"{what}: to keep the data, set persistentVolumeReclaimPolicy of PersistentVolume {claim.volume} to Retain"


def _reuse_of_unbound(claim: Claim, wanted: str | None, classes: StorageClasses) -> str:
    name = f"volume claim {claim.name}"
    contents = f"{claim.requested or 'an unknown size'} {described_class(claim, wanted)}"
    if claim.created:
        name = f"{name}, created {claim.created},"

    storage_class = classes.named(claim.storage_class or "")
    if storage_class and storage_class.waits_for_pod:
        return f"{name} is reused: {contents}, bound once the pod has a node{_remedy(claim, wanted)}"
    if claim.storage_class and not storage_class and not classes.gap:
        gone = f'StorageClass "{claim.storage_class}" does not exist'
        return f"{name} is not bound yet, and {gone}: delete the claim, or create that class"
    advice = "delete the claim unless it is about to be bound, as after a restore"
    return f"{name} is not bound yet: the server waits for {contents}; {advice}"


def _remedy(claim: Claim, wanted: str | None) -> str:
    if not is_of_another_class(claim, wanted):
        return ""
    other = f'"{wanted}"' if wanted else "that"
    loss = " and its data" if is_bound(claim) else ""
    return f"; for {other}, delete the claim{loss}, or choose another server name"


def _has_to_grow(volume: Volume, claim: Claim) -> bool:
    return claim.capacity is not None and (volume.bytes or 0) > quantity.parse(claim.capacity)


def _class_is_unknown(claim: Claim, classes: StorageClasses) -> bool:
    return bool(claim.storage_class and classes.gap) and classes.named(claim.storage_class or "") is None


def _growth_refusal(claim: Claim, classes: StorageClasses) -> str | None:
    """A claim grows only in a class with allowVolumeExpansion (the API server's PersistentVolumeClaimResize)."""
    if not claim.storage_class:
        return f"cannot grow: volume claim {claim.name} is bound to a volume without a StorageClass"
    storage_class = classes.named(claim.storage_class)
    if storage_class and storage_class.expandable:
        return None
    expandable = ", ".join(each.name for each in classes.known if each.expandable) or "none"
    how = "cannot expand volumes" if storage_class else "does not exist"
    return f"cannot grow: {_class_of(claim)} {how}; classes that can: {expandable}"


def _class_of(claim: Claim) -> str:
    return f'StorageClass "{claim.storage_class}" of volume claim {claim.name}'
