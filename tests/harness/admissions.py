"""Sends a steady stream of admissions through the API server and counts the failures."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any

import httpx

from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background
from tests.harness.operator_namespace import Namespace

CONNECTIONS = 4
# Without a pause, the stream would starve the operator's pods, which start on the same machine.
PAUSE_SECONDS = 0.05
MOST = 200_000
REJECTED_EVERY = 10


@dataclass(frozen=True)
class Failure:
    """A wrong answer, and the number of its request since the beginning."""

    number: int
    answer: str


class Admissions(Background):
    """Creates DittoServers as dry runs, a few at once; some of them have to be rejected."""

    def __init__(self, user: Namespace) -> None:
        super().__init__()
        self.tried = 0
        self.failures: list[Failure] = []
        self._cluster = user.control_plane
        self._path = f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{user.namespace}/dittoservers"
        self._numbers = count(1)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Prints how many were tried inside the `with`, and how many failed."""
        begun, tried, failed = monotonic(), self.tried, len(self.failures)

        yield

        new = self.failures[failed:]
        print(f"  {what:58} {monotonic() - begun:6.1f} s {self.tried - tried:7} tried {len(new):4} failed", flush=True)
        for failure in new[:3]:
            print(f"    {failure.number}: {failure.answer}")

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        trust = ssl.create_default_context(cafile=self._cluster.ca_file)
        headers = {"Authorization": f"Bearer {self._cluster.token}"}
        base = self._cluster.url

        async with (
            httpx.AsyncClient(base_url=base, verify=trust, headers=headers, trust_env=False, timeout=30) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CONNECTIONS):
                group.create_task(self._ask(client))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        while not self.ending.is_set() and (number := next(self._numbers)) < MOST:
            rejected = number % REJECTED_EVERY == 0
            answer = await client.post(self._path, params={"dryRun": "All"}, json=server(rejected=rejected))
            self.tried += 1
            if not is_correct(answer, rejected=rejected):
                warning = answer.headers.get("warning", "")
                self.failures.append(Failure(number, f"{answer.status_code} {warning} {answer.text[:300]}"))
            await asyncio.sleep(PAUSE_SECONDS)


def server(*, rejected: bool) -> dict[str, Any]:
    storage = {"metadataSize": "1Gi", "storageClassName": "none-such" if rejected else "local"}
    return {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "metadata": {"name": "asked-for"},
        "spec": {"storage": storage},
    }


def is_correct(answer: httpx.Response, *, rejected: bool) -> bool:
    if rejected:
        return answer.status_code == 422 and "does not exist in cluster" in answer.text
    return answer.status_code == 201


def failed_open(cluster: ControlPlane) -> int:
    """Returns how many admissions the API server has let pass without an answer of the mutating webhook."""
    metrics = cluster.kubectl("get", "--raw", "/metrics").stdout
    counts = re.findall(r'^apiserver_admission_webhook_fail_open_count\{name="mutate\..* (\d+)$', metrics, re.MULTILINE)
    return sum(map(int, counts))
