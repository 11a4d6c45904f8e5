"""Measures admission through the API server without a webhook, with one that only says yes, and with ours.

It also sends reviews straight to both webhooks. What is compared takes turns, slice by slice, so that other work on the
machine affects all of it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from app.cluster.client import Selection
from app.cluster.reader import DITTO_SERVERS
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.bench.figures import Figure
from tests.bench.load import Answers, Ask, Load
from tests.bench.shares import shares
from tests.bench.sizes import Sizes
from tests.bench.surroundings import cluster, load_on, register
from tests.bench.yes import YesWebhook
from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background
from tests.harness.fleet import (
    S3_VALUES,
    ClusterWideOperator,
    cpu_seconds,
    create_all,
    is_busy,
    namespaced_server,
    numbered_servers,
)
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import s3, server

# The webhooks that are asked, and also the namespaces that they are registered for.
NONE, YES, OURS = "none", "yes", "ours"
CROWD = "crowd"
ALSO = {NONE: "no webhook", YES: "a route that only says yes", OURS: "ours"}
THROUGH, BURST, STRAIGHT = "Through the API server", "The same during a burst of new servers", "Straight to the webhook"
AT_ONCE = {THROUGH: (1, 16, 64), STRAIGHT: (1, 16, 200)}
# The share of the highest rate that is well below saturation.
SHORT_OF_SATURATION = 0.5

Say = Callable[[str], None]
Slices = dict[tuple[str, int], Answers]


@dataclass(frozen=True)
class Webhooks:
    control_plane: ControlPlane
    operated: ClusterWideOperator
    yes: YesWebhook

    @property
    def straight(self) -> dict[str, Load]:
        trust = self.operated.operator.trust
        return {OURS: Load(self.operated.operator.url, trust), YES: Load(self.yes.url, trust)}

    @property
    def processes(self) -> dict[str, int]:
        return {OURS: self.operated.operator.pid, YES: self.yes.pid}


@contextmanager
def webhooks() -> Iterator[Webhooks]:
    """Runs both webhooks, each registered for its own namespace, which has a server to update."""
    with ExitStack() as stack:
        control_plane = stack.enter_context(cluster(NONE, YES, OURS, CROWD))
        folder = control_plane.folder / "webhooks"
        folder.mkdir()
        operated = ClusterWideOperator(control_plane, OURS, folder)
        yes = stack.enter_context(YesWebhook(folder))
        stack.enter_context(operated)

        for name, url in ((YES, yes.url), (OURS, operated.operator.url)):
            register(Namespace(control_plane, name), url, folder / "ca.crt")
        for name in (NONE, YES, OURS, CROWD):
            namespace = Namespace(control_plane, name)
            namespace.put_secret("s3", **S3_VALUES)
            namespace.apply(server(**s3()))
            namespace.wait_until_observed("files")

        yield Webhooks(control_plane, operated, yes)


def measure(sizes: Sizes, say: Say) -> Iterator[Figure]:
    with webhooks() as both:
        say("through the API server")
        yield from _through(both, sizes, say)
        say("straight to the webhook")
        yield from _straight(both, sizes, say)
        say("through the API server, during a burst of new servers")
        yield from _during_a_burst(both, sizes, say)


def _through(both: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    load, asks = load_on(both.control_plane), {name: dry_runs(name) for name in (NONE, YES, OURS)}
    slices: Slices = {}

    for number in range(sizes.rounds):
        say(f"  round {number + 1} of {sizes.rounds}")
        for at_once in AT_ONCE[THROUGH]:
            for name in _in_turn((NONE, YES, OURS), number):
                _add(slices, name, at_once, load.slice(asks[name], at_once, sizes.seconds))

    yield from _percentiles(THROUGH, slices)
    for at_once in AT_ONCE[THROUGH]:
        of_yes, ours = slices[YES, at_once], slices[OURS, at_once]
        most = 1.1 if at_once == 1 else None
        least = 0.9 if at_once == 16 else None
        yield Figure(
            THROUGH, f"p50 of ours to yes, {at_once} at once", ours.percentile(50) / of_yes.percentile(50), at_most=most
        )
        yield Figure(THROUGH, f"rate of ours to yes, {at_once} at once", ours.rate / of_yes.rate, at_least=least)


def _during_a_burst(both: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    names = (NONE, YES, OURS)
    load, asks = load_on(both.control_plane), {name: dry_runs(name) for name in names}
    slices: Slices = {}

    with Newcomers(both.control_plane, sizes.many) as newcomers:
        for at_once in cycle(AT_ONCE[THROUGH]):
            for name in names:
                _add(slices, name, at_once, load.slice(asks[name], at_once, sizes.seconds / 2))
            done = not newcomers.is_alive() and not is_busy(both.operated.operator)
            if done and len(slices) == len(names) * len(AT_ONCE[THROUGH]):
                break
    say(f"  {sizes.many} servers reconciled meanwhile")

    yield from _percentiles(BURST, slices, most_p99=100.0)
    for at_once in AT_ONCE[THROUGH]:
        of_yes, ours = slices[YES, at_once], slices[OURS, at_once]
        yield Figure(BURST, f"p99 of ours to yes, {at_once} at once", ours.percentile(99) / of_yes.percentile(99))


def _straight(both: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    asks = cycle(reviews(Namespace(both.control_plane, OURS).get("dittoserver", "files")))
    slices: Slices = {}
    taken = dict.fromkeys(both.processes, 0.0)

    for number in range(sizes.rounds):
        say(f"  round {number + 1} of {sizes.rounds}")
        for at_once in AT_ONCE[STRAIGHT]:
            for name in _in_turn((YES, OURS), number):
                before = cpu_seconds(both.processes[name])
                _add(slices, name, at_once, both.straight[name].slice(asks, at_once, sizes.seconds))
                taken[name] += cpu_seconds(both.processes[name]) - before

    yield from _percentiles(STRAIGHT, slices, least_rate=1500.0)
    costs = {name: 1e6 * taken[name] / _count(slices, name) for name in taken}
    for name, microseconds in costs.items():
        yield Figure(STRAIGHT, f"processor time of a review, {ALSO[name]}", microseconds, "µs")
    yield Figure(STRAIGHT, "the same, ours to yes", costs[OURS] / costs[YES])
    yield Figure(STRAIGHT, "reviews a second that one core has time for", 1e6 / costs[OURS], "/s", at_least=1500)

    most = max(AT_ONCE[STRAIGHT])
    rate = SHORT_OF_SATURATION * slices[OURS, most].rate
    say(f"  {rate:.0f} a second over {most} connections")
    paced = both.straight[OURS].slice(asks, most, sizes.rounds * sizes.seconds, rate)
    yield Figure(STRAIGHT, f"p99 of ours at {most} connections, {rate:.0f}/s in all", paced.percentile(99), "ms", 20)
    yield Figure(STRAIGHT, "answers that are not as they should be", _failures(slices, paced), at_most=0)

    say("  what takes the time")
    with Busy(both.straight[OURS], asks):
        parts = shares(both.processes[OURS], max(sizes.seconds * 2, 5))
    for part, share in parts.items():
        yield Figure(STRAIGHT, f"share of {part}", 100 * share, "%")


class Newcomers(Background):
    """Creates so many servers in a namespace of their own, and ends."""

    def __init__(self, control_plane: ControlPlane, count: int) -> None:
        super().__init__()
        self._control_plane = control_plane
        self._count = count

    def run(self) -> None:
        create_all(self._control_plane, DITTO_SERVERS, numbered_servers(self._count, CROWD, **s3()))


class Busy(Background):
    """Sends reviews without a pause for as long as the `with` lasts."""

    def __init__(self, load: Load, asks: Iterator[Ask]) -> None:
        super().__init__()
        self._load, self._asks = load, asks

    def run(self) -> None:
        while not self.ending.is_set():
            self._load.slice(self._asks, 16, 1)


def dry_runs(namespace: str) -> Iterator[Ask]:
    """Yields a create and an update in turn, as dry runs."""
    path = Selection(DITTO_SERVERS, namespace).path
    new = json.dumps(namespaced_server("asked-for", namespace, **s3())).encode()
    change = json.dumps({"spec": {"nfsPort": 2050}}).encode()
    expected = b'"kind":"DittoServer"'

    return cycle(
        (
            Ask("POST", f"{path}?dryRun=All", new, expected=expected),
            Ask("PATCH", f"{path}/files?dryRun=All", change, "application/merge-patch+json", expected),
        )
    )


def reviews(stored: Manifest) -> tuple[Ask, Ask]:
    """Returns the reviews of a create and an update, as the API server sends them for a stored object."""
    spec: dict[str, Any] = stored["spec"]
    changed = {**stored, "spec": {**spec, "nfsPort": 2050}}
    new = {**stored, "metadata": {"name": "asked-for", "namespace": stored["metadata"]["namespace"]}}
    return _ask(review(new)), _ask(review(changed, stored))


def _ask(question: Manifest) -> Ask:
    return Ask("POST", VALIDATE_PATH, json.dumps(question).encode(), expected=b'"allowed":true')


def _in_turn(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Rotates the names, so that each round begins with another one."""
    first = number % len(names)
    return names[first:] + names[:first]


def _add(slices: Slices, name: str, at_once: int, answers: Answers) -> None:
    slices.setdefault((name, at_once), Answers()).add(answers)


def _percentiles(
    section: str, slices: Slices, most_p99: float | None = None, least_rate: float | None = None
) -> Iterator[Figure]:
    for (name, at_once), answers in sorted(slices.items(), key=lambda item: item[0][1]):
        what = f"{ALSO[name]}, {at_once} at once"
        yield Figure(section, f"p50, {what}", answers.percentile(50), "ms")

        most = most_p99 if name == OURS and at_once < 64 else None
        yield Figure(section, f"p99, {what}", answers.percentile(99), "ms", at_most=most)

        least = least_rate if name == OURS and at_once > 1 else None
        yield Figure(section, f"rate, {what}", answers.rate, "/s", at_least=least)

        if answers.failures:
            yield Figure(section, f"failures, {what}: {answers.failures[0]}", len(answers.failures), at_most=0)


def _count(slices: Slices, name: str) -> int:
    return sum(len(answers.milliseconds) for (webhook, _), answers in slices.items() if webhook == name)


def _failures(slices: Slices, *more: Answers) -> int:
    return sum(len(answers.failures) for answers in (*slices.values(), *more))
