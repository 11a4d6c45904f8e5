"""Rules about the volumes of a DittoServer: classes, sizes, live claims and paths."""

import posixpath
from collections.abc import Iterable, Iterator

from app.storage import quantity
from app.storage.change import Change
from app.storage.facts import Claim, Facts, StorageClasses, Unknown
from app.storage.finding import Finding, rejection, shorten, warning
from app.storage.pod_conflicts import added_mount_paths
from app.storage.reading import field_name
from app.storage.volumes import (
    DATABASE_MOUNT_PATH,
    DEFAULT_CLASS_FIELD,
    Volume,
    describe_reuse,
    unknown_resizability,
    why_not_resizable,
)

_MAX_CLASSES_LISTED = 20


def storage_class_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    if change.old is None or change.storage_is_unchanged:
        return

    changed: dict[str, str | None] = {}
    for new, old in zip(change.all_volumes, change.old_volumes, strict=True):
        if old.size and new.storage_class != old.storage_class:
            is_own = new.settings.storage_class_name != old.settings.storage_class_name
            path = f"{new.settings_field}.storageClassName" if is_own else DEFAULT_CLASS_FIELD
            changed[path] = old.storage_class

    for path, name in changed.items():
        was = "unset" if name is None else f'"{name}"'
        advice = "volumes cannot move; make a new DittoServer with the other class and copy the data"
        yield rejection(path, f"{field_name(path)} cannot change, it was {was}: {advice}")


def content_volume_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    if not (change.old and change.old.spec.storage.content_size) or change.spec.storage.content_size is not None:
        return

    path = "spec.storage.contentSize"
    is_unreadable = any(path.startswith(error.path) for error in change.new.errors)
    if not is_unreadable:
        advice = "its volume holds data; make a new DittoServer without it and copy the data"
        yield rejection(path, f"{field_name(path)} cannot be removed: {advice}")


def sizes_suit_live_claims(change: Change, facts: Facts) -> Iterator[Finding]:
    for volume, claim in _claims_of(change.resized, change, facts):
        if not isinstance(claim, Claim) or (claim.terminating and volume in change.added):
            continue

        if why := why_not_resizable(volume, claim, facts.storage_classes):
            yield rejection(volume.field, f"{field_name(volume.field)} {why}")
        elif what := unknown_resizability(volume, claim, facts.storage_classes):
            yield warning(volume.field, f"Could not verify {what}")


def live_claims_are_known(change: Change, facts: Facts) -> Iterator[Finding]:
    """Warns once for each reason: without a cluster, or without an answer, it is the same for all claims."""
    unknown: dict[str, list[Volume]] = {}
    for volume, claim in _claims_of(change.resized, change, facts):
        if isinstance(claim, Unknown):
            unknown.setdefault(claim.why, []).append(volume)

    for why, affected in unknown.items():
        names = ", ".join(volume.claim_name(change.name) for volume in affected)
        yield warning(affected[0].field, f"Could not verify volume claim{'s' * (len(affected) > 1)} {names}: {why}")


def existing_claims_can_be_reused(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.exists:
        return

    for volume, claim in _claims_of(change.added, change, facts):
        if not isinstance(claim, Claim):
            continue

        if claim.terminating or why_not_resizable(volume, claim, facts.storage_classes) is None:
            yield warning(volume.field, describe_reuse(volume, claim, facts.storage_classes))


def _claims_of(volumes: Iterable[Volume], change: Change, facts: Facts) -> Iterator[tuple[Volume, Claim | Unknown]]:
    """Yields the volumes whose claims exist, or may exist, with their claims."""
    # Nearly every new server has none; this spares building the names of its claims in three rules.
    if not any(facts.claims.values()):
        return

    for volume in volumes:
        if claim := facts.claims.get(volume.claim_name(change.name)):
            yield volume, claim


def storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    classes = facts.storage_classes
    for path, name in change.named_classes.items():
        if classes.named(name):
            continue
        if classes.gap:
            yield warning(path, f'Could not verify StorageClass "{name}" exists: {classes.gap}')
        else:
            problem = f'StorageClass "{name}" does not exist in cluster'
            yield rejection(path, f"{problem}; there are: {_list_classes(classes)}")


def _list_classes(classes: StorageClasses) -> str:
    default = classes.default
    names = sorted(f"{known.name} (default)" if known == default else known.name for known in classes.known)
    if (more := len(names) - _MAX_CLASSES_LISTED) > 0:
        names[_MAX_CLASSES_LISTED:] = [f"and {more} more"]
    return ", ".join(names) or "none"


def default_storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.old is not None or facts.storage_classes.default:
        return

    classless = [volume.name for volume in change.volumes if volume.storage_class is None]
    if not classless:
        return

    path = DEFAULT_CLASS_FIELD
    if facts.storage_classes.gap:
        yield warning(path, f"Could not verify that there is a default StorageClass: {facts.storage_classes.gap}")
    else:
        problem = f"{field_name(path)} is not set and no StorageClass is the default"
        which = "the claims" if len(classless) == len(change.volumes) else f"the claim of {' and '.join(classless)}"
        yield warning(path, f"{problem}; {which} will stay Pending")


def cache_fits_its_volume(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.cache.size"
    size, volume_size = change.spec.cache.size, change.spec.storage.cache_size
    wanted = quantity.parse_cache_size(size)

    if wanted is None:
        yield warning(path, f'cache.size "{shorten(size)}" is not a size that DittoFS reads, such as 1GB')
    elif wanted > quantity.parse(volume_size):
        problem = f"cache.size {size} is above storage.cacheSize {volume_size}"
        yield warning(path, f"{problem}; the cache may fill its volume")


def paths_are_on_volumes(change: Change, _facts: Facts) -> Iterator[Finding]:
    paths = {"spec.cache.path": change.spec.cache.path}
    database = change.spec.database
    if not database.postgres_secret_ref and database.type == "sqlite":
        paths["spec.database.sqlite.path"] = database.sqlite.path

    mounts = [*(volume.mount_path for volume in change.volumes), DATABASE_MOUNT_PATH]
    seconds = [path for volume in change.volumes for path in volume.paths[1:]]
    folders = tuple(f"{mount.rstrip('/')}/" for mount in (*mounts, *seconds, *added_mount_paths(change.spec)))
    for field, path in paths.items():
        if not f"{posixpath.normpath(path)}/".startswith(folders):
            problem = f"{field_name(field)} {shorten(path)} is on no volume and is lost with the pod"
            yield warning(field, f"{problem}; volumes: {', '.join(mounts)}")
