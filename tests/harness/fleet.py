"""Creates, counts and waits for many servers at once, and measures the operator that looks after them."""

import asyncio
import base64
import os
import re
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from app.cluster.client import Cluster
from app.cluster.reader import STATEFUL_SETS, Resource
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.operator_process import Operator
from tests.harness.server_table import server
from tests.harness.wait import until

CONNECTIONS = 8
QUIET_SECONDS = 3.0
# In a Secret, base64 included; the API server accepts up to 1 MiB of values.
FOREIGN_BYTES = 1_000_000
S3_VALUES = {"accessKeyId": "AKIA", "secretAccessKey": "secret", "endpoint": "https://s3.example.com"}


class ClusterWideOperator(OperatorNamespace):
    """Runs an operator that looks after the whole cluster."""

    def __init__(self, control_plane: ControlPlane, namespace: str, folder: Path) -> None:
        super().__init__(control_plane, namespace, folder)
        self.operator = Operator(folder, "--kubeconfig", self.kubeconfig)


def create_all(
    control_plane: ControlPlane, resource: Resource, manifests: Iterable[Manifest], connections: int = CONNECTIONS
) -> None:
    """Creates all of them, a few at a time; kubectl would take minutes."""
    asyncio.run(_create_all(control_plane, resource, manifests, connections))


async def _create_all(
    control_plane: ControlPlane, resource: Resource, manifests: Iterable[Manifest], connections: int
) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await run_jobs((cluster.create(resource, manifest) for manifest in manifests), connections)


async def run_jobs(jobs: Iterable[Awaitable[object]], connections: int) -> None:
    """Awaits each job once, so many at a time; takes the next one from the iterator when a worker is free."""
    remaining = iter(jobs)

    async def work() -> None:
        for job in remaining:
            await job

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())


def numbered_servers(count: int, namespace: str, **spec: Any) -> Iterator[Manifest]:
    return (namespaced_server(f"s{n}", namespace, **spec) for n in range(count))


def namespaced_server(name: str, namespace: str, **spec: Any) -> Manifest:
    manifest = server(name, **spec)
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def large_secret(name: str, namespace: str) -> Manifest:
    value = base64.b64encode(b"x" * (FOREIGN_BYTES * 3 // 4)).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"value": value},
    }


def wait_until_quiet(operated: OperatorNamespace) -> list[Request]:
    """Returns all writes once the operator is idle and has made none for a while."""
    writes, since = operated.writes(), monotonic()

    while monotonic() < since + QUIET_SECONDS:
        sleep(0.2)
        if len(so_far := operated.writes()) > len(writes) or is_busy(operated.operator):
            writes, since = so_far, monotonic()

    return writes


def wait_until_created(operated: OperatorNamespace, servers: int) -> None:
    """Waits until each server has a StatefulSet and the operator has nothing left to do."""
    # Long pauses, so that the questions do not take the time that the test measures.
    until(lambda: count_objects(operated, STATEFUL_SETS) == servers, 240, pause=0.5)
    until(lambda: not is_busy(operated.operator), 60, pause=0.5)


def count_objects(operated: OperatorNamespace, resource: Resource) -> int:
    """Counts the objects in the namespace without having them sent."""
    path = f"/apis/{resource.version}/namespaces/{operated.namespace}/{resource.plural}?limit=1"
    page = operated.control_plane.get(path)
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


def metric(operator: Operator, name: str) -> float:
    """Returns the sum of a metric of the operator itself over all its labels, without those of errors."""
    # The whole page takes the operator a fifth of a second with a thousand servers, which it would lack elsewhere.
    text = operator.health(f"/metrics?name[]={name}").text
    lines = re.findall(rf"^({name}[{{ ].*) (\S+)$", text, re.MULTILINE)
    return sum(float(value) for labels, value in lines if 'result="error"' not in labels)


def is_busy(operator: Operator) -> bool:
    """Tells whether keys are in the work queue or with a worker."""
    return metric(operator, "workqueue_depth") + metric(operator, "controller_runtime_active_workers") > 0


def memory_megabytes(process: int) -> dict[str, float]:
    """Returns the resident memory now (VmRSS) and at its peak (VmHWM)."""
    lines = re.findall(r"^(VmHWM|VmRSS):\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return {name: int(kilobytes) / 1024 for name, kilobytes in lines}


def cpu_seconds(process: int) -> float:
    """Returns the processor time that the process has used since it began, in itself and in the kernel."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
