"""Holds the objects of a resource as a reflector lists and watches them. It never asks the API server."""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import orjson

from app.storage.unstructured import Manifest, ObjectKey, key_of

# Called with an object as it is now, or with its last state when it is gone.
EventHandler = Callable[[ObjectKey, Manifest], None]

# More objects than are deleted while a write waits for its answer.
TOMBSTONE_LIMIT = 1000

# Objects of one resource are alike: compressed by what they share with one of them, they take a fifth to a tenth of the
# memory that each would take by itself, and a third of the time. Of a large object, the first part serves.
_EXAMPLE_BYTES = 8192
_COMPRESSION_LEVEL = 3
_WINDOW_BITS = -zlib.MAX_WBITS  # Negative: without header and checksum, which memory does not need.
_VERSION_BYTES = 8


def version_of(manifest: Mapping[str, Any]) -> int:
    """Returns the resourceVersion. Those of one resource compare as numbers (KEP-5504)."""
    return int(manifest["metadata"]["resourceVersion"])


def encode(value: Any) -> bytes:
    """Returns JSON to keep. What orjson returns takes 4 KB of memory at least, and 64 KB soon, whatever its length."""
    return bytes(memoryview(orjson.dumps(value)))


def full_name(key: ObjectKey) -> str:
    """Joins namespace and name by a slash, which no name in Kubernetes contains."""
    return "/".join(key)


class ReflectorStore(Protocol):
    """Receives what a reflector lists and watches; `latest` is the latest version of the resource known so far."""

    latest: int

    def version(self, key: ObjectKey) -> int:
        """Returns 0 when the version of the object is unknown."""

    def note_version(self, version: int) -> None: ...

    def forget_versions(self, namespace: str | None) -> None:
        """Accepts lower versions from now on: the history of the resource was rewound, and a list follows."""

    def put(self, manifest: Manifest) -> None: ...

    def remove(self, manifest: Manifest) -> None: ...

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None: ...


class Store:
    """Keeps the latest known state of each object as `trim` returns it; for None, the object is not kept."""

    def __init__(self, trim: Callable[[Manifest], Manifest | None] = lambda manifest: manifest) -> None:
        self.event_handlers: list[EventHandler] = []
        # Called when versions no longer tell which of two states is the newer one.
        self.rewind_handlers: list[Callable[[], None]] = []
        self.latest = 0
        self._trim = trim

        # The version and compressed JSON: as dicts, a thousand servers with all their objects would take many times the
        # memory. Keys are strings and values are bytes, so the garbage collector never has to traverse them.
        self._objects: dict[str, bytes] = {}
        # The JSON of an object, by which all that are stored now are compressed.
        self._example = b""

        # The versions at which objects were deleted. An object without a tombstone that is not in the store was deleted
        # no later than `_deleted_before`, if it ever existed.
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self._deleted_before = 0

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter([_parse_full_name(name) for name in self._objects])

    def __contains__(self, key: ObjectKey) -> bool:
        return full_name(key) in self._objects

    def get(self, key: ObjectKey) -> Manifest | None:
        compressed = self._objects.get(full_name(key))
        return self._decompress(compressed) if compressed else None

    def version(self, key: ObjectKey) -> int:
        """Returns 0 when there is no such object."""
        return self._version(full_name(key))

    def note_version(self, version: int) -> None:
        """Remembers that the history of the resource has reached this version."""
        self.latest = max(self.latest, version)

    def forget_versions(self, namespace: str | None) -> None:
        """Accepts lower versions from now on, because the history of the resource was rewound.

        The objects stay until a list replaces them, which calls the event handlers for each one.
        """
        self.latest = self._deleted_before = 0
        self._tombstones.clear()

        for name, compressed in self._objects.items():
            if namespace in (None, _parse_full_name(name)[0]):
                self._objects[name] = bytes(_VERSION_BYTES) + compressed[_VERSION_BYTES:]

        for handler in self.rewind_handlers:
            handler()

    def put(self, manifest: Manifest) -> None:
        """Stores an object from a list or watch, unless a newer version is known."""
        if self._put(manifest):
            self._notify(key_of(manifest), manifest)

    def put_written(self, manifest: Manifest) -> None:
        """Stores the answer to a write of this process, without calling any event handler."""
        # The watch may have been faster and may have reported already that the object is gone.
        name = full_name(key_of(manifest))
        deleted_at = max(self._tombstones.get(name, 0), self._deleted_before)
        if name in self._objects or version_of(manifest) > deleted_at:
            self._put(manifest)

    def remove(self, manifest: Manifest) -> None:
        key, version = key_of(manifest), version_of(manifest)
        self.note_version(version)

        self._tombstones.pop(full_name(key), None)
        self._tombstones[full_name(key)] = version
        if len(self._tombstones) > TOMBSTONE_LIMIT:
            _, oldest = self._tombstones.popitem(last=False)
            self._deleted_before = max(self._deleted_before, oldest)

        if key in self and self.version(key) <= version:
            self._delete(key)

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None:
        """Removes the objects of the namespace that a list at this version lacks, unless they were written later."""
        self.note_version(version)
        self._deleted_before = max(self._deleted_before, version)

        for name in self._objects.keys() - {full_name(key) for key in keys}:
            key = _parse_full_name(name)
            if namespace in (None, key[0]) and self.version(key) <= version:
                self._delete(key)

    def _put(self, manifest: Manifest) -> bool:
        name, version = full_name(key_of(manifest)), version_of(manifest)
        self.note_version(version)
        if version <= self._version(name) or (trimmed := self._trim(manifest)) is None:
            return False

        self._objects[name] = version.to_bytes(_VERSION_BYTES) + self._compress(trimmed)
        return True

    def _version(self, name: str) -> int:
        return int.from_bytes(self._objects.get(name, b"")[:_VERSION_BYTES])

    def _compress(self, manifest: Manifest) -> bytes:
        encoded = orjson.dumps(manifest)
        if not self._objects:
            self._example = bytes(memoryview(encoded)[:_EXAMPLE_BYTES])

        compressor = zlib.compressobj(_COMPRESSION_LEVEL, wbits=_WINDOW_BITS, zdict=self._example)
        return compressor.compress(encoded) + compressor.flush()

    def _decompress(self, compressed: bytes) -> Manifest:
        decompressor = zlib.decompressobj(_WINDOW_BITS, self._example)
        manifest: Manifest = orjson.loads(decompressor.decompress(compressed[_VERSION_BYTES:]))
        return manifest

    def _delete(self, key: ObjectKey) -> None:
        last_state = self._objects.pop(full_name(key))
        self._notify(key, self._decompress(last_state))

    def _notify(self, key: ObjectKey, manifest: Manifest) -> None:
        for handler in self.event_handlers:
            handler(key, manifest)


def _parse_full_name(name: str) -> ObjectKey:
    namespace, _, name = name.partition("/")
    return namespace, name
