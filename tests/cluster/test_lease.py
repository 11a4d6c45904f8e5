"""Leader election among candidates at the real API server: never two at once, and soon another when one goes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.cluster.client import Cluster
from app.cluster.lease import NAME, Lease, LeaseTiming
from tests.controlplane.cluster import ControlPlane
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
        tasks = [group.create_task(each.lease.run(each.lead)) for each in candidates]
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
    found = control_plane.kubectl("-n", namespace, "get", "lease", NAME, "-o", "json").stdout
    return json.loads(found)["spec"]


async def test_one_of_two_leads(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    one, other = (Candidate(cluster, namespace, name) for name in ("one", "other"))
    async with running(one, other):
        await until_async(lambda: one.leads or other.leads)
        leader = one if one.leads else other

        assert record(control_plane, namespace)["holderIdentity"] == leader.identity
        assert REGISTRY.get_sample_value("leader_election_master_status", {"name": NAME}) == 1

        before = record(control_plane, namespace)["renewTime"]
        await until_async(lambda: record(control_plane, namespace)["renewTime"] > before)

        assert not (one.leads and other.leads)

    assert REGISTRY.get_sample_value("leader_election_master_status", {"name": NAME}) == 0


async def test_who_leaves_gives_the_lease_back_after_the_work_has_stopped(
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


async def test_a_leader_that_cannot_renew_stops_before_another_may_begin(
    control_plane: ControlPlane, namespace: str
) -> None:
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


async def test_a_leader_that_was_stopped_for_too_long_knows_it_at_once(namespace: str, cluster: Cluster) -> None:
    one = Candidate(cluster, namespace, "one", LeaseTiming(duration=0.6, renew=0.4, retry=0.1))
    async with running(one):
        await until_async(one.lease.held)
        _stop_everything(0.5)

        assert not one.lease.held()


async def test_a_lease_taken_by_another_is_lost_at_once(
    control_plane: ControlPlane, namespace: str, cluster: Cluster
) -> None:
    one = Candidate(cluster, namespace, "one", LeaseTiming(duration=60, renew=40, retry=0.2))
    async with running(one):
        await until_async(lambda: one.leads)
        theirs = json.dumps({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 1}})
        control_plane.kubectl("-n", namespace, "patch", "lease", NAME, "--type=merge", "-p", theirs)
        await until_async(lambda: not one.leads)
        await until_async(lambda: one.leads)


async def test_a_deleted_lease_is_made_again(control_plane: ControlPlane, namespace: str, cluster: Cluster) -> None:
    one = Candidate(cluster, namespace, "one")
    async with running(one):
        await until_async(lambda: one.leads)
        control_plane.kubectl("-n", namespace, "delete", "lease", NAME)
        await until_async(lambda: "one" in control_plane.kubectl("-n", namespace, "get", "lease").stdout)

        assert one.leads


async def test_a_lease_that_cannot_be_given_back_runs_out(
    control_plane: ControlPlane, namespace: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    one = Candidate(cluster, namespace, "one")
    async with running(one):
        await until_async(lambda: one.leads)
        cluster.connection.url = NOBODY

    assert "lease not released" in caplog.text
    assert record(control_plane, namespace)["holderIdentity"] == "one"


async def test_who_has_done_its_work_gives_the_lease_back_and_leads_no_more(
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
    assert REGISTRY.get_sample_value("leader_election_master_status", {"name": NAME}) == 0


async def _until_set(event: asyncio.Event) -> None:
    await event.wait()


def _stop_everything(seconds: float) -> None:
    """As SIGSTOP does: no task of this process runs meanwhile."""
    until = monotonic() + seconds
    while monotonic() < until:
        pass


@pytest.mark.parametrize("holder", ["other", "", None], ids=["its own", "released", "no record"])
async def test_a_rewound_lease_is_not_taken_at_once(
    control_plane: ControlPlane, namespace: str, cluster: Cluster, holder: str | None
) -> None:
    """The candidate has seen a later record, of a leader that may still believe in it."""
    candidate = Candidate(cluster, namespace, "other")
    rewound = monotonic()
    candidate.lease._latest_version = 2**40
    if holder is not None:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 1}
        manifest = {"metadata": {"name": NAME}, "spec": spec}
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
