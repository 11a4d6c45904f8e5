"""Leader election at the real API server: never two leaders at once, and soon another one when one leaves."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.cluster.client import Cluster
from app.cluster.lease import Lease, LeaseTiming
from app.cluster.reader import LEASE_NAME
from tests.controlplane.cluster import ControlPlane
from tests.harness.log_lines import record_lines
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

NOBODY = "https://127.0.0.1:1"
QUICK = LeaseTiming(duration=3, renew=2, retry=0.2)


class Candidate:
    def __init__(self, cluster: Cluster, namespace: str, identity: str, timing: LeaseTiming = QUICK) -> None:
        self.identity = identity
        self.lease = Lease(cluster, namespace, identity, timing)
        self.leads = False

    async def lead(self) -> None:
        self.leads = True
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False


@asynccontextmanager
async def running(*candidates: Candidate) -> AsyncIterator[list[asyncio.Task[None]]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(candidate.lease.run(candidate.lead)) for candidate in candidates]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(Cluster.connect(control_plane.kubeconfig))


def record(control_plane: ControlPlane, namespace: str) -> Any:
    lease = control_plane.kubectl("-n", namespace, "get", "lease", LEASE_NAME, "-o", "json").stdout
    return json.loads(lease)["spec"]


async def test_one_of_two_leads(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    one, other = (Candidate(cluster, namespace, name) for name in ("one", "other"))
    async with running(one, other):
        await until_async(lambda: one.leads or other.leads)
        leader = one if one.leads else other

        assert record(control_plane, namespace)["holderIdentity"] == leader.identity
        assert REGISTRY.get_sample_value("leader_election_master_status", {"name": LEASE_NAME}) == 1

        before = record(control_plane, namespace)["renewTime"]
        await until_async(lambda: record(control_plane, namespace)["renewTime"] > before)

        assert not (one.leads and other.leads)

    assert REGISTRY.get_sample_value("leader_election_master_status", {"name": LEASE_NAME}) == 0


async def test_a_leader_releases_the_lease_when_it_ends(
    control_plane: ControlPlane, namespace: str, cluster: Cluster
) -> None:
    one, other = Candidate(cluster, namespace, "one"), Candidate(cluster, namespace, "other")
    async with running(one) as [leaving]:
        await until_async(lambda: one.leads)
        async with running(other):
            left = monotonic()
            leaving.cancel()
            await until_async(lambda: other.leads)

            assert not one.leads
            assert monotonic() - left < QUICK.duration

    assert record(control_plane, namespace)["leaseTransitions"] == 2


async def test_a_cut_off_leader_stops_before_the_next(control_plane: ControlPlane, namespace: str) -> None:
    async with AsyncExitStack() as stack:
        doomed = await stack.enter_async_context(Cluster.connect(control_plane.kubeconfig))
        sound = await stack.enter_async_context(Cluster.connect(control_plane.kubeconfig))
        one, other = Candidate(doomed, namespace, "one"), Candidate(sound, namespace, "other")
        async with running(one):
            await until_async(lambda: one.leads)
            async with running(other):
                doomed.connection.url = NOBODY
                await until_async(lambda: not one.leads)

                assert not other.leads

                await until_async(lambda: other.leads)

                assert not one.leads


async def test_a_suspended_leader_knows_that_it_lost(namespace: str, cluster: Cluster) -> None:
    one = Candidate(cluster, namespace, "one", LeaseTiming(duration=0.6, renew=0.4, retry=0.1))
    async with running(one):
        await until_async(one.lease.held)
        _suspend(0.5)

        assert not one.lease.held()


async def test_a_lease_taken_by_another_is_lost(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    one = Candidate(cluster, namespace, "one", LeaseTiming(duration=60, renew=40, retry=0.2))
    async with running(one):
        await until_async(lambda: one.leads)
        theirs = json.dumps({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 1}})
        control_plane.kubectl("-n", namespace, "patch", "lease", LEASE_NAME, "--type=merge", "-p", theirs)
        await until_async(lambda: not one.leads)
        await until_async(lambda: one.leads)


async def test_a_deleted_lease_is_recreated(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    one = Candidate(cluster, namespace, "one")
    async with running(one):
        await until_async(lambda: one.leads)
        control_plane.kubectl("-n", namespace, "delete", "lease", LEASE_NAME)
        await until_async(lambda: "one" in control_plane.kubectl("-n", namespace, "get", "lease").stdout)

        assert one.leads


async def test_a_lease_that_is_not_released_expires(
    control_plane: ControlPlane, namespace: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    one = Candidate(cluster, namespace, "one")
    async with running(one):
        await until_async(lambda: one.leads)
        cluster.connection.url = NOBODY

    assert "lease not released" in caplog.text
    assert record(control_plane, namespace)["holderIdentity"] == "one"


async def test_the_lease_is_released_after_the_work(
    control_plane: ControlPlane, namespace: str, cluster: Cluster
) -> None:
    done = asyncio.Event()
    lease = Lease(cluster, namespace, "one", QUICK)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(lease.run(lambda: _until_set(done)))
        await until_async(lease.held)
        done.set()
        await asyncio.wait_for(running, 30)

    assert not lease.held()
    assert record(control_plane, namespace).get("holderIdentity", "") == ""
    assert REGISTRY.get_sample_value("leader_election_master_status", {"name": LEASE_NAME}) == 0


async def _until_set(event: asyncio.Event) -> None:
    await event.wait()


def _suspend(seconds: float) -> None:
    """Blocks the event loop, like SIGSTOP."""
    until = monotonic() + seconds
    while monotonic() < until:
        pass


@pytest.mark.parametrize("holder", ["other", "", None], ids=["its own", "released", "no record"])
async def test_a_rewound_lease_is_not_taken_at_once(
    control_plane: ControlPlane, namespace: str, cluster: Cluster, holder: str | None
) -> None:
    """The candidate has seen a later record, on which its leader may still rely."""
    candidate = Candidate(cluster, namespace, "other")
    rewound = monotonic()
    candidate.lease._latest_version = 2**40
    if holder is not None:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 1}
        manifest = {"metadata": {"name": LEASE_NAME}, "spec": spec}
        control_plane.create(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", manifest)

    async with running(candidate):
        await until_async(lambda: candidate.leads)

    assert monotonic() - rewound >= QUICK.duration


async def test_a_leader_goes_on_after_a_rewind(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    leader = Candidate(cluster, namespace, "one")
    async with running(leader):
        await until_async(lambda: leader.leads)
        leader.lease._latest_version = 2**40
        before = record(control_plane, namespace)["renewTime"]
        await until_async(lambda: record(control_plane, namespace)["renewTime"] > before)

        assert leader.leads


async def test_an_outage_is_logged_once(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as doomed:
        one, url = Candidate(doomed, namespace, "one"), doomed.connection.url
        with record_lines(logging.DEBUG) as lines:
            async with running(one):
                await until_async(lambda: one.leads)
                doomed.connection.url = NOBODY
                await until_async(lambda: [line["message"] for line in lines].count("lease not renewed") > 5)
                await until_async(lambda: not one.leads)
                doomed.connection.url = url
                await until_async(lambda: one.leads)

    logged = [(line["level"], line["message"]) for line in lines if line["level"] != "DEBUG"]
    assert logged == [
        ("INFO", "leading"),
        ("WARNING", "lease not renewed"),
        ("INFO", "no longer leading"),
        ("INFO", "leading"),
    ]
    assert {(line["kind"], line["name"], line["identity"]) for line in lines if "kind" in line} == {
        ("Lease", LEASE_NAME, "one")
    }
