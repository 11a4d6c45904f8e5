"""Answers of an API server that exists only here, by a clock that only the test moves."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, none, one_of, tuples

from app.reconcile.concurrency import COMPUTING, FEWEST, LONGEST_PAUSE_SECONDS, SLOW_SECONDS, ConcurrencyLimit

QUICK = 0.01
MOST = 16


class Site:
    def __init__(self, most: int = MOST) -> None:
        self.now = 100.0
        self.concurrency = ConcurrencyLimit(most, lambda: self.now)

    def answer(self, times: int = 1, seconds: float = QUICK, retry_after: float | None = None) -> int:
        """Lets so many requests one after another be answered; returns the limit."""
        for _ in range(times):
            self.concurrency.handle_request()
            self.now += seconds
            self.concurrency.handle_answer(seconds, retry_after)
        return self.concurrency.limit


def test_the_limit_soon_grows_to_the_most() -> None:
    site = Site()

    assert site.concurrency.limit == FEWEST
    assert site.answer(times=MOST - FEWEST) == MOST
    assert site.answer(times=1000) == MOST


def test_only_reconciles_that_wait_make_room_for_others() -> None:
    site = Site()
    site.answer(times=MOST)
    starts: list[int] = []
    site.concurrency.start_handlers.append(lambda: starts.append(site.concurrency.allowed))

    assert site.concurrency.allowed == COMPUTING

    for _ in range(MOST):
        site.concurrency.handle_request()
    site.concurrency.handle_answer(QUICK, None)

    assert starts == [min(COMPUTING + under_way, MOST) for under_way in range(1, MOST + 1)]
    assert site.concurrency.allowed == MOST


def test_fewer_workers_than_the_fewest_stay_as_many() -> None:
    assert Site(most=2).answer(times=100) == 2
    assert Site(most=2).answer(times=100, retry_after=0.0) == 2


def test_an_overload_halves_the_limit_down_to_the_fewest() -> None:
    site = Site()
    site.answer(times=MOST)

    assert site.answer(retry_after=0.0) == MOST // 2
    assert site.answer(retry_after=0.0) == FEWEST
    assert site.answer(retry_after=0.0) == FEWEST


def test_a_slow_answer_is_a_sign_of_overload() -> None:
    site = Site()
    site.answer(times=MOST)

    assert site.answer(seconds=SLOW_SECONDS) == MOST // 2


def test_requests_under_way_at_one_overload_count_once() -> None:
    site = Site()
    site.answer(times=MOST)
    site.now += QUICK
    for _ in range(MOST):
        site.concurrency.handle_answer(QUICK, 1.0)

    assert site.concurrency.limit == MOST // 2


def test_the_limit_grows_slowly_after_an_overload() -> None:
    site = Site()
    site.answer(times=MOST)
    site.answer(retry_after=0.0)

    assert site.answer(times=MOST // 2) == MOST // 2
    assert site.answer(times=2) == MOST // 2 + 1


def test_nothing_is_sent_until_the_api_server_wants_it() -> None:
    site = Site()
    site.answer(retry_after=3.0)
    site.concurrency.handle_answer(QUICK, 1.0)
    assert site.concurrency.pause == 3.0

    site.now += 3.0
    assert site.concurrency.pause == 0.0


def test_a_good_answer_ends_the_pause() -> None:
    """One request may have found no room beside others that are answered as always."""
    site = Site()
    site.answer(retry_after=3.0)
    site.answer(seconds=SLOW_SECONDS)
    assert site.concurrency.pause == pytest.approx(3.0 - SLOW_SECONDS)

    site.answer()
    assert site.concurrency.pause == 0.0


def test_nobody_can_stop_the_workers_for_long() -> None:
    site = Site()
    site.answer(retry_after=1e9)

    assert site.concurrency.pause == pytest.approx(LONGEST_PAUSE_SECONDS)


@given(
    most=integers(1, 64),
    answers=lists(tuples(floats(0.0, 20.0), one_of(none(), floats(0.0, 1e6)), floats(0.0, 20.0))),
)
def test_the_limit_keeps_its_bounds_whatever_is_answered(
    most: int, answers: list[tuple[float, float | None, float]]
) -> None:
    site = Site(most)
    for seconds, retry_after, later in answers:
        site.now += later
        before = site.concurrency.limit
        site.concurrency.handle_request()
        site.concurrency.handle_answer(seconds, retry_after)

        assert min(FEWEST, most) <= site.concurrency.limit <= most
        assert 0 < site.concurrency.allowed <= site.concurrency.limit
        assert before // 2 <= site.concurrency.limit <= before + 1
        assert 0.0 <= site.concurrency.pause <= LONGEST_PAUSE_SECONDS + 0.001
