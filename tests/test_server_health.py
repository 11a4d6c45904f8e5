"""What a running server reports gets into its status, on a real API server, with as few writes as there are news.

The server answers on a socket, as the address of its Service: nothing runs in the pods of these tests.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import REQUESTS
from app.cluster.reader import DITTO_SERVERS, PODS
from app.dittofs.client import ServerClient
from app.reconcile.concurrency import ConcurrencyLimit
from app.reconcile.controller import Controller
from app.reconcile.health_monitor import HealthMonitor
from app.reconcile.reconciler import Reconciler
from app.storage.status import conditions
from tests.controlplane.cluster import ControlPlane
from tests.harness.raw_server import Received, Reply, connect_to, raw_server
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, run_informers
from tests.harness.recorded_health import S3_FORBIDDEN, STARTED_AT, current_answers, legacy_answers
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

INTERVAL_SECONDS = 0.1


class Site(ReconcilerNamespace):
    """A namespace with one server."""

    client: ServerClient
    answers: Mapping[str, bytes] = {}

    def answer(self, request: Received) -> Reply:
        return self.answers.get(request.line, b"")

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[HealthMonitor]:
        """Runs what the leader runs, which knows nothing of earlier runs."""
        monitor = HealthMonitor(self.informers, self.client, INTERVAL_SECONDS, INTERVAL_SECONDS)
        reconciler = Reconciler(
            self.cluster, self.informers, self.writer, self.record_event, self.now, report_of=monitor.report
        )
        controller = Controller(self.informers, reconciler, ConcurrencyLimit(1))
        monitor.change_handlers.append(partial(controller.wake, trigger="health"))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (controller, monitor)]
            yield monitor
            for task in tasks:
                task.cancel()

    async def report_ready(self) -> None:
        """Reports the pod ready, as its kubelet does."""
        await until_async(lambda: self.pod is not None)
        metadata = (await self.live(PODS, "files-0"))["metadata"]
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
        await self.cluster.patch_status(PODS, {"metadata": identity, "status": status})
        await until_async(lambda: self.reason("Ready") == "Available")

    @property
    def status(self) -> Mapping[str, Any]:
        return (self.informers.servers.get(self.key) or {}).get("status") or {}

    def reason(self, kind: str) -> str:
        return str(conditions({"status": self.status}).get(kind, {}).get("reason"))

    @property
    def writes(self) -> int:
        """The patches that this process has sent so far. Nothing but the status is written once the objects exist."""
        [family] = REQUESTS.collect()
        patches = [sample for sample in family.samples if sample.labels["method"] == "PATCH"]
        return sum(int(sample.value) for sample in patches if sample.name.endswith("_total"))

    async def settle(self, monitor: HealthMonitor) -> None:
        """Waits until the server was asked, and for what would follow from that."""
        await until_async(lambda: monitor.report(self.key) is not None)
        await asyncio.sleep(5 * INTERVAL_SECONDS)


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    socket = tmp_path / "s"
    async with (
        connect(control_plane) as cluster,
        run_informers(cluster, namespace) as informers,
    ):
        site = Site(cluster, informers, namespace)
        site.client = ServerClient(connect_to(socket))
        async with raw_server(site.answer, socket):
            yield site


async def test_what_a_server_reports_is_in_its_status(site: Site) -> None:
    site.answers = legacy_answers(shares=2)
    await site.create_server(image="example.com/dittofs:v0.8.3")

    async with site.operator() as monitor:
        await site.report_ready()
        await until_async(lambda: site.reason("StoresReady") == "Loaded")
        assert site.status["server"]["family"] == "Legacy"
        assert site.status["server"]["startedAt"] == STARTED_AT
        assert site.status["server"]["shares"] == 2

        await site.settle(monitor)
        writes = site.writes
        site.answers = legacy_answers(shares=2, s3_error=S3_FORBIDDEN)
        await until_async(lambda: site.reason("StoresReady") == "StoreFailing")
        assert site.reason("Ready") == "Available"
        # The watch may report the status before the reconciler gets the answer to its write, and records the Event.
        await until_async(lambda: "S3 rejects the credentials: 403" in [event.message for event in site.events])

        # It stays as it is for as long as it is so.
        await site.settle(monitor)
        assert site.writes == writes + 1


async def test_a_server_that_stops_answering_is_unknown_and_ready(site: Site) -> None:
    site.answers = current_answers()
    await site.create_server()

    async with site.operator():
        await site.report_ready()
        await until_async(lambda: site.reason("StoresReady") == "Loaded")
        site.answers = {}
        await until_async(lambda: site.reason("StoresReady") == "ServerUnreachable")
        assert site.reason("Ready") == "Available"
        assert site.status["server"]["family"] == "Current"


async def test_a_restart_of_the_operator_writes_nothing(site: Site) -> None:
    site.answers = current_answers()
    await site.create_server()
    async with site.operator() as monitor:
        await site.report_ready()
        await until_async(lambda: site.reason("StoresReady") == "Loaded")
        await site.settle(monitor)

    writes = site.writes
    async with site.operator() as monitor:
        await site.settle(monitor)

    assert site.writes == writes


async def test_an_upgrade_of_the_operator_writes_each_status_once(site: Site) -> None:
    """A server of an earlier operator has neither the condition nor what the server reports."""
    site.answers = current_answers()
    await site.create_server()
    async with site.operator() as monitor:
        await site.report_ready()
        await until_async(lambda: site.reason("StoresReady") == "Loaded")
        await site.settle(monitor)

    live = await site.live(DITTO_SERVERS)
    earlier = [condition for condition in live["status"]["conditions"] if condition["type"] != "StoresReady"]
    identity = {name: live["metadata"][name] for name in ("name", "namespace", "uid")}
    change = {"server": None, "conditions": earlier}
    await site.cluster.patch_status(DITTO_SERVERS, {"metadata": identity, "status": change})
    await until_async(lambda: "server" not in site.status)

    writes = site.writes
    async with site.operator() as monitor:
        await until_async(lambda: site.reason("StoresReady") == "Loaded")
        await site.settle(monitor)

    assert site.writes == writes + 1
