"""Queues keys to reconcile: each is there once, one worker has it at a time, and it backs off after a failure.

It does no I/O and never asks for the time: `now` is in seconds of a clock that does not go back.
"""

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from prometheus_client import Counter, Gauge, Histogram

from app.storage.unstructured import ObjectKey

FIRST_DELAY, LONGEST_DELAY = 0.1, 60.0

# The names, the label and the buckets are controller-runtime's, so that its dashboards and alerts serve here too.
_NAME = "dittoserver"
_BUCKETS = [10.0**exponent for exponent in range(-8, 4)]
DEPTH = Gauge("workqueue_depth", "Keys that are waiting for a worker.", ["name"]).labels(_NAME)
ADDS = Counter("workqueue_adds_total", "Keys that were added.", ["name"]).labels(_NAME)
RETRIES = Counter("workqueue_retries_total", "Keys that were requeued for later.", ["name"]).labels(_NAME)
WAITED = Histogram(
    "workqueue_queue_duration_seconds", "How long a key waited for a worker.", ["name"], buckets=_BUCKETS
).labels(_NAME)
WORKED = Histogram(
    "workqueue_work_duration_seconds", "How long processing a key took.", ["name"], buckets=_BUCKETS
).labels(_NAME)


class Queue:
    """Spreads retries by `jitter`, which returns a number in [0, 1): keys that failed together come back apart."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        # When each key became ready, first in, first out. A plain dict would be slow to find its first key.
        self._urgent: OrderedDict[ObjectKey, float] = OrderedDict()
        self._usual: OrderedDict[ObjectKey, float] = OrderedDict()
        self._later = _Later()
        self._works: dict[ObjectKey, _Work] = {}
        self._delays: dict[ObjectKey, float] = {}
        self._show_depth()

    def add(self, key: ObjectKey, now: float, *, urgent: bool = True) -> None:
        """Makes the key ready at once, also during a backoff; a key in work gets ready when the work has ended."""
        self._wake(now)
        if work := self._works.get(key):
            work.added = now if work.added is None else work.added
            work.urgent = work.urgent or urgent
        else:
            self._make_ready(key, now, urgent=urgent)

    def add_after(self, key: ObjectKey, now: float, seconds: float) -> None:
        """Requeues the key later, without a failure. The earliest of several counts, and taking the key drops it."""
        self._wake(now)
        if work := self._works.get(key):
            work.due = min(work.due, now + seconds)
        elif key not in self._urgent and key not in self._usual:
            self._put_off(key, now + seconds)

    def take(self, now: float) -> ObjectKey | None:
        """Returns the next key that is due, which is in work until `done` or `failed`; None when none is due."""
        self._wake(now)
        ready = self._urgent or self._usual
        if not ready:
            return None

        key, since = ready.popitem(last=False)
        self._works[key] = _Work(now)
        self._show_depth()
        WAITED.observe(now - since)
        return key

    def done(self, key: ObjectKey, now: float) -> None:
        """Ends the work on the key, and forgets its failures."""
        self._delays.pop(key, None)
        self._end(key, now, inf)

    def failed(self, key: ObjectKey, now: float) -> None:
        """Backs the key off, twice as long each time; it is ready at once if it was added during the work."""
        delay = self._delays.get(key, FIRST_DELAY)
        self._delays[key] = min(2 * delay, LONGEST_DELAY)
        self._end(key, now, now + delay * (1 - self._jitter() / 2))

    def unfinished_seconds(self, now: float) -> list[float]:
        """Returns for how long each of the keys in work has been."""
        return [now - work.started for work in self._works.values()]

    def wait(self, now: float) -> float | None:
        """Returns the seconds until a key can be taken; None when no key is waiting."""
        if self._urgent or self._usual:
            return 0.0
        first = self._later.first()
        return max(0.0, first[0] - now) if first else None

    def __len__(self) -> int:
        """Returns the number of keys that are ready or due later, without those in work."""
        return len(self._urgent) + len(self._usual) + len(self._later)

    def _wake(self, now: float) -> None:
        while (first := self._later.first()) and first[0] <= now:
            due, key = first
            self._make_ready(key, due, urgent=False)

    def _make_ready(self, key: ObjectKey, since: float, *, urgent: bool) -> None:
        self._later.drop(key)
        if key in self._urgent or (key in self._usual and not urgent):
            return

        if key in self._usual:
            self._urgent[key] = self._usual.pop(key)
            return

        (self._urgent if urgent else self._usual)[key] = since
        self._show_depth()
        ADDS.inc()

    def _show_depth(self) -> None:
        DEPTH.set(len(self._urgent) + len(self._usual))

    def _put_off(self, key: ObjectKey, due: float) -> None:
        self._later.put(key, due)
        RETRIES.inc()

    def _end(self, key: ObjectKey, now: float, due: float) -> None:
        self._wake(now)
        work = self._works.pop(key)
        WORKED.observe(now - work.started)

        due = min(due, work.due)
        if work.added is not None:
            self._make_ready(key, work.added, urgent=work.urgent)
        elif due < inf:
            self._put_off(key, due)


@dataclass
class _Work:
    """The work on one key; `added` and `urgent` are of adds since it was taken, `due` is the earliest requeue."""

    started: float
    added: float | None = None
    urgent: bool = False
    due: float = inf


class _Later:
    """Keeps when keys are due. A heap entry that differs from the dict is stale, and skipped when it comes up."""

    def __init__(self) -> None:
        self._due: dict[ObjectKey, float] = {}
        self._heap: list[tuple[float, ObjectKey]] = []

    def put(self, key: ObjectKey, due: float) -> None:
        if due >= self._due.get(key, inf):
            return

        self._due[key] = due
        heapq.heappush(self._heap, (due, key))

        if len(self._heap) > 2 * len(self._due) + 64:
            # Otherwise a key that is put off and added again, over and over, would fill the memory.
            self._heap = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)

    def drop(self, key: ObjectKey) -> None:
        self._due.pop(key, None)

    def first(self) -> tuple[float, ObjectKey] | None:
        while self._heap:
            due, key = self._heap[0]
            if self._due.get(key) == due:
                return due, key
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._due)
