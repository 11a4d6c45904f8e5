"""Counts, step by step, how often a server was restarted and what the operator wrote."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.installation import NAME, NAMESPACE
from tests.harness.operator_namespace import Namespace, Request, requests_of

OPERATOR = f"system:serviceaccount:{NAMESPACE}:{NAME}"
# The controllers of this cluster have the credentials of its admin.
CONTROLLERS = "admin"


@dataclass(frozen=True)
class Step:
    """What happened in one step: pods that were created or whose container was restarted, and writes by resource."""

    name: str
    starts: int
    writes: Counter[str]


class Ledger:
    """Keeps account of the namespace of one server. Its table is printed with `show`."""

    def __init__(self, user: Namespace, title: str, server: str = "files") -> None:
        self.title = title
        self._pod = f"{server}-0"
        self.steps: list[Step] = []
        self._user = user

    @contextmanager
    def step(self, name: str, *, starts: int) -> Iterator[None]:
        """Accounts for what happens inside the `with`, and fails when the server was started more often than this."""
        before, writes = self._starts(), self._writes()

        yield

        step = Step(name, self._starts() - before, self._writes() - writes)
        self.steps.append(step)
        assert step.starts <= starts, self.show()

    def show(self) -> str:
        lines = [f"{self.title:<58}starts  writes"]
        for step in self.steps:
            writes = ", ".join(f"{resource} {count}" for resource, count in sorted(step.writes.items()))
            lines.append(f"  {step.name:<56}{step.starts:>6}  {step.writes.total():>6}  {writes}")
        return "\n".join(lines)

    def _starts(self) -> int:
        creation = ("create", "pods", self._pod, 201)
        created = [r for r in self._requests(CONTROLLERS) if (r.verb, r.resource, r.name, r.code) == creation]
        pods = [pod for pod in self._user.list_all("pods") if pod["metadata"]["name"] == self._pod]
        statuses = [pod["status"].get("containerStatuses") or [] for pod in pods]
        restarts: list[int] = [container["restartCount"] for status in statuses for container in status]
        return len(created) + sum(restarts)

    def _writes(self) -> Counter[str]:
        # Leases are written all the time, and not here.
        return Counter(request.resource for request in self._requests(OPERATOR) if request.writes)

    def _requests(self, account: str) -> list[Request]:
        requests = requests_of(self._user.control_plane, account)
        return [request for request in requests if request.namespace == self._user.namespace]
