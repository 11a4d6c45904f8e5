"""Lists and watches one resource into a store, and says what changed. It asks nothing that a watch can tell."""

import asyncio
import logging
import random
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Protocol

import orjson

from app.cluster.client import WATCH_IDLE_SECONDS, Cluster, Selection
from app.cluster.reader import ClusterError, Expired, Forbidden, Invalid, NotServed, Unavailable
from app.storage.unstructured import Manifest, ObjectKey, key_of

# Called with an object as it is now, or as it last was when it is gone.
EventHandler = Callable[[ObjectKey, Manifest], None]

FIRST_DELAY, LONGEST_DELAY = 0.8, 30.0
_RESTORED = "etcd was restored from a backup"
# After so long without a watch its version is not resumed from: in the meantime etcd may have been restored from a
# backup, and the version may belong to a history that no longer exists.
LONGEST_GAP_SECONDS = 10.0
# A watch is asked for that long and half as long again, so that not all of them are renewed at once.
WATCH_SECONDS = 300.0
# Reading a long list must not keep the event loop from the webhook for longer.
TURN_SECONDS = 0.002
# So many objects that are gone are remembered by name: more than go while a write waits for its answer.
GONE = 1000

log = logging.getLogger(__name__)


def version_of(manifest: Mapping[str, Any]) -> int:
    """Versions of one resource compare as numbers (KEP-5504); the watch and our own writes come in any order."""
    return int(manifest["metadata"]["resourceVersion"])


def full_name(key: ObjectKey) -> str:
    """No name in Kubernetes has a slash in it."""
    return "/".join(key)


class ReflectorStore(Protocol):
    """Takes what a cache lists and watches: a Store, or one that keeps less of it.

    `latest` is the latest version heard of in the history that is known here.
    """

    latest: int

    def version(self, key: ObjectKey) -> int:
        """0 when it is unknown."""

    def note_version(self, version: int) -> None: ...

    def forget_versions(self, namespace: str | None) -> None:
        """Called when the history of the resource was rewound: a list follows, and is the truth."""

    def put(self, manifest: Manifest) -> None: ...

    def remove(self, manifest: Manifest) -> None: ...

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None: ...


class Store:
    """The objects of a resource as they were last heard of, each without what `trim` leaves out.

    An object for which `trim` gives None is of no interest, and is not kept.

    Kept as JSON, compressed: a thousand servers with all that belongs to them would take thirty times as much as dicts.
    Text by text, numbers and bytes: in these the garbage collector has nothing to look for, so that it is done sooner.
    """

    def __init__(self, trim: Callable[[Manifest], Manifest | None] = lambda manifest: manifest) -> None:
        self.event_handlers: list[EventHandler] = []
        # Called when versions no longer say which of two objects is the newer one.
        self.rewind_handlers: list[Callable[[], None]] = []
        self.latest = 0
        self._trim = trim
        self._kept: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        # When the last ones went; and up to where all those are gone that are not kept.
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._gone_before = 0

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter([_key(name) for name in self._kept])

    def __contains__(self, key: ObjectKey) -> bool:
        return full_name(key) in self._kept

    def get(self, key: ObjectKey) -> Manifest | None:
        kept = self._kept.get(full_name(key))
        return _decompress(kept) if kept else None

    def version(self, key: ObjectKey) -> int:
        """0 when there is no such object."""
        return self._versions.get(full_name(key), 0)

    def note_version(self, version: int) -> None:
        """Remembers that the history of the resource has come to this version."""
        self.latest = max(self.latest, version)

    def forget_versions(self, namespace: str | None) -> None:
        """Takes whatever comes next for newer, because the history of the resource was rewound.

        The objects stay until a list replaces them, which tells the listeners of each one.
        """
        self.latest = self._gone_before = 0
        self._gone.clear()
        for name in self._versions:
            if namespace in (None, _key(name)[0]):
                self._versions[name] = 0
        for handler in self.rewind_handlers:
            handler()

    def put(self, manifest: Manifest) -> None:
        """From a watch; older news than what is known is passed over."""
        if self._keep(manifest):
            self._notify(key_of(manifest), manifest)

    def put_written(self, manifest: Manifest) -> None:
        """The answer to a write of our own, of which nobody need be told.

        News of what came of the object since may have been faster, such as that it is gone.
        """
        name = full_name(key_of(manifest))
        if name in self._kept or version_of(manifest) > max(self._gone.get(name, 0), self._gone_before):
            self._keep(manifest)

    def remove(self, manifest: Manifest) -> None:
        key, version = key_of(manifest), version_of(manifest)
        self.note_version(version)
        self._note_gone(full_name(key), version)
        if key in self and self.version(key) <= version:
            self._forget(key)

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None:
        """Of the namespace, after a list at that version; what was written since is not in it, and stays."""
        self.note_version(version)
        self._gone_before = max(self._gone_before, version)
        for name in self._kept.keys() - {full_name(key) for key in keys}:
            key = _key(name)
            if namespace in (None, key[0]) and self.version(key) <= version:
                self._forget(key)

    def _keep(self, manifest: Manifest) -> bool:
        name, version = full_name(key_of(manifest)), version_of(manifest)
        self.note_version(version)
        if version <= self._versions.get(name, 0):
            return False

        trimmed = self._trim(manifest)
        if trimmed is None:
            return False

        self._kept[name] = _compress(trimmed)
        self._versions[name] = version
        return True

    def _note_gone(self, name: str, version: int) -> None:
        self._gone.pop(name, None)
        self._gone[name] = version
        if len(self._gone) > GONE:
            _, oldest = self._gone.popitem(last=False)
            self._gone_before = max(self._gone_before, oldest)

    def _forget(self, key: ObjectKey) -> None:
        name = full_name(key)
        last = self._kept.pop(name)
        del self._versions[name]
        self._notify(key, _decompress(last))

    def _notify(self, key: ObjectKey, manifest: Manifest) -> None:
        for handler in self.event_handlers:
            handler(key, manifest)


class Rewound(ClusterError):
    """The API server is at an earlier version than it was: etcd was restored from a backup."""


class Reflector:
    """Keeps a store up to date with one selection, for as long as `run` runs.

    `gap` says why the store cannot be relied on to be whole, None once it is: then what is not in it does not exist.
    `why_not_listed` says why there has been no list yet, or that the resource is not served any more. `is_stale` says
    that the watch has broken and there has been no list since: what is in the store may be out of date.
    """

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        store: ReflectorStore,
        silence: float = WATCH_IDLE_SECONDS,
        handle_rewind: Callable[[], None] | None = None,
    ) -> None:
        """`handle_rewind` lets this cache and those related to it `relist`, by default this one alone."""
        self._cluster = cluster
        self._selection = selection
        self._store = store
        self._silence = silence
        self._handle_rewind = handle_rewind or self.relist
        self._version = ""
        self._last_watched = float("-inf")
        self._streams_lists = True
        self._delay = FIRST_DELAY
        self._attempt: asyncio.Timeout | None = None
        self._synced = asyncio.Event()
        self.gap: str | None = "it has not been read yet"
        self.why_not_listed: str | None = "the API server has not been asked yet"
        self.is_stale = False

    async def wait_for_sync(self) -> None:
        """Waits until there is a whole list, or the word that these credentials may not have one."""
        await self._synced.wait()

    async def run(self) -> None:
        while True:
            self._attempt = attempt = asyncio.timeout(None)
            try:
                async with attempt:
                    await self._list_and_watch_or_back_off()
            except TimeoutError:
                if not attempt.expired():
                    raise

    def relist(self) -> None:
        """Lists again at once, and replaces what is in the store by what the list says, even where that is older."""
        self._store.forget_versions(self._selection.namespace)
        self._version = ""
        self._delay = FIRST_DELAY
        self.is_stale = True
        self._synced.clear()
        if self._attempt:
            # Between two attempts there is none to end.
            with suppress(RuntimeError):
                self._attempt.reschedule(asyncio.get_running_loop().time())

    async def _list_and_watch_or_back_off(self) -> None:
        try:
            await self._list_and_watch()
        except Rewound as error:
            self._note_failure(error)
            self._handle_rewind()
        except ClusterError as error:
            self._note_failure(error)
            await asyncio.sleep(self._delay * (1 - random.random() / 2))  # noqa: S311 - so that not all come at once
            self._delay = min(self._delay * 2, LONGEST_DELAY)
        finally:
            self._last_watched = monotonic()

    async def _list_and_watch(self) -> None:
        """Until the watch ends in good order. Raises Expired when it cannot go on from where it was."""
        if self._version and monotonic() > self._last_watched + LONGEST_GAP_SECONDS:
            self._version = ""
            self.is_stale = True
        # A list is consistent: it is at this version or a later one, unless the history was rewound.
        latest = self._store.latest
        if not self._version and not self._streams_lists:
            await self._list(latest)
        listing = not self._version
        listed: set[ObjectKey] = set()

        async with aclosing(self._events(listing=listing)) as events:
            async for kind, manifest in events:
                self._delay = FIRST_DELAY
                if kind != "BOOKMARK":
                    if listing:
                        self._check_history(manifest, latest)
                        listed.add(key_of(manifest))
                    self._handle_event(kind, manifest)
                    continue
                if listing and _ends_initial_list(manifest):
                    listing = False
                    self._finish_list(listed, version_of(manifest), latest)
                    listed.clear()
                if not listing:
                    self._version = manifest["metadata"]["resourceVersion"]
                    self._store.note_version(version_of(manifest))

    def _handle_event(self, kind: str, manifest: Manifest) -> None:
        if kind == "DELETED":
            self._store.remove(manifest)
        else:
            self._store.put(manifest)
        if self._version:
            self._version = manifest["metadata"]["resourceVersion"]

    async def _list(self, latest: int) -> None:
        keys: set[ObjectKey] = set()
        version = ""
        async for page in self._cluster.pages(self._selection):
            version = page["metadata"]["resourceVersion"]
            for item in page["items"]:
                self._check_history(item, latest)
                self._store.put(item)
                keys.add(key_of(item))
            await asyncio.sleep(0)
        self._finish_list(keys, int(version), latest)
        self._version = version

    def _check_history(self, manifest: Manifest, latest: int) -> None:
        """Raises Rewound when a list has an object at an earlier version than was known before the list began."""
        version, known = version_of(manifest), self._store.version(key_of(manifest))
        if version < known <= latest:
            raise Rewound(f"an object went back from version {known} to {version}: {_RESTORED}")

    def _finish_list(self, keys: Iterable[ObjectKey], version: int, latest: int) -> None:
        if version < latest:
            raise Rewound(f"the API server went back from version {latest} to {version}: {_RESTORED}")
        self._store.keep_only(keys, self._selection.namespace, version)
        self.gap = self.why_not_listed = None
        self.is_stale = False
        self._synced.set()

    async def _events(self, *, listing: bool) -> AsyncGenerator[tuple[str, Manifest]]:
        begun = turn = monotonic()
        seconds = WATCH_SECONDS * (1 + random.random() / 2)  # noqa: S311
        query = [("allowWatchBookmarks", "true"), ("timeoutSeconds", str(int(seconds)))]
        if listing:
            query += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
        else:
            query += [("resourceVersion", self._version)]
        try:
            async with aclosing(self._cluster.watch(self._selection, query, self._silence)) as lines:
                async for line in lines:
                    yield _event(line)
                    if monotonic() - turn > TURN_SECONDS:
                        await asyncio.sleep(0)
                        turn = monotonic()
        except Invalid:
            if not listing:
                raise
            # An API server before 1.32 does not stream lists.
            self._streams_lists = False
        if monotonic() - begun < FIRST_DELAY and self._streams_lists:
            raise Unavailable("the watch ended as soon as it had begun")

    def _note_failure(self, error: ClusterError) -> None:
        resource, namespace = self._selection.resource, self._selection.namespace
        log.warning("watch broken", extra={"resource": resource.plural, "namespace": namespace, "reason": str(error)})
        # A version is only resumed from where nothing has happened to the connection: see LONGEST_GAP_SECONDS.
        self._version = ""
        self.is_stale = True
        if self.why_not_listed or isinstance(error, NotServed):
            self.why_not_listed = str(error)
        if isinstance(error, Forbidden):
            self.gap = str(error)
            self._synced.set()


def _key(name_in_full: str) -> ObjectKey:
    namespace, _, name = name_in_full.partition("/")
    return namespace, name


def _compress(manifest: Manifest) -> bytes:
    return zlib.compress(orjson.dumps(manifest), level=1)


def _decompress(kept: bytes) -> Manifest:
    manifest: Manifest = orjson.loads(zlib.decompress(kept))
    return manifest


def _event(line: bytes) -> tuple[str, Manifest]:
    try:
        event = orjson.loads(line)
        kind, manifest = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        # The error would carry the line along.
        raise Unavailable("expected a watch event, got something else") from None
    if kind != "ERROR":
        return kind, manifest
    said = str(manifest.get("message"))
    raise Expired(said) if manifest.get("code") == 410 else Unavailable(said)


def _ends_initial_list(bookmark: Manifest) -> bool:
    annotations = bookmark["metadata"].get("annotations") or {}
    return annotations.get("k8s.io/initial-events-end") == "true"
