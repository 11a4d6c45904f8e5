"""The metrics of servers, as they are rendered from the stores of informers that the test fills itself."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.cluster.informers import Informers
from app.reconcile.server_metrics import ServerMetrics
from app.storage.restart_cause import RestartCause
from app.storage.server_samples import FAMILIES
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.event_loop_steps import MeasuringLoop
from tests.harness.reconciler_namespace import connect
from tests.harness.server_table import s3, server
from tests.storage.test_server_samples import HALF_PAST_ELEVEN, SIZE, condition

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
MANY = 1000
MOST_STEP_MILLISECONDS = 10
HOSTILE = 'a"} 1\nup{job="x'
GARBAGE: list[Any] = [
    None,
    [],
    "text",
    {"conditions": {"Ready": 1}, "volumes": 5, "server": []},
    {"conditions": [condition("Ready", "False", HOSTILE), condition("Ready", "True", HOSTILE)], "phase": HOSTILE},
    {"volumes": [{"name": HOSTILE, "phase": HOSTILE, **SIZE}, {"name": "cache", "phase": HOSTILE, **SIZE}] * 2},
]


class Site:
    """Versions are made up: the API server is not asked for anything."""

    def __init__(self, informers: Informers) -> None:
        self.informers = informers
        self.is_leading = True
        self.metrics = ServerMetrics(informers, lambda: self.is_leading, lambda: NOON)
        self._version = 0

    def manifest(self, name: str, **fields: Any) -> Manifest:
        self._version += 1
        metadata = {"name": name, "namespace": "default", "resourceVersion": str(self._version)}
        return {**fields, "metadata": {**metadata, **fields.get("metadata", {})}}

    def put_server(self, name: str, status: Any, **spec: Any) -> Manifest:
        manifest = self.manifest(name, **{**server(**spec), "metadata": {}, "status": status})
        self.informers.servers.put(manifest)
        return manifest

    async def page(self) -> str:
        return "".join([part async for part in self.metrics.parts()])


@asynccontextmanager
async def site_of(control_plane: ControlPlane) -> AsyncIterator[Site]:
    async with connect(control_plane) as cluster:
        yield Site(Informers(cluster))


@pytest.fixture
async def site(control_plane: ControlPlane) -> AsyncIterator[Site]:
    async with site_of(control_plane) as site:
        yield site


def series(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def value(page: str, name: str, **labels: str) -> float | None:
    """Returns None where there is no such sample."""
    matching = [number for named, own, number in series(page) if named == name and labels.items() <= own.items()]
    return matching[0] if matching else None


def healthy(volumes: int = 2) -> Manifest:
    names = ("metadata", "cache", "content")[:volumes]
    kinds = ("Ready", "Reconciling", "Stalled", "StorageReady", "CredentialsReady", "StoresReady", "EndpointsReady")
    return {
        "observedGeneration": 1,
        "phase": "Running",
        "conditions": [condition(kind, "False" if kind in ("Reconciling", "Stalled") else "True") for kind in kinds],
        "volumes": [{"name": name, "phase": "Bound", "storageClass": "fast", **SIZE} for name in names],
        "server": {"version": "0.29.0", "family": "Current"},
    }


@pytest.mark.anyio
async def test_a_server_has_its_pod_and_its_secret(site: Site) -> None:
    entry = {"manager": "kubectl", "time": HALF_PAST_ELEVEN, "fieldsV1": {"f:data": {"f:accessKeyId": {}}}}
    labels = {"manager": "x", "time": "2026-02-01T11:45:00Z", "fieldsV1": {"f:metadata": {"f:labels": {}}}}
    metadata = {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [entry, labels]}
    statuses = [{"name": "dittofs", "restartCount": 3}]
    site.put_server("files", healthy(), **s3())
    site.informers.pods.put(site.manifest("files-0", status={"containerStatuses": statuses}))
    site.informers.secrets_metadata.put(site.manifest("s3", metadata=metadata))

    page = await site.page()

    changed = datetime.fromisoformat(HALF_PAST_ELEVEN).timestamp()
    assert value(page, "dittofs_operator_server_container_restarts", namespace="default", server="files") == 3
    assert value(page, "dittofs_operator_server_credentials_changed_timestamp_seconds", server="files") == changed


@pytest.mark.anyio
async def test_the_samples_of_a_metric_are_together(site: Site) -> None:
    for name in ("one", "two", "three"):
        site.put_server(name, healthy())

    lines = (await site.page()).splitlines()

    names = [line.partition("{")[0] for line in lines if not line.startswith("#")]
    changes = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    assert changes == [family.name for family in FAMILIES if family.name in changes]
    assert [line for line in lines if line.startswith("# TYPE")] == [
        f"# TYPE {family.name} {family.type}" for family in FAMILIES
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("status", GARBAGE)
async def test_garbage_in_a_status_breaks_no_page(site: Site, status: Any) -> None:
    site.put_server("garbled", status)
    site.put_server("files", healthy())

    page = await site.page()

    assert value(page, "dittofs_operator_server_info", server="files", version="0.29.0", reason="Available") == 1
    assert value(page, "dittofs_operator_server_info", server="garbled") == 1
    assert {name for name, _, _ in series(page)} <= {family.name for family in FAMILIES}
    twice = Counter((name, *sorted(labels.items())) for name, labels, _ in series(page))
    assert set(twice.values()) == {1}


@pytest.mark.anyio
async def test_labels_are_escaped(site: Site) -> None:
    # No server has such a name; if one had, the page would still be one.
    site.put_server('a"\\b\nc', healthy())

    assert value(await site.page(), "dittofs_operator_server_waiting_seconds", server='a"\\b\nc') == 0


@pytest.mark.anyio
async def test_restarts_are_counted_until_the_server_is_gone(site: Site) -> None:
    name = "dittofs_operator_server_restarts_total"
    manifest = site.put_server("files", healthy())
    site.metrics.count_restart(("default", "files"), RestartCause.SPEC)
    site.metrics.count_restart(("default", "files"), RestartCause.SPEC)

    assert value(await site.page(), name, server="files", cause="spec") == 2
    assert value(await site.page(), name, server="files", cause="drift") == 0

    site.informers.servers.remove(manifest)
    site.metrics.count_restart(("default", "files"), RestartCause.SPEC)

    assert list(series(await site.page())) == []

    site.put_server("files", healthy())

    assert value(await site.page(), name, server="files", cause="spec") == 0


@pytest.mark.anyio
async def test_only_the_leader_says_anything(site: Site) -> None:
    site.put_server("files", healthy())
    site.is_leading = False

    assert await site.page() == ""


@pytest.mark.anyio
async def test_a_leader_that_loses_the_lease_meanwhile_says_nothing(site: Site) -> None:
    for number in range(MANY):
        site.put_server(f"files-{number}", healthy())

    async with asyncio.TaskGroup() as group:
        scrape = group.create_task(site.page())
        await asyncio.sleep(0)
        site.is_leading = False

    assert scrape.result() == ""


@pytest.mark.alone
def test_a_thousand_servers_keep_nobody_waiting(control_plane: ControlPlane) -> None:
    """`pytest -s` shows what a scrape costs, for the reference."""
    sizes: list[int] = []

    async def scrape() -> None:
        async with site_of(control_plane) as site:
            for number in range(MANY):
                site.put_server(f"files-{number}", healthy(), **s3())
                statuses = [{"name": "dittofs", "restartCount": 0}]
                site.informers.pods.put(site.manifest(f"files-{number}-0", status={"containerStatuses": statuses}))
            site.informers.secrets_metadata.put(site.manifest("s3", metadata={"creationTimestamp": HALF_PAST_ELEVEN}))
            # Ends the step that has put them there.
            await asyncio.sleep(0)
            MeasuringLoop.longest.clear()

            started = time.thread_time()
            parts = [part async for part in site.metrics.parts()]
            seconds = time.thread_time() - started

            sizes.extend(map(len, parts))
            count = sum(part.count("\n") - 2 * part.count("# HELP") for part in parts)
            print(f"\n  {count} series, {sum(sizes) / 1e6:.1f} MB, {1000 * seconds:.0f} ms of processor time")

    with asyncio.Runner(loop_factory=MeasuringLoop) as runner:
        runner.run(scrape())
    seconds, what = max(MeasuringLoop.longest)

    print(f"  longest step {1000 * seconds:.1f} ms: {what}")
    assert 1000 * seconds < MOST_STEP_MILLISECONDS
    assert max(sizes) < 2**18
