"""Defines how much is measured: everything, or just enough to see that it works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The sizes of all measurements.

    A load has so many `rounds`, each with one slice of each kind, which takes so many `seconds`. `growth` has the
    numbers of servers, each in its own cluster. In the cluster with `many` servers, `sharing` of them share a Secret
    that is rotated, `foreign` Secrets belong to no server, and servers change for `churn_seconds`.
    """

    rounds: int
    seconds: float
    growth: tuple[int, ...]
    many: int
    sharing: int
    foreign: int
    idle_seconds: float
    churn_seconds: float


FULL = Sizes(10, 2.5, (100, 300, 1000, 3000), many=1000, sharing=200, foreign=300, idle_seconds=60, churn_seconds=600)
QUICK = Sizes(2, 1, (10, 30, 100), many=100, sharing=20, foreign=30, idle_seconds=10, churn_seconds=20)
