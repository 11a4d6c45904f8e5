"""Adapts how many servers are reconciled at once to how the API server answers, as TCP does with packets (AIMD).

It knows of requests only what its handlers are told, and starts nothing itself.
"""

from collections.abc import Callable
from time import monotonic

# Of any number of workers, so many are at work when the API server is overloaded.
FEWEST = 4
# More that compute at once would be no faster, and a review would have to wait for a step of each.
COMPUTING = 2
# The API server's own objective for writes (the SLO of Kubernetes).
SLOW_SECONDS = 1.0
# The longest that API Priority and Fairness asks for.
LONGEST_PAUSE_SECONDS = 32.0


class ConcurrencyLimit:
    """Allows COMPUTING more reconciles at once than there are requests under way, and no more than a limit.

    The limit begins at FEWEST, or at `most` if that is lower, and stays between the two. Each quick answer adds one to
    it, and after the first overload it takes as many answers as the limit to add one. An overload halves it, once for
    all requests that are under way at that moment. `clock` returns seconds and never goes back.

    `start_handlers` are called when a request begins, so that another reconcile may be allowed.
    """

    def __init__(self, most: int, clock: Callable[[], float] = monotonic) -> None:
        self.start_handlers: list[Callable[[], None]] = []
        self._fewest, self._most = float(min(FEWEST, most)), float(most)
        self._clock = clock
        self._limit = self._fewest
        self._under_way = 0
        self._halved_to = self._most
        self._halved_at = self._resume_at = clock()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def allowed(self) -> int:
        """The number of reconciles that may be at work at this moment."""
        return min(self.limit, COMPUTING + self._under_way)

    @property
    def pause(self) -> float:
        """The seconds left of the last Retry-After, during which nothing starts; a quick answer ends them."""
        return max(self._resume_at - self._clock(), 0.0)

    def handle_request(self) -> None:
        """Handles a request that is about to be sent: while it is under way, another reconcile can compute."""
        self._under_way += 1
        for handler in self.start_handlers:
            handler()

    def handle_answer(self, seconds: float, retry_after: float | None) -> None:
        """Handles an answer that took so long; `retry_after` is None unless the API server is overloaded."""
        self._under_way -= 1
        now = self._clock()
        if retry_after is not None:
            self._resume_at = max(self._resume_at, now + min(retry_after, LONGEST_PAUSE_SECONDS))

        if retry_after is None and seconds < SLOW_SECONDS:
            # It has room again, or had none for one request only.
            self._resume_at = now
            step = 1.0 if self._limit < self._halved_to else 1.0 / self._limit
            self._limit = min(self._limit + step, self._most)
        elif now - seconds >= self._halved_at:
            self._limit = self._halved_to = max(self._limit / 2, self._fewest)
            self._halved_at = now
