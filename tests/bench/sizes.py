"""How much is measured: all of it, or enough to see that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Seconds are of one slice of a load; there are so many rounds of slices, and in a round one of each kind.

    `growth` are the numbers of servers in clusters of their own. In the one with `many`, `sharing` of them share a
    Secret that is rotated, `foreign` Secrets are nobody's business, and `churn_seconds` of changes are looked at.
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
