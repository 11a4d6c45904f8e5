from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.reconcile.queue import LONGEST_DELAY, Queue
from app.storage.unstructured import ObjectKey

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


@pytest.fixture
def queue() -> Queue:
    return Queue(jitter=lambda: 0.0)


def everything(queue: Queue, now: float) -> list[ObjectKey]:
    return list(iter(lambda: queue.take(now), None))


def failed_once(queue: Queue, key: ObjectKey, now: float) -> None:
    queue.add(key, now)
    assert queue.take(now) == key
    queue.failed(key, now)


def delays(queue: Queue, failures: int) -> list[float | None]:
    """How long A is backed off after each of so many failures in a row."""
    found: list[float | None] = []
    now = 0.0
    queue.add(A, now)
    for _ in range(failures):
        assert queue.take(now) == A
        queue.failed(A, now)
        wait = queue.wait(now)
        found.append(None if wait is None else round(wait, 6))
        now += wait or 0.0
    return found


def test_an_empty_queue_has_nothing_to_take_and_nothing_to_wait_for(queue: Queue) -> None:
    assert queue.take(0.0) is None
    assert queue.wait(0.0) is None
    assert len(queue) == 0


def test_first_in_is_first_out(queue: Queue) -> None:
    for key in (B, A, C):
        queue.add(key, 0.0)
    assert queue.wait(0.0) == 0.0
    assert everything(queue, 0.0) == [B, A, C]


def test_a_key_that_waits_is_not_added_twice(queue: Queue) -> None:
    for key in (A, B, A, A):
        queue.add(key, 0.0)
    assert len(queue) == 2
    assert everything(queue, 0.0) == [A, B]


def test_urgent_keys_come_first(queue: Queue) -> None:
    queue.add(A, 0.0, urgent=False)
    queue.add(B, 0.0, urgent=False)
    queue.add(C, 0.0)
    assert everything(queue, 0.0) == [C, A, B]


def test_an_urgent_add_lifts_a_key_up_and_another_does_not_lower_it(queue: Queue) -> None:
    queue.add(A, 0.0, urgent=False)
    queue.add(B, 0.0, urgent=False)
    queue.add(B, 0.0)
    queue.add(B, 0.0, urgent=False)

    assert len(queue) == 2
    assert everything(queue, 0.0) == [B, A]


def test_a_key_is_never_in_the_hands_of_two_workers(queue: Queue) -> None:
    queue.add(A, 0.0)

    assert queue.take(0.0) == A

    queue.add(A, 0.0)

    assert queue.take(0.0) is None
    assert queue.wait(0.0) is None
    assert len(queue) == 0


@pytest.mark.parametrize("end", [Queue.done, Queue.failed])
def test_what_is_added_during_the_work_is_worked_on_once_more_at_once(
    queue: Queue, end: Callable[[Queue, ObjectKey, float], None]
) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(A, 1.0)
    queue.add(A, 2.0)
    end(queue, A, 3.0)

    assert everything(queue, 3.0) == [A]

    queue.done(A, 4.0)

    assert queue.wait(4.0) is None


def test_an_urgent_add_during_the_work_is_not_forgotten_for_one_that_is_not(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(B, 0.0, urgent=False)
    for urgent in (False, True, False):
        queue.add(A, 0.0, urgent=urgent)
    queue.done(A, 0.0)

    assert everything(queue, 0.0) == [A, B]


def test_an_add_during_the_work_that_is_not_urgent_waits_its_turn(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(B, 0.0, urgent=False)
    queue.add(A, 0.0, urgent=False)
    queue.done(A, 0.0)

    assert everything(queue, 0.0) == [B, A]


def test_failures_back_off_twice_as_long_each_time_up_to_a_minute(queue: Queue) -> None:
    assert delays(queue, 12) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, LONGEST_DELAY, LONGEST_DELAY]


def test_keys_that_failed_together_are_spread_over_half_of_their_delay() -> None:
    assert delays(Queue(jitter=lambda: 0.5), 2) == [0.075, 0.15]
    assert delays(Queue(jitter=lambda: 0.999_999), 2) == [0.05, 0.1]


def test_a_key_that_is_backed_off_comes_when_it_is_due_and_not_before(queue: Queue) -> None:
    failed_once(queue, A, 0.0)

    assert len(queue) == 1
    assert queue.wait(0.04) == pytest.approx(0.06)
    assert queue.take(0.09) is None
    assert queue.take(0.1) == A
    assert len(queue) == 0


def test_work_that_succeeds_forgets_the_failures(queue: Queue) -> None:
    delays(queue, 5)
    queue.add(A, 10.0)
    queue.take(10.0)
    queue.done(A, 10.0)
    failed_once(queue, A, 20.0)

    assert queue.wait(20.0) == pytest.approx(0.1)


def test_a_change_ends_the_backoff_and_keeps_the_count_of_failures(queue: Queue) -> None:
    delays(queue, 5)
    queue.add(A, 5.0)

    assert everything(queue, 5.0) == [A]

    queue.failed(A, 5.0)

    assert queue.wait(5.0) == pytest.approx(3.2)


def test_a_change_during_work_that_fails_keeps_the_count_of_failures(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(A, 0.0)
    queue.failed(A, 0.0)

    assert queue.take(0.0) == A

    queue.failed(A, 0.0)

    assert queue.wait(0.0) == pytest.approx(0.2)


def test_a_key_that_always_fails_delays_no_other(queue: Queue) -> None:
    delays(queue, 20)
    now = 10_000.0
    for key in (B, C):
        queue.add(key, now, urgent=False)

    assert everything(queue, now) == [A, B, C]

    queue.failed(A, now)
    queue.done(B, now)
    queue.add(B, now, urgent=False)

    assert everything(queue, now) == [B]


def test_a_later_look_comes_when_it_is_due(queue: Queue) -> None:
    queue.add_after(A, 0.0, 30.0)

    assert len(queue) == 1
    assert queue.take(29.0) is None
    assert queue.wait(29.0) == 1.0
    assert queue.wait(31.0) == 0.0
    assert everything(queue, 31.0) == [A]


@pytest.mark.parametrize("looks", [(10.0, 30.0), (30.0, 10.0)])
def test_of_several_later_looks_the_earliest_counts(queue: Queue, looks: tuple[float, float]) -> None:
    for seconds in looks:
        queue.add_after(A, 0.0, seconds)

    assert len(queue) == 1
    assert queue.wait(0.0) == 10.0
    assert everything(queue, 10.0) == [A]

    queue.done(A, 10.0)

    assert queue.wait(10.0) is None


def test_a_later_look_does_not_delay_a_key_that_is_ready(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.add(B, 0.0, urgent=False)
    queue.add_after(A, 0.0, 30.0)
    queue.add_after(B, 0.0, 30.0)

    assert everything(queue, 0.0) == [A, B]


def test_taking_a_key_forgets_its_later_look(queue: Queue) -> None:
    queue.add_after(A, 0.0, 30.0)
    queue.add(A, 0.0)

    assert everything(queue, 0.0) == [A]

    queue.done(A, 0.0)

    assert queue.wait(0.0) is None


def test_later_looks_that_are_asked_for_during_the_work_count_after_it(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add_after(A, 0.0, 30.0)
    queue.add_after(A, 0.0, 40.0)

    assert queue.wait(100.0) is None

    queue.done(A, 10.0)

    assert queue.wait(10.0) == 20.0


def test_of_a_later_look_and_a_backoff_the_earlier_counts(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add_after(A, 0.0, 30.0)
    queue.failed(A, 0.0)

    assert queue.wait(0.0) == pytest.approx(0.1)


def test_what_became_due_goes_before_what_was_added_after_that(queue: Queue) -> None:
    queue.add_after(C, 0.0, 2.0)
    queue.add_after(B, 0.0, 1.0)
    queue.add(A, 3.0, urgent=False)
    assert everything(queue, 3.0) == [B, C, A]


def test_one_key_takes_the_same_room_however_often_it_is_added(queue: Queue) -> None:
    """And whatever looks are asked for, each earlier than the one before."""
    for _ in range(100_000):
        queue.add(B, 0.0)
    for seconds in range(10_000, 0, -1):
        queue.add_after(A, 0.0, seconds)

    assert len(queue) == 2
    assert len(queue._later._heap) < 100
    assert everything(queue, 1.0) == [B, A]
    assert queue.wait(1.0) is None


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(f"workqueue_{name}", {"name": "dittoserver"}) or 0.0


def test_metrics_are_those_of_controller_runtime(queue: Queue) -> None:
    names = ("adds_total", "retries_total", "queue_duration_seconds_sum", "work_duration_seconds_sum")
    before = [sample(name) for name in names]
    for key in (A, A, B):
        queue.add(key, 1.0)

    assert sample("depth") == 2

    queue.take(3.0)

    assert sample("depth") == 1

    queue.failed(A, 7.0)

    assert [sample(name) - was for name, was in zip(names, before, strict=True)] == [2, 1, 2, 4]

    queue.take(7.1)
    queue.take(7.1)

    assert sample("depth") == 0
    assert sample("adds_total") - before[0] == 3


def test_unfinished_work_is_that_of_keys_in_work(queue: Queue) -> None:
    for key in (A, B, C):
        queue.add(key, 0.0)

    assert queue.unfinished_seconds(1.0) == []

    queue.take(1.0)
    queue.take(2.0)

    assert queue.unfinished_seconds(4.0) == [3.0, 2.0]

    queue.failed(A, 5.0)
    queue.done(B, 5.0)

    assert queue.unfinished_seconds(6.0) == []


def test_a_key_that_is_added_during_the_work_waits_from_then_on(queue: Queue) -> None:
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(A, 1.0)
    queue.add(A, 4.0)
    queue.done(A, 5.0)
    before = sample("queue_duration_seconds_sum")
    queue.take(7.0)

    assert sample("queue_duration_seconds_sum") - before == 6


def test_the_depth_is_that_of_the_queue_made_last(queue: Queue) -> None:
    queue.add(A, 0.0)
    Queue()
    assert sample("depth") == 0


@dataclass
class Model:
    """The same in lists that are searched: too slow for many keys, and plain enough to be seen to be right."""

    ready: list[tuple[ObjectKey, bool]] = field(default_factory=list)
    later: dict[ObjectKey, float] = field(default_factory=dict)
    work: dict[ObjectKey, tuple[list[bool], list[float]]] = field(default_factory=dict)
    failures: dict[ObjectKey, int] = field(default_factory=dict)

    def add(self, key: ObjectKey, urgent: bool) -> None:
        if key in self.work:
            self.work[key][0].append(urgent)
        elif (key, True) not in self.ready and (key, urgent) not in self.ready:
            self.ready = [*(each for each in self.ready if each[0] != key), (key, urgent)]
            self.later.pop(key, None)

    def add_after(self, key: ObjectKey, due: float) -> None:
        if key in self.work:
            self.work[key][1].append(due)
        elif key not in dict(self.ready):
            self.later[key] = min(due, self.later.get(key, due))

    def take(self) -> ObjectKey | None:
        if not self.ready:
            return None
        first = sorted(self.ready, key=lambda each: not each[1])[0]
        self.ready.remove(first)
        self.work[first[0]] = ([], [])
        return first[0]

    def end(self, key: ObjectKey, now: float, worked: bool) -> None:
        urgencies, dues = self.work.pop(key)
        count = self.failures.get(key, 0)
        self.failures[key] = 0 if worked else count + 1
        dues = dues if worked else [*dues, now + min(0.1 * 2**count, 60.0)]
        if urgencies:
            self.add(key, any(urgencies))
        elif dues:
            self.add_after(key, min(dues))

    def wake(self, now: float) -> None:
        for due, key in sorted((due, key) for key, due in self.later.items()):
            if due <= now:
                self.add(key, urgent=False)

    def wait(self, now: float) -> float | None:
        return 0.0 if self.ready else max(0.0, min(self.later.values()) - now) if self.later else None


STEPS = st.tuples(
    st.sampled_from(["add", "add usual", "add after", "take", "take", "done", "failed"]),
    st.sampled_from([A, B, C]),
    st.sampled_from([0.0, 0.0, 0.05, 0.3, 40.0]),
    st.sampled_from([0.0, 0.2, 5.0]),
)


# Each kind of step at least once, whatever hypothesis comes upon.
ONE_OF_EACH = [
    ("take", A, 0.0, 0.0),
    ("add", A, 0.0, 0.0),
    ("add", A, 0.0, 0.0),
    ("add after", A, 0.0, 5.0),
    ("take", A, 0.0, 0.0),
    ("add after", A, 0.0, 5.0),
    ("failed", A, 0.0, 0.0),
    ("take", A, 0.3, 0.0),
    ("add usual", A, 0.0, 0.0),
    ("done", A, 0.0, 0.0),
    ("add after", A, 0.0, 5.0),
    ("add after", B, 0.0, 5.0),
    ("done", B, 0.0, 0.0),
    ("take", A, 40.0, 0.0),
    ("done", A, 0.0, 0.0),
]


@given(st.lists(STEPS, max_size=60))
@example(ONE_OF_EACH)
def test_whatever_happens_the_queue_does_as_its_model(steps: list[tuple[str, ObjectKey, float, float]]) -> None:
    queue, model, now = Queue(jitter=lambda: 0.0), Model(), 0.0
    for step, key, passed, seconds in steps:
        now += passed
        model.wake(now)
        assert carried_out(queue, step, key, now, seconds) == carried_out_in(model, step, key, now, seconds)
        model.wake(now)
        assert (queue.wait(now), len(queue)) == (model.wait(now), len(model.ready) + len(model.later))


def carried_out(queue: Queue, step: str, key: ObjectKey, now: float, seconds: float) -> ObjectKey | None:
    if step.startswith("add"):
        if step == "add after":
            queue.add_after(key, now, seconds)
        else:
            queue.add(key, now, urgent=step == "add")
    elif step == "take":
        return queue.take(now)
    elif key in queue._works:
        (queue.done if step == "done" else queue.failed)(key, now)
    return None


def carried_out_in(model: Model, step: str, key: ObjectKey, now: float, seconds: float) -> ObjectKey | None:
    if step.startswith("add"):
        if step == "add after":
            model.add_after(key, now + seconds)
        else:
            model.add(key, step == "add")
    elif step == "take":
        return model.take()
    elif key in model.work:
        model.end(key, now, step == "done")
    return None
