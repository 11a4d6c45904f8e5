"""Asks kubelets for the used space of volumes without waiting long for one, and without asking too often."""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from app.cluster.errors import ClusterError, Unavailable
from app.cluster.survey import Stats

# A kubelet measures its volumes once a minute.
INTERVAL_SECONDS = 15.0
# A node that does not answer must not keep a person waiting for everything else.
TIMEOUT_SECONDS = 3.0


def within_patience(stats: Stats) -> Stats:
    async def ask(node: str) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await stats(node)
        except TimeoutError:
            raise Unavailable(f"no answer from node {node} within {TIMEOUT_SECONDS:g} s") from None

    return ask


def remember(stats: Stats, now: Callable[[], float] = monotonic) -> Stats:
    """Asks each node only now and then, whether it answers or not."""
    answers: dict[str, tuple[float, Mapping[str, Any] | ClusterError]] = {}

    async def ask(node: str) -> Mapping[str, Any]:
        asked_at, answer = answers.get(node, (None, {}))
        if asked_at is None or now() - asked_at >= INTERVAL_SECONDS:
            try:
                answer = await stats(node)
            except ClusterError as error:
                answer = error
            answers[node] = now(), answer

        if isinstance(answer, ClusterError):
            raise answer
        return answer

    return ask
