"""Keeps the newest Warning Events about each server's objects, in bounded memory whoever writes them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import orjson

from app.cluster.store import Store, encode, full_name
from app.storage.evidence import CLAIM, POD, STATEFUL_SET, WarningEvent, current_events, server_of
from app.storage.pod import pod_name
from app.storage.unstructured import Manifest, ObjectKey

# A pod has a dozen topics at most, and its volumes have a few.
EVENTS_PER_SERVER = 32


class WarningEvents:
    """Stores Events about the objects of known servers; it is a ReflectorStore.

    An Event that has expired still explains its object: some are recorded only once, such as that a volume is attached
    elsewhere. An Event is kept until its object is gone, or until the pod or claim that it is about has been created.
    """

    def __init__(self, servers: Store, objects: Mapping[str, Store]) -> None:
        """`objects` are the stores of the objects that Events are about, by kind."""
        self.event_handlers: list[Callable[[ObjectKey], None]] = []
        self.latest = 0
        self._servers = servers
        self._objects = objects
        # Events are stored as bytes, so that the garbage collector never has to traverse them.
        self._events: dict[str, bytes] = {}

        servers.event_handlers.append(self._handle_server)
        for kind, store in objects.items():
            store.event_handlers.append(partial(self._handle_object, kind))

    def about(self, server: ObjectKey) -> tuple[WarningEvent, ...]:
        """Returns those about the server's present objects, by UID; an Event with another one is forged or outdated."""
        return tuple(event for event in self._get(server) if event.uid == self._uid(server, event))

    def version(self, _key: ObjectKey) -> int:
        """Returns 0, for unknown: Events are ordered by their times."""
        return 0

    def note_version(self, version: int) -> None:
        self.latest = max(self.latest, version)

    def forget_versions(self, namespace: str | None) -> None:
        """Forgets all Events: what they report may not have happened in the restored history."""
        self.latest = 0
        for name in [name for name in self._events if namespace in (None, name.partition("/")[0])]:
            del self._events[name]

    def put(self, manifest: Manifest) -> None:
        event = WarningEvent.read(manifest)
        if event is None:
            return
        server = manifest["metadata"].get("namespace") or "", event.server
        if server not in self._servers or self._is_overcome(server, event):
            return

        before = self._get(server)
        previous = next((other for other in before if _identity(other) == _identity(event)), None)
        if previous and previous.at > event.at:
            return

        after = [event, *(other for other in before if other is not previous)]
        self._set(server, after)
        if _messages(after) != _messages(before):
            for handler in self.event_handlers:
                handler(server)

    def remove(self, manifest: Manifest) -> None:
        """Keeps the Event: that it has expired does not mean that its cause is gone."""

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None:
        """Keeps all Events, for the same reason."""

    def _handle_server(self, server: ObjectKey, _manifest: Manifest) -> None:
        if server not in self._servers:
            self._events.pop(full_name(server), None)

    def _handle_object(self, kind: str, key: ObjectKey, _manifest: Manifest) -> None:
        server = key[0], server_of(kind, key[1]) or ""
        if full_name(server) not in self._events:
            return

        is_gone = key not in self._objects[kind]
        before = self._get(server)
        after = [
            event
            for event in before
            if not (is_gone and (event.kind, event.name) == (kind, key[1])) and not self._is_overcome(server, event)
        ]
        if len(after) < len(before):
            self._set(server, after)

    def _get(self, server: ObjectKey) -> list[WarningEvent]:
        encoded = self._events.get(full_name(server))
        return [WarningEvent(**fields) for fields in orjson.loads(encoded)] if encoded else []

    def _set(self, server: ObjectKey, events: list[WarningEvent]) -> None:
        """Keeps the newest, those about existing objects first, since others may be forged in any number."""
        events.sort(key=lambda event: event.at, reverse=True)
        events.sort(key=lambda event: event.uid != self._uid(server, event))
        if events:
            self._events[full_name(server)] = encode(events[:EVENTS_PER_SERVER])
        else:
            self._events.pop(full_name(server), None)

    def _uid(self, server: ObjectKey, event: WarningEvent) -> str | None:
        manifest = self._objects[event.kind].get((server[0], event.name))
        return manifest["metadata"]["uid"] if manifest else None

    def _is_overcome(self, server: ObjectKey, event: WarningEvent) -> bool:
        """Returns whether the pod or claim that the StatefulSet's controller could not create was created later."""
        if event.kind != STATEFUL_SET:
            return False
        kind, name = (CLAIM, event.subject) if event.subject else (POD, pod_name(event.name))
        created = self._objects[kind].get((server[0], name))
        return created is not None and event.at <= (created["metadata"].get("creationTimestamp") or "")


def _identity(event: WarningEvent) -> tuple[str, ...]:
    return event.kind, event.name, event.uid, event.topic, event.container


def _messages(events: Iterable[WarningEvent]) -> list[tuple[str, ...]]:
    return [(*_identity(event), event.message) for event in current_events(events)]
