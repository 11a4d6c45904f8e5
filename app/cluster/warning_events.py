"""The newest Warning Events about each server's objects; they take a bounded amount of memory, whoever writes them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import orjson

from app.cluster.store import Store, full_name
from app.storage.evidence import CLAIM, POD, STATEFUL_SET, WarningEvent, current, server_of
from app.storage.pod import pod_name
from app.storage.unstructured import Manifest, ObjectKey

# Of one server. A pod has a dozen topics at most, and those of its volumes.
LIMIT = 32


class WarningEvents:
    """A sink for Events, of which it keeps those about the objects that a known server has.

    An Event that has expired still explains its object: some are recorded only once, such as that a volume is attached
    elsewhere. So they are kept until that object is gone, or until a pod has been created after all.
    """

    def __init__(self, servers: Store, objects: Mapping[str, Store]) -> None:
        """`objects` are the stores of what Events are about, by kind."""
        self.event_handlers: list[Callable[[ObjectKey], None]] = []
        self.latest = 0
        self._servers = servers
        self._objects = objects
        # Packed as in a Store, so that the garbage collector has nothing to look for.
        self._kept: dict[str, bytes] = {}
        servers.event_handlers.append(self._server_changed)
        for kind, store in objects.items():
            store.event_handlers.append(partial(self._object_changed, kind))

    def about(self, server: ObjectKey) -> tuple[WarningEvent, ...]:
        """Those about its objects as they are now, by UID; an Event with another one is forged or outdated."""
        return tuple(event for event in self._of(server) if event.uid == self._uid(server, event))

    def version(self, _key: ObjectKey) -> int:
        """Unknown: Events are told apart by their times."""
        return 0

    def note_version(self, version: int) -> None:
        self.latest = max(self.latest, version)

    def forget_versions(self, namespace: str | None) -> None:
        """Forgets all of them: what they are about may not have happened in the restored history."""
        self.latest = 0
        for name in [name for name in self._kept if namespace in (None, name.partition("/")[0])]:
            del self._kept[name]

    def put(self, manifest: Manifest) -> None:
        event = WarningEvent.read(manifest)
        if event is None:
            return
        server = manifest["metadata"].get("namespace") or "", event.server
        if server not in self._servers or self._is_overcome(server, event):
            return

        kept = self._of(server)
        previous = next((other for other in kept if _identity(other) == _identity(event)), None)
        if previous and previous.at > event.at:
            return
        events = [event, *(other for other in kept if other is not previous)]
        self._keep(server, events)
        if _messages(events) != _messages(kept):
            for handler in self.event_handlers:
                handler(server)

    def remove(self, manifest: Manifest) -> None:
        """Keeps it: that an Event has expired does not mean that its cause is gone."""

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None:
        """Keeps all of them, as `remove` does."""

    def _server_changed(self, server: ObjectKey, _manifest: Manifest) -> None:
        if server not in self._servers:
            self._kept.pop(full_name(server), None)

    def _of(self, server: ObjectKey) -> list[WarningEvent]:
        kept = self._kept.get(full_name(server))
        return [WarningEvent(**fields) for fields in orjson.loads(kept)] if kept else []

    def _keep(self, server: ObjectKey, events: list[WarningEvent]) -> None:
        """The newest first, and before them those about objects that exist: others may be forged in any number."""
        events.sort(key=lambda event: event.at, reverse=True)
        events.sort(key=lambda event: event.uid != self._uid(server, event))
        if events:
            self._kept[full_name(server)] = orjson.dumps(events[:LIMIT])
        else:
            self._kept.pop(full_name(server), None)

    def _uid(self, server: ObjectKey, event: WarningEvent) -> str | None:
        found = self._objects[event.kind].get((server[0], event.name))
        return found["metadata"]["uid"] if found else None

    def _is_overcome(self, server: ObjectKey, event: WarningEvent) -> bool:
        """The pod or claim that the StatefulSet's controller could not create was created later."""
        if event.kind != STATEFUL_SET:
            return False
        kind, name = (CLAIM, event.subject) if event.subject else (POD, pod_name(event.name))
        created = self._objects[kind].get((server[0], name))
        return created is not None and event.at <= (created["metadata"].get("creationTimestamp") or "")

    def _object_changed(self, kind: str, key: ObjectKey, _: Manifest) -> None:
        server = key[0], server_of(kind, key[1]) or ""
        if full_name(server) not in self._kept:
            return
        gone = key not in self._objects[kind]
        kept = self._of(server)
        left = [
            event
            for event in kept
            if not (gone and (event.kind, event.name) == (kind, key[1])) and not self._is_overcome(server, event)
        ]
        if len(left) < len(kept):
            self._keep(server, left)


def _identity(event: WarningEvent) -> tuple[str, ...]:
    return event.kind, event.name, event.uid, event.topic, event.container


def _messages(events: Iterable[WarningEvent]) -> list[tuple[str, ...]]:
    return [(*_identity(event), event.message) for event in current(events)]
