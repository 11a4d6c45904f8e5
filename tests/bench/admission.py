"""Measures admission through the API server without a webhook, with one that only says yes, and with ours.

It also sends reviews straight to both webhooks. What is compared takes turns, slice by slice, so that other work on the
machine affects all of it.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import Any

from app.cluster.client import Selection
from app.cluster.reader import DITTO_SERVERS
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.bench.command import WebhookCommand
from tests.bench.figures import YES_ROUTE, Figure
from tests.bench.load import Answers, Ask, Load
from tests.bench.processors import apart, cpu_seconds_of_tree
from tests.bench.sizes import Sizes
from tests.bench.surroundings import cluster, load_on, register
from tests.bench.yes import COMMAND
from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background
from tests.harness.fleet import (
    S3_VALUES,
    ClusterWideOperator,
    create_all,
    is_busy,
    namespaced_server,
    numbered_servers,
)
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import s3, server

# The webhooks that are asked, and also the namespaces that they are registered for.
NONE, YES, OURS, OTHER = "none", "yes", "ours", "other"
CROWD = "crowd"
TITLES = {NONE: "no webhook", YES: YES_ROUTE, OURS: "ours", OTHER: "the other webhook"}
THROUGH, BURST, STRAIGHT = "Through the API server", "The same during a burst of new servers", "Straight to the webhook"
AT_ONCE = {THROUGH: (1, 16, 64), STRAIGHT: (1, 16, 200)}
# The share of the highest rate that is well below saturation.
SHORT_OF_SATURATION = 0.5

Say = Callable[[str], None]
Slices = dict[tuple[str, int], Answers]
# Of each round, by webhook and connections.
Costs = dict[tuple[str, int], list[float]]


@dataclass(frozen=True)
class Webhooks:
    """The webhooks that run: the operator's, the one that only says yes, and the other one if there is any."""

    control_plane: ControlPlane
    operated: ClusterWideOperator
    urls: dict[str, str]
    processes: dict[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.urls)

    def processor_seconds(self, name: str) -> float:
        return cpu_seconds_of_tree(self.processes[name]) if name in self.processes else 0.0


@contextmanager
def webhooks(against: str | None) -> Iterator[Webhooks]:
    """Runs the webhooks, each registered for its own namespace, which has a server to update."""
    with ExitStack() as stack:
        control_plane = stack.enter_context(cluster(NONE, YES, OURS, OTHER, CROWD))
        folder = control_plane.folder / "webhooks"
        folder.mkdir()
        operated = ClusterWideOperator(control_plane, OURS, folder)

        commands = {YES: COMMAND, **({OTHER: against} if against else {})}
        running = {name: WebhookCommand(text, folder, control_plane.kubeconfig) for name, text in commands.items()}
        processes = {name: stack.enter_context(webhook).pid for name, webhook in running.items()}
        stack.enter_context(operated)

        urls = {**{name: webhook.url for name, webhook in running.items()}, OURS: operated.operator.url}
        for name, url in urls.items():
            register(Namespace(control_plane, name), url, folder / "ca.crt")
        for name in (NONE, *urls, CROWD):
            namespace = Namespace(control_plane, name)
            namespace.put_secret("s3", **S3_VALUES)
            namespace.apply(server(**s3()))
            namespace.wait_until_observed("files")

        yield Webhooks(control_plane, operated, urls, {**processes, OURS: operated.operator.pid})


def measure(sizes: Sizes, say: Say, against: str | None = None) -> Iterator[Figure]:
    """Yields the figures; `against` is the command of another webhook that takes turns with these."""
    with webhooks(against) as running:
        say("through the API server")
        yield from _through(running, sizes, say)
        say("straight to the webhook")
        yield from _straight(running, sizes, say)
        say("through the API server, during a burst of new servers")
        yield from _during_a_burst(running, sizes, say)


def _through(running: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    names = (NONE, *running.names)
    load, asks = load_on(running.control_plane), {name: dry_runs(name) for name in names}
    slices: Slices = {}
    costs: Costs = defaultdict(list)

    for number in range(sizes.rounds):
        say(f"  round {number + 1} of {sizes.rounds}")
        for at_once in AT_ONCE[THROUGH]:
            for name in _in_turn(names, number):
                before = running.processor_seconds(name)
                answers = load.slice(asks[name], at_once, sizes.seconds)
                costs[name, at_once].append(_microseconds(running.processor_seconds(name) - before, answers))
                _add(slices, name, at_once, answers)

    yield from _percentiles(THROUGH, slices)
    for at_once in AT_ONCE[THROUGH]:
        of_yes = slices[YES, at_once]
        for name in _compared(running):
            answers = slices[name, at_once]
            most = 1.02 if name == OURS and at_once == 1 else None
            least = 0.98 if name == OURS and at_once == 16 else None
            ratio = answers.percentile(50) / of_yes.percentile(50)
            yield Figure(THROUGH, f"p50 of {TITLES[name]} to yes, {at_once} at once", ratio, at_most=most)
            ratio = answers.rate / of_yes.rate
            yield Figure(THROUGH, f"rate of {TITLES[name]} to yes, {at_once} at once", ratio, at_least=least)
    for name in running.names:
        what = f"processor time of {TITLES[name]} for an admission, which is two reviews, 16 at once"
        yield Figure(THROUGH, what, median(costs[name, 16]), "µs")


def _during_a_burst(running: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    names = (NONE, YES, OURS)
    load, asks = load_on(running.control_plane), {name: dry_runs(name) for name in names}
    slices: Slices = {}

    with Newcomers(running.control_plane, sizes.many) as newcomers:
        for at_once in cycle(AT_ONCE[THROUGH]):
            for name in names:
                _add(slices, name, at_once, load.slice(asks[name], at_once, sizes.seconds / 2))
            done = not newcomers.is_alive() and not is_busy(running.operated.operator)
            if done and len(slices) == len(names) * len(AT_ONCE[THROUGH]):
                break
    say(f"  {sizes.many} servers reconciled meanwhile")

    yield from _percentiles(BURST, slices, most_p99=100.0)
    for at_once in AT_ONCE[THROUGH]:
        of_yes, ours = slices[YES, at_once], slices[OURS, at_once]
        yield Figure(BURST, f"p99 of ours to yes, {at_once} at once", ours.percentile(99) / of_yes.percentile(99))


def _straight(running: Webhooks, sizes: Sizes, say: Say) -> Iterator[Figure]:
    """Yields what one processor answers, while the load has another one."""
    asks = cycle(reviews(Namespace(running.control_plane, OURS).get("dittoserver", "files")))
    slices: Slices = {}
    costs: Costs = defaultdict(list)
    rates: Costs = defaultdict(list)

    for number in range(sizes.rounds):
        say(f"  round {number + 1} of {sizes.rounds}")
        for at_once in AT_ONCE[STRAIGHT]:
            for name in _in_turn(running.names, number):
                answers, cost = _measured(running, name, asks, at_once, sizes.seconds)
                _add(slices, name, at_once, answers)
                costs[name, at_once].append(cost)
                rates[name, at_once].append(answers.rate)

    yield from _percentiles(STRAIGHT, slices)
    for at_once in AT_ONCE[STRAIGHT][1:]:
        yield from _of_one_core(running, at_once, costs, rates)
    for name in running.names:
        answers = slices[name, 16]
        used = 100 * answers.cpu_seconds / answers.seconds
        yield Figure(STRAIGHT, f"share of its core that the load needs for {TITLES[name]}, 16 at once", used, "%", 80)

    rate = SHORT_OF_SATURATION * min(median(rates[name, 16]) for name in running.names)
    say(f"  all at {rate:.0f} a second")
    paced: Costs = defaultdict(list)
    for number in range(sizes.rounds):
        for name in _in_turn(running.names, number):
            answers, cost = _measured(running, name, asks, 16, sizes.seconds, rate)
            paced[name, 16].append(cost)
            _add(slices, f"{name}, paced", 16, answers)
    yield from _costs(running, f"{rate:.0f}/s over 16 connections", paced, 16)

    most = max(AT_ONCE[STRAIGHT])
    rate = SHORT_OF_SATURATION * slices[OURS, most].rate
    say(f"  {rate:.0f} a second over {most} connections")
    answers, _ = _measured(running, OURS, asks, most, sizes.rounds * sizes.seconds, rate)
    yield Figure(STRAIGHT, f"p99 of ours at {most} connections, {rate:.0f}/s in all", answers.percentile(99), "ms", 20)
    yield Figure(STRAIGHT, "answers that are not as they should be", _failures(slices, answers), at_most=0)


def _measured(
    running: Webhooks, name: str, asks: Iterator[Ask], at_once: int, seconds: float, rate: float | None = None
) -> tuple[Answers, float]:
    """Returns the answers, and the processor time of the webhook for each in microseconds."""
    with apart(running.processes[name]):
        load = Load(running.urls[name], running.operated.operator.trust)
        before = running.processor_seconds(name)
        answers = load.slice(asks, at_once, seconds, rate)
        return answers, _microseconds(running.processor_seconds(name) - before, answers)


def _of_one_core(running: Webhooks, at_once: int, costs: Costs, rates: Costs) -> Iterator[Figure]:
    when = f"{at_once} at once"
    for name in running.names:
        yield Figure(STRAIGHT, f"rate on one core, {TITLES[name]}, {when}", median(rates[name, at_once]), "/s")
    for name in _compared(running):
        ratio = median(rates[name, at_once]) / median(rates[YES, at_once])
        least = 0.9 if name == OURS and at_once == 16 else None
        yield Figure(STRAIGHT, f"rate on one core to yes, {TITLES[name]}, {when}", ratio, at_least=least)

    yield from _costs(running, when, costs, at_once, most=1.2 if at_once == 16 else None)


def _costs(running: Webhooks, when: str, costs: Costs, at_once: int, most: float | None = None) -> Iterator[Figure]:
    """Yields the processor time of a review by the round in which it was least, and by the median of the rounds."""
    title = "processor time of a review"
    for name in running.names:
        for word, of in (("least", min), ("median", median)):
            yield Figure(STRAIGHT, f"{title}, {TITLES[name]}, {when}, {word}", of(costs[name, at_once]), "µs")
    for name in _compared(running):
        goal = most if name == OURS else None
        for word, of in (("least", min), ("median", median)):
            ratio = of(costs[name, at_once]) / of(costs[YES, at_once])
            yield Figure(STRAIGHT, f"{title} to yes, {TITLES[name]}, {when}, {word}", ratio, at_most=goal)


def _compared(running: Webhooks) -> list[str]:
    return [name for name in running.names if name != YES]


def _microseconds(seconds: float, answers: Answers) -> float:
    return 1e6 * seconds / len(answers.milliseconds)


class Newcomers(Background):
    """Creates so many servers in a namespace of their own, and ends."""

    def __init__(self, control_plane: ControlPlane, count: int) -> None:
        super().__init__()
        self._control_plane = control_plane
        self._count = count

    def run(self) -> None:
        create_all(self._control_plane, DITTO_SERVERS, numbered_servers(self._count, CROWD, **s3()))


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


def _percentiles(section: str, slices: Slices, most_p99: float | None = None) -> Iterator[Figure]:
    for (name, at_once), answers in sorted(slices.items(), key=lambda item: item[0][1]):
        what = f"{TITLES[name]}, {at_once} at once"
        yield Figure(section, f"p50, {what}", answers.percentile(50), "ms")

        most = most_p99 if name == OURS and at_once < 64 else None
        yield Figure(section, f"p99, {what}", answers.percentile(99), "ms", at_most=most)

        yield Figure(section, f"rate, {what}", answers.rate, "/s")

        if answers.failures:
            yield Figure(section, f"failures, {what}: {answers.failures[0]}", len(answers.failures), at_most=0)


def _failures(slices: Slices, *more: Answers) -> int:
    return sum(len(answers.failures) for answers in (*slices.values(), *more))
