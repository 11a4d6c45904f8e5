"""Secrets of the real API server, read no more often than they change."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from app.cluster.client import Cluster, Selection
from app.cluster.reader import SECRETS
from app.cluster.reflector import Reflector
from app.cluster.secrets import SecretDigest, SecretDigests, trim_secret
from app.cluster.store import Store
from app.storage.facts import Trait, Unknown
from tests.controlplane.cluster import ControlPlane
from tests.harness.gc_objects import count_new_gc_objects
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

MARKER = "hunter2-in-clear"


class Watched:
    def __init__(self, cluster: Cluster) -> None:
        self.store = Store(trim=trim_secret)
        self.cluster = cluster
        self.secrets = SecretDigests(cluster, self.store)

    def gets(self) -> float:
        host = self.cluster.connection.host
        labels = {"code": "200", "method": "GET", "host": host}
        return REGISTRY.get_sample_value("rest_client_requests_total", labels) or 0


@asynccontextmanager
async def watched(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Watched]:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        site = Watched(cluster)
        reflector = Reflector(cluster, Selection(SECRETS, namespace, metadata_only=True), site.store)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(reflector.run())
            await reflector.wait_for_sync()
            yield site
            task.cancel()


def put(control_plane: ControlPlane, namespace: str, **values: str) -> None:
    metadata = {"name": "s3", "namespace": namespace}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(manifest))


async def test_two_hundred_readers_cost_one_request(control_plane: ControlPlane, namespace: str) -> None:
    put(control_plane, namespace, key=MARKER, empty="")
    async with watched(control_plane, namespace) as site:
        before = site.gets()
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(site.secrets.fetch((namespace, "s3"))) for _ in range(200)]
        digest, *others = (task.result() for task in asked)

        assert site.gets() == before + 1
        assert others == [digest] * 199
        assert not site.secrets._fetching

    assert isinstance(digest, SecretDigest)
    assert digest.digests["key"] == hashlib.sha256(MARKER.encode()).hexdigest()
    assert Trait.EMPTY in digest.secret.keys["empty"]
    assert digest.secret.type == "Opaque"
    assert MARKER not in repr(vars(site.secrets)) + repr([site.store.get(key) for key in site.store])


async def test_a_secret_is_fetched_once_per_change(control_plane: ControlPlane, namespace: str) -> None:
    key = namespace, "s3"
    put(control_plane, namespace, key="one")
    async with watched(control_plane, namespace) as site:
        first = await site.secrets.fetch(key)
        before = site.gets()

        assert await site.secrets.fetch(key) == first == site.secrets.get(key)

        put(control_plane, namespace, key="two")
        await until_async(lambda: site.secrets.get(key) is None)
        second = await site.secrets.fetch(key)

        assert site.gets() == before + 1

    assert isinstance(first, SecretDigest)
    assert isinstance(second, SecretDigest)
    assert first.digests != second.digests


async def test_a_secret_that_is_gone_or_never_was_is_none(control_plane: ControlPlane, namespace: str) -> None:
    key = namespace, "s3"
    put(control_plane, namespace, key="one")
    async with watched(control_plane, namespace) as site:
        assert await site.secrets.fetch((namespace, "never")) is None

        await site.secrets.fetch(key)
        control_plane.kubectl("-n", namespace, "delete", "secret", "s3")
        await until_async(lambda: site.store.get(key) is None)

        assert await site.secrets.fetch(key) is None
        assert not site.secrets._digests

        # The watch may lag behind: the Secret itself has the last word.
        last = {"metadata": {"namespace": namespace, "name": "s3", "resourceVersion": str(2**62)}}
        site.store.put(last)

        assert await site.secrets.fetch(key) is None


async def test_an_unreadable_secret_is_unknown(control_plane: ControlPlane, namespace: str) -> None:
    put(control_plane, namespace, key="one")
    async with watched(control_plane, namespace) as site:
        site.cluster.connection.url = "https://127.0.0.1:1"
        assert isinstance(await site.secrets.fetch((namespace, "s3")), Unknown)


async def test_a_written_secret_is_not_fetched(control_plane: ControlPlane, namespace: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "made", "namespace": namespace},
        "stringData": {"key": MARKER},
    }
    async with watched(control_plane, namespace) as site:
        before = site.gets()
        site.secrets.put_written(await site.cluster.create(SECRETS, manifest))
        digest = await site.secrets.fetch((namespace, "made"))

        assert site.gets() == before

    assert isinstance(digest, SecretDigest)
    assert digest.digests == {"key": hashlib.sha256(MARKER.encode()).hexdigest()}
    assert MARKER not in repr(vars(site.secrets)) + repr([site.store.get(key) for key in site.store])


async def test_the_garbage_collector_skips_digests(
    control_plane: ControlPlane,
) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        site = Watched(cluster)

        def learn() -> None:
            for number in range(1000):
                metadata = {"name": f"s{number}", "namespace": "default", "resourceVersion": str(number + 1)}
                data = {"username": "YWRtaW4=", "password": "aHVudGVyMg=="}
                site.secrets.put_written({"metadata": metadata, "data": data})

        assert count_new_gc_objects(learn) < 100


async def test_digests_are_forgotten_when_versions_go_back(control_plane: ControlPlane, namespace: str) -> None:
    key = namespace, "s3"
    put(control_plane, namespace, key="restored")
    async with watched(control_plane, namespace) as site:
        restored = await site.secrets.fetch(key)
        metadata = site.store.get(key)

        assert isinstance(restored, SecretDigest)
        assert metadata

        site.secrets._put(key, SecretDigest(restored.version + 1, (("key", frozenset(), "of a value that was lost"),)))

        assert site.secrets.get(key) != restored

        site.store.forget_versions(None)
        site.store.put(metadata)

        assert site.secrets.get(key) is None
        assert await site.secrets.fetch(key) == restored


def test_a_terminating_secret_stays_so_when_packed() -> None:
    metadata = {"name": "s3", "resourceVersion": "7", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    digest = SecretDigest.read({"metadata": metadata, "data": {"key": ""}})

    assert digest.secret.terminating
    assert SecretDigest.decode(digest.encode()) == digest
