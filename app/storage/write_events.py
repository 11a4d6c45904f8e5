"""Sums up what one reconcile has written in a few Events: one for each thing that became of objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.storage.events import Event
from app.storage.object_write import ObjectWrite, WriteCause
from app.storage.pod import CONFIG_HASH, RESTARTED_AT

MAX_FIELDS = 8

# Why the pod restarts says more than these, which change for that alone.
_ANNOTATIONS = "spec.template.metadata.annotations"
_RESTART_FIELDS = (f"{_ANNOTATIONS}[{CONFIG_HASH}]", f"{_ANNOTATIONS}[{RESTARTED_AT}]")
# Their writes have Events of their own: a pod restarts, or the Go operator's finalizer is removed.
_EXPLAINED_KINDS = ("DittoServer", "Pod")

# The objects, and the fields and managers of each one.
_Changes = Mapping[tuple[str, str], tuple[Sequence[str], Sequence[str]]]


def write_events(writes: Iterable[ObjectWrite]) -> Iterator[Event]:
    """Yields at most one Event of each reason, whatever the number of objects."""
    writes = [write for write in writes if not _has_event(write)]
    created = [_key(write) for write in writes if write.verb == "create"]
    deleted = [_key(write) for write in writes if write.verb == "delete"]

    # A webhook of others may change what was just created.
    changes = [write for write in writes if write.verb not in ("create", "delete") and _key(write) not in created]

    if created:
        yield Event("Normal", "Created", f"created {_names(created)}")
    if adopted := _joined(changes, WriteCause.ADOPTION):
        message = f"took over {_names(adopted)}: this operator applies what it had not applied before"
        yield Event("Normal", "Adopted", message)
    if changed := _joined(changes, WriteCause.DESIRED):
        yield Event("Normal", "Changed", f"changed {_fields(changed)}")
    if restored := _joined(changes, WriteCause.DRIFT):
        yield Event("Warning", "Restored", f"restored what others changed: {_fields(restored)}")
    if deleted:
        yield Event("Normal", "Deleted", f"deleted {_names(deleted)}: the spec does not ask for it any more")


def _has_event(write: ObjectWrite) -> bool:
    """Tells whether the write has an Event of its own, or prepares another write of the object."""
    is_label_of_secret = write.kind == "Secret" and write.fields == ("metadata.labels",)
    return write.kind in _EXPLAINED_KINDS or (write.verb == "patch" and not is_label_of_secret)


def _key(write: ObjectWrite) -> tuple[str, str]:
    return write.kind, write.name


def _joined(writes: Iterable[ObjectWrite], cause: WriteCause) -> _Changes:
    """Returns the objects that were written for this cause; one that was written twice has the fields of both."""
    changes: dict[tuple[str, str], tuple[Sequence[str], Sequence[str]]] = {}
    for write in writes:
        new_fields = [field for field in write.fields if field not in _RESTART_FIELDS]
        if write.cause is not cause or not new_fields:
            continue

        fields, managers = changes.get(_key(write), ((), ()))
        changes[_key(write)] = (
            tuple(dict.fromkeys((*fields, *new_fields))),
            tuple(dict.fromkeys((*managers, *write.changed_by))),
        )
    return changes


def _names(keys: Iterable[tuple[str, str]]) -> str:
    by_kind: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(keys):
        by_kind.setdefault(kind, []).append(name)

    return ", ".join(f"{kind} {' and '.join(names)}" for kind, names in by_kind.items())


def _fields(changes: _Changes) -> str:
    texts = []
    for (kind, name), (fields, managers) in changes.items():
        more = ", and more" if len(fields) > MAX_FIELDS else ""
        by = f" (by {', '.join(managers)})" if managers else ""
        texts.append(f"{kind} {name}: {', '.join(fields[:MAX_FIELDS])}{more}{by}")
    return "; ".join(texts)
