"""Lists the volumes of a server, and says which changes of them a live claim can follow. It looks nothing up."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from app.storage import quantity
from app.storage.facts import Claim, ObjectReference, StorageClasses
from app.storage.spec import Storage, VolumeSettings

# Names the class of every volume whose own settings name none.
DEFAULT_CLASS_FIELD = "spec.storage.storageClassName"

NO_SETTINGS = VolumeSettings()


class Volume(NamedTuple):
    """One volume claim template; `size` is None while the server has no such volume.

    `second_mount_path` is where DittoFS 0.13 or newer documents the same files; None when that is the same path.
    `default_class` is the StorageClass of a volume whose settings name none.
    """

    name: str
    field: str
    mount_path: str
    size: str | None
    second_mount_path: str | None = None
    default_class: str | None = None
    settings: VolumeSettings = NO_SETTINGS

    @property
    def storage_class(self) -> str | None:
        """The class that the spec names for the volume: empty for none, and None for the cluster's default class."""
        named = self.settings.storage_class_name
        return self.default_class if named is None else named

    @property
    def data_source(self) -> ObjectReference | None:
        """The object that the claim is restored from when it is created."""
        source = self.settings.data_source_ref
        return ObjectReference(source.kind, source.name) if source else None

    @property
    def settings_field(self) -> str:
        return f"spec.storage.{self.name}"

    @property
    def class_field(self) -> str:
        """The field that names the class."""
        is_default = self.settings.storage_class_name is None
        return DEFAULT_CLASS_FIELD if is_default else f"{self.settings_field}.storageClassName"

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.mount_path, self.second_mount_path) if self.second_mount_path else (self.mount_path,)

    @property
    def bytes(self) -> int | None:
        return None if self.size is None else quantity.parse(self.size)

    def claim_name(self, server: str) -> str:
        return claim_name(self.name, server)


METADATA, CONTENT, CACHE = "metadata", "content", "cache"
# Only pods of the newer renderings mount it.
SECOND_METADATA_PATH = "/data/store/metadata"
# The volume for the control plane's database that the Go operator creates from 0.18 on. Without it the database is a
# folder of the metadata volume, mounted a second time.
CONTROL_PLANE = "controlplane"
DATABASE_MOUNT_PATH = "/data/controlplane"
VOLUME_NAMES = (METADATA, CONTENT, CACHE, CONTROL_PLANE)
_CLAIM_NAME = re.compile(f"(?:{'|'.join(VOLUME_NAMES)})-(.+)-0")


def claim_name(volume: str, server: str) -> str:
    """Returns the name that the StatefulSet controller gives to the claim of the only pod."""
    return f"{volume}-{server}-0"


def volumes(storage: Storage) -> tuple[Volume, ...]:
    """Returns every volume in the order of the claim templates."""
    default = storage.storage_class_name
    return (
        Volume(
            METADATA,
            "spec.storage.metadataSize",
            "/data/metadata",
            storage.metadata_size,
            SECOND_METADATA_PATH,
            default,
            storage.metadata or NO_SETTINGS,
        ),
        Volume(
            CONTENT,
            "spec.storage.contentSize",
            "/data/content",
            storage.content_size,
            "/data/store/block",
            default,
            storage.content or NO_SETTINGS,
        ),
        Volume(
            CACHE,
            "spec.storage.cacheSize",
            "/data/cache",
            storage.cache_size,
            None,
            default,
            storage.cache or NO_SETTINGS,
        ),
    )


def control_plane_volume(size: str | None, storage_class: str | None = None) -> Volume:
    """Returns the volume of the Go operator for the database. No field of the spec asks for it or for its size."""
    return Volume(CONTROL_PLANE, "spec.storage", DATABASE_MOUNT_PATH, size, default_class=storage_class)


def server_of_claim(claim: str) -> str | None:
    """Returns the server whose volume a claim of this name would be, whether there is such a server or not."""
    # The name alone identifies a claim: one that was restored or provisioned by hand has no labels of the operator.
    match = _CLAIM_NAME.fullmatch(claim)
    return match[1] if match else None


def storage_class_of(volume: Volume, claim: Claim | None, classes: StorageClasses) -> str | None:
    """Returns the class that a claim has or will have; None when that is the default class and there is none."""
    if claim and (claim.storage_class is not None or is_bound(claim)):
        return claim.storage_class or ""
    if volume.storage_class is not None:
        return volume.storage_class
    return classes.default.name if classes.default else None


def resized_volumes(new: Iterable[Volume], old: Iterable[Volume]) -> Iterator[Volume]:
    """Yields the volumes of `new` that have no size or another one in `old`; 1024Mi is no other size than 1Gi."""
    for volume, old_volume in zip(new, old, strict=True):
        if volume.bytes is not None and volume.bytes != old_volume.bytes:
            yield volume


def why_not_resizable(volume: Volume, claim: Claim, classes: StorageClasses) -> str | None:
    """Returns why the live claim cannot have the volume's size; None when it can, or when nothing tells otherwise."""
    if claim.capacity is None or volume.bytes is None:
        return None
    if volume.bytes < quantity.parse(claim.capacity):
        return f"must be at least {claim.capacity}, which volume claim {claim.name} has; volumes cannot shrink"

    if not _has_to_grow(volume, claim) or _class_is_unknown(claim, classes):
        return None

    # A claim grows only in a class with allowVolumeExpansion (the API server's PersistentVolumeClaimResize).
    if not claim.storage_class:
        return f"cannot grow: volume claim {claim.name} is bound to a volume without a StorageClass"
    storage_class = classes.named(claim.storage_class)
    if storage_class and storage_class.expandable:
        return None

    expandable = ", ".join(known.name for known in classes.known if known.expandable) or "none"
    problem = "cannot expand volumes" if storage_class else "does not exist"
    return f"cannot grow: {_class_of(claim)} {problem}; classes that can: {expandable}"


def unknown_resizability(volume: Volume, claim: Claim, classes: StorageClasses) -> str | None:
    """Returns what could not be verified about a live claim that would have to grow; None when all is known."""
    if _has_to_grow(volume, claim) and _class_is_unknown(claim, classes):
        return f"that {_class_of(claim)} can expand volumes: {classes.gap}"
    return None


def describe_reuse(volume: Volume, claim: Claim, classes: StorageClasses) -> str:
    """Says what a new volume becomes whose claim exists already."""
    wanted = storage_class_of(volume, None, classes)
    name, class_text = f"volume claim {claim.name}", describe_class(claim, wanted)

    if claim.terminating:
        what = f"{name} is being deleted with its data; the server waits, then gets a new volume"
        if claim.volume is None:
            return what

        keep = f"set persistentVolumeReclaimPolicy of PersistentVolume {claim.volume} to Retain"
        return f"{what}: to keep the data, {keep}"

    if claim.phase == "Lost":
        what = f"{name} has lost its volume, and the server waits for it"
        return f"{what}; restore the volume, or delete the claim"

    if is_bound(claim):
        size = f"{claim.capacity}, growing to {volume.size}," if _has_to_grow(volume, claim) else claim.capacity
        remedy = _class_remedy(claim, wanted)
        return f"{name} exists and is reused with its data: {size} {class_text}{remedy}"

    if claim.created:
        name = f"{name}, created {claim.created},"
    contents = f"{claim.requested or 'an unknown size'} {class_text}"
    storage_class = classes.named(claim.storage_class or "")
    if storage_class and storage_class.waits_for_pod:
        return f"{name} is reused: {contents}, bound once the pod has a node{_class_remedy(claim, wanted)}"

    if claim.storage_class and not storage_class and not classes.gap:
        gone = f'StorageClass "{claim.storage_class}" does not exist'
        return f"{name} is not bound yet, and {gone}: delete the claim, or create that class"

    advice = "delete the claim unless it is about to be bound, as after a restore"
    return f"{name} is not bound yet: the server waits for {contents}; {advice}"


def class_difference(volume: Volume, claim: Claim) -> str:
    """Says that a bound claim is not of the class that the spec names, and what to do; empty when it is."""
    # A spec that names none says nothing: another class may have become the default since the claim was created.
    wanted = volume.storage_class
    if not (is_bound(claim) and is_of_another_class(claim, wanted)):
        return ""

    advice = "volumes cannot move; for another class, copy the data to a DittoServer of another name"
    return f"volume claim {claim.name} is {describe_class(claim, wanted)} as the spec asks; {advice}"


def is_bound(claim: Claim) -> bool:
    return claim.capacity is not None and claim.phase == "Bound"


def is_of_another_class(claim: Claim, wanted: str | None) -> bool:
    """Tells whether the claim is not of the `wanted` class, which is empty for none, and None when nobody can say."""
    # An unbound claim without a class may yet get the default one: the API server adds it as soon as there is one.
    undecided = claim.storage_class is None and not is_bound(claim)
    return wanted is not None and not undecided and wanted != (claim.storage_class or "")


def describe_class(claim: Claim, wanted: str | None) -> str:
    """Says of which class a claim is, and which was wanted if that is another: `of StorageClass "slow", not "fast"`."""
    of = f'of StorageClass "{claim.storage_class}"' if claim.storage_class else "without a StorageClass"
    if not is_of_another_class(claim, wanted):
        return of
    return f'{of}, not "{wanted}"' if wanted else f"{of}, not without one"


def _class_remedy(claim: Claim, wanted: str | None) -> str:
    if not is_of_another_class(claim, wanted):
        return ""

    other = f'"{wanted}"' if wanted else "that"
    loss = " and its data" if is_bound(claim) else ""
    return f"; for {other}, delete the claim{loss}, or choose another server name"


def _has_to_grow(volume: Volume, claim: Claim) -> bool:
    return claim.capacity is not None and (volume.bytes or 0) > quantity.parse(claim.capacity)


def _class_is_unknown(claim: Claim, classes: StorageClasses) -> bool:
    return bool(claim.storage_class and classes.gap) and classes.named(claim.storage_class or "") is None


def _class_of(claim: Claim) -> str:
    return f'StorageClass "{claim.storage_class}" of volume claim {claim.name}'
