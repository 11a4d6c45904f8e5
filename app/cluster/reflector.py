"""Lists and watches one resource into a store. It never asks for anything that a watch reports."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from time import monotonic

import orjson

from app.cluster.client import WATCH_IDLE_SECONDS, Cluster, Selection
from app.cluster.errors import ClusterError, Expired, Forbidden, Invalid, NotServed, Unavailable
from app.cluster.store import ReflectorStore, version_of
from app.storage.unstructured import Manifest, ObjectKey, key_of

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.8, 30.0
# After so long without a watch its version is not resumed from: in the meantime etcd may have been restored from a
# backup, and the version may belong to a history that no longer exists.
LONGEST_GAP_SECONDS = 10.0
# A watch is requested for this long and up to half as long again, so that not all of them are renewed at once.
WATCH_SECONDS = 300.0
# Reading a long list must not keep the event loop from the webhook for longer.
EVENT_LOOP_TURN_SECONDS = 0.002
# A page is parsed in one step.
PAGE_SIZE = 50

_RESTORED = "etcd was restored from a backup"

log = logging.getLogger(__name__)


class Rewound(ClusterError):
    """The API server is at an earlier version than before: etcd was restored from a backup."""


class Reflector:
    """Keeps a store up to date with one selection while `run` runs.

    `gap` says why the store may lack objects, and is None once it is complete: what is not in it then does not exist.
    `why_not_listed` says why there has been no list so far, or that the resource is not served any more. `is_stale`
    says that the watch broke and no list has followed: the store may be out of date. `streams_lists` is False once the
    API server has refused to send a list as a watch, which takes memory for one object at a time.
    """

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        store: ReflectorStore,
        idle_seconds: float = WATCH_IDLE_SECONDS,
        handle_rewind: Callable[[], None] | None = None,
    ) -> None:
        """`handle_rewind` makes this reflector and related ones `relist`; the default is this one alone."""
        self._cluster = cluster
        self._selection = selection
        self._store = store
        self._idle_seconds = idle_seconds
        self._handle_rewind = handle_rewind or self.relist

        self._version = ""
        self._last_watched = float("-inf")
        self._delay = FIRST_DELAY_SECONDS
        self._attempt: asyncio.Timeout | None = None
        self._is_relisting = False
        self._synced = asyncio.Event()
        # Why the last attempt has failed; empty once there is a complete list again.
        self._failure = ""

        self.gap: str | None = "it has not been read yet"
        self.why_not_listed: str | None = "the API server has not been asked yet"
        self.is_stale = False
        self.streams_lists = True

    async def wait_for_sync(self) -> None:
        """Waits until there is a complete list, or until the API server has refused to give one."""
        await self._synced.wait()

    async def run(self) -> None:
        while True:
            self._attempt = attempt = asyncio.timeout(None)
            self._is_relisting = False
            try:
                async with attempt:
                    try:
                        await self._list_and_watch()
                    except ClusterError as error:
                        self._note_failure(error)
                        if isinstance(error, Rewound):
                            self._handle_rewind()
                            continue

                        # The jitter keeps all reflectors from returning at the same moment.
                        await asyncio.sleep(self._delay * (1 - random.random() / 2))  # noqa: S311
                        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)
                    finally:
                        self._last_watched = monotonic()
            except TimeoutError:
                if not attempt.expired():
                    raise

    def relist(self) -> None:
        """Lists again at once, and replaces the store's objects by those of the list, even by older ones."""
        self._store.forget_versions(self._selection.namespace)
        self._version = ""
        self._delay = FIRST_DELAY_SECONDS
        self.is_stale = True
        self._synced.clear()
        self._is_relisting = True

        if self._attempt:
            # Between two attempts there is none to end.
            with suppress(RuntimeError):
                self._attempt.reschedule(asyncio.get_running_loop().time())

    async def _list_and_watch(self) -> None:
        """Returns when the watch ends in good order. Raises Expired when it cannot be resumed."""
        if self._version and monotonic() > self._last_watched + LONGEST_GAP_SECONDS:
            self._version = ""
            self.is_stale = True

        # A list is consistent: it is at this version or a later one, unless the history was rewound.
        latest = self._store.latest
        if not self._version and not self.streams_lists:
            await self._list(latest)
        listing = not self._version
        listed: set[ObjectKey] = set()

        async with aclosing(self._events(listing=listing)) as events:
            async for kind, manifest in events:
                self._delay = FIRST_DELAY_SECONDS
                if kind == "BOOKMARK":
                    annotations = manifest["metadata"].get("annotations") or {}
                    if listing and annotations.get("k8s.io/initial-events-end") == "true":
                        listing = False
                        self._finish_list(listed, version_of(manifest), latest)
                        listed.clear()
                    if not listing:
                        self._store.note_version(version_of(manifest))
                else:
                    if listing:
                        self._check_history(manifest, latest)
                        listed.add(key_of(manifest))
                    update = self._store.remove if kind == "DELETED" else self._store.put
                    update(manifest)

                # After `relist` this attempt is about to end: the next one must list, and not resume from here.
                if not listing and not self._is_relisting:
                    self._version = manifest["metadata"]["resourceVersion"]

    async def _list(self, latest: int) -> None:
        keys: set[ObjectKey] = set()
        version = ""

        async for page in self._cluster.pages(self._selection, PAGE_SIZE):
            version = page["metadata"]["resourceVersion"]
            turn = monotonic()
            for item in page["items"]:
                self._check_history(item, latest)
                self._store.put(item)
                keys.add(key_of(item))
                if monotonic() - turn > EVENT_LOOP_TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn = monotonic()

        self._finish_list(keys, int(version), latest)
        self._version = "" if self._is_relisting else version

    def _check_history(self, manifest: Manifest, latest: int) -> None:
        """Raises Rewound when a list has an object at an earlier version than was known before the list began."""
        version, known = version_of(manifest), self._store.version(key_of(manifest))
        if version < known <= latest:
            raise Rewound(f"an object went back from version {known} to {version}: {_RESTORED}")

    def _finish_list(self, keys: Iterable[ObjectKey], version: int, latest: int) -> None:
        if version < latest:
            raise Rewound(f"the API server went back from version {latest} to {version}: {_RESTORED}")
        if self._is_relisting:
            return

        self._store.keep_only(keys, self._selection.namespace, version)
        if self._failure:
            resource, namespace = self._selection.resource, self._selection.namespace
            log.info("watching again", extra={"resource": resource.plural, "namespace": namespace})
            self._failure = ""
        self.gap = self.why_not_listed = None
        self.is_stale = False
        self._synced.set()

    async def _events(self, *, listing: bool) -> AsyncGenerator[tuple[str, Manifest]]:
        seconds = WATCH_SECONDS * (1 + random.random() / 2)  # noqa: S311
        query = [("allowWatchBookmarks", "true"), ("timeoutSeconds", str(int(seconds)))]
        if listing:
            query += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
        else:
            query += [("resourceVersion", self._version)]

        # An API server before 1.32 may send no bookmark while nothing changes: only the end of its watches is certain.
        idle_seconds = self._idle_seconds if self.streams_lists else seconds + self._idle_seconds
        begun = turn = monotonic()
        try:
            async with aclosing(self._cluster.watch(self._selection, query, idle_seconds)) as lines:
                async for line in lines:
                    yield _parse_event(line)
                    if monotonic() - turn > EVENT_LOOP_TURN_SECONDS:
                        await asyncio.sleep(0)
                        turn = monotonic()
        except Invalid:
            if not listing:
                raise
            # An API server before 1.32 does not stream lists.
            self.streams_lists = False

        if monotonic() - begun < FIRST_DELAY_SECONDS and self.streams_lists:
            raise Unavailable("the watch ended as soon as it had begun")

    def _note_failure(self, error: ClusterError) -> None:
        resource, namespace, reason = self._selection.resource, self._selection.namespace, str(error)
        # Once, and not for each attempt of an outage.
        level = logging.DEBUG if reason == self._failure else logging.WARNING
        log.log(level, "watch broken", extra={"resource": resource.plural, "namespace": namespace, "reason": reason})
        self._failure = reason

        # The version is only resumed from while the connection is sound: see LONGEST_GAP_SECONDS.
        self._version = ""
        self.is_stale = True

        if self.why_not_listed or isinstance(error, NotServed):
            self.why_not_listed = str(error)
        if isinstance(error, Forbidden):
            self.gap = str(error)
            self._synced.set()


def _parse_event(line: bytes) -> tuple[str, Manifest]:
    try:
        event = orjson.loads(line)
        kind, manifest = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        # The error would quote the line.
        raise Unavailable("expected a watch event, got something else") from None

    if kind != "ERROR":
        return kind, manifest
    message = str(manifest.get("message"))
    raise Expired(message) if manifest.get("code") == 410 else Unavailable(message)
