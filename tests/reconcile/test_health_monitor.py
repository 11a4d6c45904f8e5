"""Which servers are asked, when, and what becomes of their answers. The objects are put into the stores by the tests,
beside the caches of an empty namespace; the servers answer on a socket, as whatever address they are asked at.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app.cluster.informers import Informers
from app.dittofs.client import ServerClient
from app.dittofs.exchange import Connect
from app.reconcile.health_monitor import MAX_CONCURRENT, HealthMonitor
from app.storage.facts import Unknown
from app.storage.server_health import Family, ServerHealth
from app.storage.unstructured import Manifest, ObjectKey
from tests.controlplane.cluster import ControlPlane
from tests.harness.raw_server import Received, Reply, connect_to, raw_server, reply
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.recorded_health import S3_FORBIDDEN, STARTED_AT, current_answers, health, legacy_answers
from tests.harness.server_table import server
from tests.harness.wait import run_beside, until_async

pytestmark = pytest.mark.anyio

# Beyond those of the API server, which is not asked for any of it.
FIRST_VERSION = 2**40
# Whatever has to happen within a test happens at an interval of this; what must not happen would within a few of them.
INTERVAL_SECONDS = 0.1
NEVER = 3600.0


class Site:
    """A namespace with servers; `answers` are by the address of a Service, and `asked` counts the requests there."""

    def __init__(self, informers: Informers, namespace: str, connect: Connect) -> None:
        self.informers = informers
        self.namespace = namespace
        self.connect = connect
        self.client = ServerClient(connect)
        self.answers: dict[str, dict[str, bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.changed: list[str] = []
        self.answer: Callable[[Received], Reply] = self.answer_as_told
        self._version = FIRST_VERSION

    def respond(self, request: Received) -> Reply:
        return self.answer(request)

    def answer_as_told(self, request: Received) -> Reply:
        address = request.headers["host"]
        if request.line == "GET /health":
            self.asked[address] += 1
        return self.answers.get(address, {}).get(request.line, b"")

    def put_server(self, name: str = "files", address: str = "10.0.0.1", *, ready: bool = True) -> None:
        self.informers.servers.put({**server(), **self._metadata(name, {})})
        self.put_service(name, address)
        self.put_pod(name, ready=ready)

    def put_service(self, name: str, address: str, listener: str = "api", port: int = 8080) -> None:
        labels = {"app": "dittofs-server", "instance": name}
        spec = {"clusterIP": address, "selector": labels, "ports": [{"name": listener, "port": port}]}
        self.informers.services.put({**self._metadata(f"{name}-{listener}", labels), "spec": spec})

    def put_pod(self, name: str = "files", *, ready: bool = True, container: str = "1", image: str = "dittofs") -> None:
        labels = {"app": "dittofs-server", "instance": name}
        status = {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "dittofs", "containerID": container, "image": image}],
        }
        self.informers.pods.put({**self._metadata(f"{name}-0", labels), "status": status})

    def remove(self, name: str) -> None:
        self.informers.servers.remove(self._metadata(name, {}))

    def monitor(self, interval_seconds: float = NEVER, retry_seconds: float = INTERVAL_SECONDS) -> HealthMonitor:
        monitor = HealthMonitor(self.informers, self.client, interval_seconds, retry_seconds)
        monitor.change_handlers.append(lambda key: self.changed.append(key[1]))
        return monitor

    def key(self, name: str = "files") -> ObjectKey:
        return self.namespace, name

    def _metadata(self, name: str, labels: dict[str, str]) -> Manifest:
        self._version += 1
        metadata = {"name": name, "namespace": self.namespace, "uid": name, "labels": labels}
        return {"metadata": {**metadata, "resourceVersion": str(self._version)}}


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    socket = tmp_path / "s"
    async with (
        connect(control_plane) as cluster,
        run_informers(cluster, namespace) as informers,
    ):
        site = Site(informers, namespace, connect_to(socket))
        async with raw_server(site.respond, socket):
            yield site


@asynccontextmanager
async def running(monitor: HealthMonitor) -> AsyncIterator[None]:
    async with run_beside(monitor.run(), asyncio.sleep(0), 10):
        yield


async def test_a_ready_server_is_asked_and_its_key_woken(site: Site) -> None:
    site.answers["10.0.0.1:8080"] = legacy_answers(s3_error=S3_FORBIDDEN)
    site.put_server()
    monitor = site.monitor()

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        expected = ServerHealth(Family.LEGACY, STARTED_AT, 1, ("S3 rejects the credentials: 403",))
        assert monitor.report(site.key()) == expected

    assert monitor.report(site.key()) is None


async def test_a_server_that_is_not_ready_is_not_asked(site: Site) -> None:
    site.put_server("starting", "10.0.0.2", ready=False)
    site.put_server("files", "10.0.0.1")
    site.answers["10.0.0.1:8080"] = current_answers()

    async with running(site.monitor()):
        await until_async(lambda: site.changed == ["files"])
        assert site.asked == {"10.0.0.1:8080": 1}

        site.answers["10.0.0.2:8080"] = current_answers()
        site.put_pod("starting")
        await until_async(lambda: site.changed == ["files", "starting"])


async def test_nobody_is_asked_before_it_runs(site: Site) -> None:
    site.monitor()
    site.put_server()
    site.put_pod(container="2")

    await asyncio.sleep(0.05)
    assert site.asked == {}


async def test_only_what_differs_wakes_a_key(site: Site) -> None:
    site.answers["10.0.0.1:8080"] = legacy_answers(shares=2)
    site.put_server()

    async with running(site.monitor(INTERVAL_SECONDS)):
        await until_async(lambda: site.asked.total() > 3)
        assert site.changed == ["files"]

        site.answers["10.0.0.1:8080"] = legacy_answers(shares=3)
        await until_async(lambda: len(site.changed) == 2)
        before = site.asked.total()
        await until_async(lambda: site.asked.total() > before + 3)
        assert site.changed == ["files", "files"]


async def test_one_failure_changes_nothing_and_three_make_it_unknown(site: Site) -> None:
    answers = current_answers()
    site.answers["10.0.0.1:8080"] = answers
    site.put_server()
    monitor = site.monitor(INTERVAL_SECONDS)

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        before = site.asked.total()
        site.answers["10.0.0.1:8080"] = {}
        await until_async(lambda: site.asked.total() > before)
        site.answers["10.0.0.1:8080"] = answers
        await until_async(lambda: site.asked.total() > before + 3)
        assert site.changed == ["files"]

        site.answers["10.0.0.1:8080"] = {}
        await until_async(lambda: len(site.changed) == 2)
        why = "no answer to GET /health: the connection was closed too early"
        assert monitor.report(site.key()) == Unknown(why)

        # Another reason is no reason to write a status.
        before = site.asked.total()
        site.answers["10.0.0.1:8080"] = {"GET /health": reply(500, b"")}
        await until_async(lambda: site.asked.total() > before + 3)
        assert monitor.report(site.key()) == Unknown(why)
        assert len(site.changed) == 2

        site.answers["10.0.0.1:8080"] = answers
        await until_async(lambda: len(site.changed) == 3)
        assert isinstance(monitor.report(site.key()), ServerHealth)


async def test_a_bug_with_one_server_stops_no_other(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host == "10.0.0.1":
            raise ZeroDivisionError
        return await site.connect(host, port)

    site.client = ServerClient(connect)
    site.answers["10.0.0.2:8080"] = current_answers()
    site.put_server("hit", "10.0.0.1")
    monitor = site.monitor()

    async with running(monitor):
        await until_async(lambda: isinstance(monitor.report(site.key("hit")), Unknown))
        site.put_server("other", "10.0.0.2")
        await until_async(lambda: isinstance(monitor.report(site.key("other")), ServerHealth))

    assert "ZeroDivisionError" in caplog.text


async def test_a_service_that_leads_elsewhere_is_not_asked(site: Site) -> None:
    site.put_server("files", "127.0.0.1")
    monitor = site.monitor()

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        assert monitor.report(site.key()) == Unknown("there is no Service files-api that leads to its pod")
        assert site.asked == {}


async def test_another_address_or_container_is_asked_at_once(site: Site) -> None:
    site.answers = {"10.0.0.1:8080": current_answers(), "10.0.0.2:8080": current_answers(shares=2)}
    site.put_server()
    monitor = site.monitor()

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        site.put_service("files", "10.0.0.2")
        await until_async(lambda: len(site.changed) == 2)

        site.answers["10.0.0.2:8080"] = current_answers(shares=3)
        site.put_pod(container="2")
        await until_async(lambda: len(site.changed) == 3)
        assert site.asked == {"10.0.0.1:8080": 1, "10.0.0.2:8080": 2}


async def test_other_changes_ask_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.reconcile.health_monitor.SHORTEST_INTERVAL_SECONDS", 0.0)
    site.answers["10.0.0.1:8080"] = current_answers()
    site.put_server()

    async with running(site.monitor()):
        await until_async(lambda: site.changed == ["files"])
        for _ in range(20):
            site.put_pod()
            site.put_service("files", "10.0.0.1")
            site.put_service("files", "10.0.0.7", "file")
        await asyncio.sleep(0.2)
        assert site.asked.total() == 1


async def test_a_server_is_asked_when_told_though_not_without_a_pause(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reconcile.health_monitor.SHORTEST_INTERVAL_SECONDS", 0.2)
    site.answers["10.0.0.1:8080"] = current_answers()
    site.put_server()
    monitor = site.monitor()
    monitor.ask_soon(site.key("nobody"))

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        started = asyncio.get_running_loop().time()
        for count in (2, 3, 4):
            for _ in range(10):
                monitor.ask_soon(site.key())
            await until_async(lambda count=count: site.asked.total() == count)  # type: ignore[misc]
        assert asyncio.get_running_loop().time() - started > 0.5


async def test_a_server_that_is_deleted_is_forgotten(site: Site) -> None:
    site.answers["10.0.0.1:8080"] = current_answers()
    site.put_server()
    monitor = site.monitor(INTERVAL_SECONDS)

    async with running(monitor):
        await until_async(lambda: site.changed == ["files"])
        site.remove("files")
        assert monitor.report(site.key()) is None

        asked = site.asked.total()
        await asyncio.sleep(3 * INTERVAL_SECONDS)
        assert site.asked.total() <= asked + 1


async def test_the_version_is_that_of_the_metrics_or_of_the_image(site: Site) -> None:
    answers = current_answers(version="v0.29.1", down="/rw")
    metrics = {"GET /metrics": answers.pop("GET /metrics")}
    site.answers["10.0.0.1:8080"] = answers
    site.put_server()
    site.put_pod(image="example.com/dittofs:v0.28.0")
    monitor = site.monitor(INTERVAL_SECONDS)

    def version() -> str | None:
        report = monitor.report(site.key())
        return report.version if isinstance(report, ServerHealth) else None

    async with running(monitor):
        await until_async(lambda: version() == "0.28.0")

        site.answers["10.0.0.3:9090"] = metrics
        site.put_service("files", "10.0.0.3", "metrics", 9090)
        await until_async(lambda: version() == "0.29.1")

        # It does not change while the server runs, whether its metrics answer or not.
        del site.answers["10.0.0.3:9090"]
        asked = site.asked.total()
        await until_async(lambda: site.asked.total() > asked + 2)
        assert version() == "0.29.1"
        report = monitor.report(site.key())
        assert isinstance(report, ServerHealth)
        assert report.store_errors == ('share "/rw": its remote store is unreachable',)


async def test_so_many_are_asked_at_a_time_and_no_more(site: Site) -> None:
    waiting: list[str] = []
    go_on = asyncio.Event()

    async def answer_late(request: Received) -> AsyncIterator[bytes]:
        waiting.append(request.headers["host"])
        await go_on.wait()
        yield reply(200, health(data={}))

    site.answer = answer_late
    for number in range(MAX_CONCURRENT + 10):
        site.put_server(f"s{number}", f"10.0.1.{number}")

    async with running(site.monitor()):
        await until_async(lambda: len(waiting) >= MAX_CONCURRENT)
        await asyncio.sleep(0.1)
        assert len(waiting) == MAX_CONCURRENT
        go_on.set()
        await until_async(lambda: len(set(waiting)) == MAX_CONCURRENT + 10)


async def test_results_are_counted(site: Site) -> None:
    def count(result: str) -> float:
        name = "dittofs_operator_server_health_requests_total"
        return REGISTRY.get_sample_value(name, {"result": result}) or 0.0

    before = {result: count(result) for result in ("answered", "unreachable", "unexpected")}
    site.answers = {
        "10.0.0.1:8080": current_answers(),
        "10.0.0.2:8080": {"GET /health": reply(200, {"data": {"service": "nginx"}})},
    }
    for number in (1, 2, 3):
        site.put_server(f"s{number}", f"10.0.0.{number}")

    async with running(site.monitor()):
        await until_async(lambda: sorted(site.changed) == ["s1", "s2", "s3"])

    assert {result: count(result) - before[result] for result in before} == {
        "answered": 1,
        "unreachable": 3,
        "unexpected": 3,
    }


@pytest.mark.alone
async def test_many_servers_hold_up_nothing_in_the_beginning(site: Site) -> None:
    for number in range(1000):
        site.put_server(f"s{number}", f"10.0.{number // 250}.{number % 250 + 1}")

    async with running(site.monitor()):
        steps = []
        while site.asked.total() < 50:
            begun = time.thread_time()
            await asyncio.sleep(0)
            steps.append(time.thread_time() - begun)

    assert max(steps) < 0.01
