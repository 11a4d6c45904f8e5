"""Interrupts the expansion of three volumes at each of its calls, in every way in which a call can fail.

It always ends with expanded claims, one StatefulSet, and the same pod, whichever version of the operator created that.

`pytest -s` shows the figures.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, get_args

import pytest

from app.cluster.client import Cluster, Request
from app.cluster.errors import Conflict, Unavailable
from app.cluster.informers import Informers
from app.cluster.reader import PODS, STATEFUL_SETS
from app.cluster.store import Store
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.rendering import NEWEST, Rendering
from tests.controlplane.cluster import ControlPlane
from tests.harness.previous_version import write_objects
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import SECONDS, ExpansionNamespace, until_adopted
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

Harm = Literal["killed before", "killed after", "conflict", "lost", "timed out", "stale"]
# What each store keeps of all objects, and their versions.
Snapshot = dict[str, tuple[dict[str, bytes], bytes]]


class Killed(BaseException):
    """The operator is dead: nothing in it can handle this."""


class Interrupted(Cluster):
    """The cluster as the operator reaches it: one call, counted from 1, is harmed. Watches do not count."""

    def __init__(self, cluster: Cluster, harm: Harm | None = None, at: int = 0) -> None:
        super().__init__(cluster.connection)
        self.calls: list[tuple[str, float]] = []
        self.snapshots: list[Snapshot] = []
        self.informers: Informers | None = None
        self._harm = harm
        self._at = at

    @property
    def harmed(self) -> bool:
        return len(self.calls) >= self._at > 0

    async def _request(self, request: Request, *kinds: str) -> dict[str, Any]:
        self.calls.append((f"{request.method} {request.path.partition('/namespaces/')[2]}", monotonic()))
        self.snapshots.append(snapshot(self.informers) if self.informers else {})
        if len(self.calls) != self._at:
            return await super()._request(request, *kinds)
        return await self._harmed(request, *kinds)

    async def _harmed(self, request: Request, *kinds: str) -> dict[str, Any]:
        match self._harm:
            case "killed before" | "stale":
                raise Killed
            case "conflict":
                raise Conflict("somebody else was faster")
            case "lost":
                raise Unavailable("the request was lost")
        answer = await super()._request(request, *kinds)
        if self._harm == "killed after":
            raise Killed
        raise Unavailable(f"no answer to what was done to {answer['kind']}")


def stores(informers: Informers) -> dict[str, Store]:
    return {name: store for name, store in vars(informers).items() if isinstance(store, Store)}


def snapshot(informers: Informers) -> Snapshot:
    return {name: (dict(store._objects), store._example) for name, store in stores(informers).items()}


def put_back(informers: Informers, known: Snapshot) -> None:
    """Lets the informers take the snapshot for the current state."""
    for name, store in stores(informers).items():
        kept, example = known[name]
        store._objects, store._example = dict(kept), example
    for caches in informers._reflectors.values():
        for cache in caches:
            cache.gap = None


@pytest.fixture
async def cluster(control_plane: ControlPlane, crd: None, driver: VolumeDriver) -> AsyncIterator[Cluster]:
    async with connect(control_plane) as connection:
        yield connection


class Story:
    """One server and its pod, whose volumes are expanded by 1 Gi in every chapter."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.size = 1
        self.pod: dict[str, Any] = {}

    @property
    def sizes(self) -> dict[str, str]:
        return dict.fromkeys(("metadataSize", "contentSize", "cacheSize"), f"{self.size}Gi")

    async def create_server(self, rendering: Rendering) -> None:
        async with run_informers(self.cluster, self.namespace) as informers:
            site = ExpansionNamespace(self.cluster, informers, self.namespace)
            await site.create_sized_server(**self.sizes)
            await write_objects(site, rendering)
            await site.reconcile_until("Bound")
            await until_async(lambda: site.pod is not None, SECONDS)
            self.pod = await site.make_pod_ready()

    async def chapter(self, harm: Harm | None = None, at: int = 0) -> Interrupted:
        """Expands the volumes with harm at one call, and lets another operator finish."""
        self.size += 1
        interrupted = Interrupted(self.cluster, harm, at)

        async with run_informers(self.cluster, self.namespace) as informers:
            site = self._reconciler(interrupted, informers)
            await site.change_sizes(**self.sizes)
            with suppress(Killed):
                await site.settle()

        if harm == "stale" and interrupted.harmed:
            await self._reconcile_stale(interrupted.snapshots[max(at - 2, 0)])

        async with run_informers(self.cluster, self.namespace) as informers:
            site = self._reconciler(self.cluster, informers)
            await site.settle()
            await self._check(site)

        return interrupted

    def _reconciler(self, cluster: Cluster, informers: Informers) -> ExpansionNamespace:
        site = ExpansionNamespace(self.cluster, informers, self.namespace)
        site.writer = Writer(cluster, informers, site.may_write)
        site.reconciler = Reconciler(cluster, informers, site.writer, site.record_event, site.now)
        if isinstance(cluster, Interrupted):
            cluster.informers = informers
        return site

    async def _reconcile_stale(self, known: Snapshot) -> None:
        """Reconciles as an operator that has started at an API server which does not know the latest changes."""
        informers = Informers(self.cluster, (self.namespace,))
        put_back(informers, known)
        site = self._reconciler(self.cluster, informers)
        for _ in range(3):
            await site.reconciler.reconcile(site.key)

    async def _check(self, site: ExpansionNamespace) -> None:
        claims = (f"{name}-files-0" for name in ("metadata", "content", "cache"))
        assert await site.claim_sizes() == dict.fromkeys(claims, self.size)

        [stateful_set] = (await self.cluster.list(STATEFUL_SETS, self.namespace)).items
        assert set((await site.template_sizes()).values()) == {f"{self.size}Gi"}
        await until_adopted(site)

        [pod] = (await self.cluster.list(PODS, self.namespace)).items
        assert pod["metadata"]["uid"] == self.pod["metadata"]["uid"]
        assert pod["metadata"]["labels"] == self.pod["metadata"]["labels"]
        owners = pod["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [stateful_set["metadata"]["uid"]]


@pytest.mark.parametrize("rendering", Rendering)
async def test_an_interrupted_expansion_is_completed(cluster: Cluster, namespace: str, rendering: Rendering) -> None:
    story = Story(cluster, namespace)
    await story.create_server(rendering)
    undisturbed = (await story.chapter()).calls

    begun = monotonic()
    runs = [await story.chapter(harm, at) for harm, at in harms(rendering, len(undisturbed))]
    harmed = sum(run.harmed for run in runs)

    print(*(call for call, _ in undisturbed), sep="\n")
    print(f"{len(undisturbed)} calls, {harmed} of {len(runs)} runs interrupted, in {monotonic() - begun:.0f} s")
    print(f"without a StatefulSet for {seconds_away(undisturbed) * 1000:.0f} ms")

    assert harmed > len(runs) * 0.9


def harms(rendering: Rendering, calls: int) -> list[tuple[Harm, int]]:
    """Returns every harm at every call; to an object of an earlier version, each call is harmed in one way, in turn."""
    every = [(harm, at) for harm in get_args(Harm) for at in range(1, calls + 1)]
    if rendering == NEWEST:
        return every

    kinds = get_args(Harm)
    return [(harm, at) for harm, at in every if kinds[at % len(kinds)] == harm]


def seconds_away(calls: list[tuple[str, float]]) -> float:
    """Returns the seconds between the requests to delete the StatefulSet and to create the next one."""
    [deleted] = (at for call, at in calls if call.startswith("DELETE"))
    [created] = (at for call, at in calls if call.startswith("POST"))
    return created - deleted
