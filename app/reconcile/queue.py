"""Keys that wait to be reconciled: each once, in the hands of one worker at a time, backed off when it fails.

It never does I/O and never asks for the time: `now` is in seconds of a clock that does not go back.
"""

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
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
    """`jitter` gives a number in [0, 1): keys that failed together are not all tried again together."""

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
        """Ready at once, even when it was backed off; while it is in work, as soon as that has ended."""
        self._wake(now)
        work = self._works.get(key)
        if work:
            work.add(now, urgent=urgent)
        else:
            self._make_ready(key, now, urgent=urgent)

    def add_after(self, key: ObjectKey, now: float, seconds: float) -> None:
        """A look later, which is no failure. Of several the earliest counts, and taking the key forgets it."""
        self._wake(now)
        work = self._works.get(key)
        if work:
            work.state = min(work.state, now + seconds)
        elif key not in self._urgent and key not in self._usual:
            self._put_off(key, now + seconds)

    def take(self, now: float) -> ObjectKey | None:
        """The next key that is due; it stays in work until `done` or `failed`. None when there is nothing to do."""
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
        """It worked: its failures are forgotten."""
        self._delays.pop(key, None)
        self._end(key, now, inf)

    def failed(self, key: ObjectKey, now: float) -> None:
        """Backed off, twice as long each time; but ready at once when the world changed during the work."""
        delay = self._delays.get(key, FIRST_DELAY)
        self._delays[key] = min(2 * delay, LONGEST_DELAY)
        self._end(key, now, now + delay * (1 - self._jitter() / 2))

    def wait(self, now: float) -> float | None:
        """Seconds until there is something to take; None when nothing is waiting."""
        if self._urgent or self._usual:
            return 0.0
        first = self._later.first()
        return max(0.0, first[0] - now) if first else None

    def __len__(self) -> int:
        """The keys that are ready or due later, without those in work."""
        return len(self._urgent) + len(self._usual) + len(self._later)

    def _wake(self, now: float) -> None:
        for due, key in self._later.take_due(now):
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
        WORKED.observe(now - work.begun)
        due = min(due, work.state)
        if work.added is not None:
            self._make_ready(key, work.added, urgent=work.urgent)
        elif due < inf:
            self._put_off(key, due)


@dataclass
class _Work:
    """On one key; `added` and `urgent` are of the adds since it was taken, `state` is the earliest look asked for."""

    begun: float
    added: float | None = None
    urgent: bool = False
    state: float = inf

    def add(self, now: float, *, urgent: bool) -> None:
        self.added = now if self.added is None else self.added
        self.urgent = self.urgent or urgent


class _Later:
    """When keys are due. An entry of the heap counts only while the dict says the same; the others are left to rot."""

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

    def take_due(self, now: float) -> Iterator[tuple[float, ObjectKey]]:
        while (first := self.first()) and first[0] <= now:
            del self._due[first[1]]
            yield first

    def __len__(self) -> int:
        return len(self._due)
