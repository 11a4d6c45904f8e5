"""What is read of one DittoServer at the real API server."""

import logging
from collections.abc import AsyncIterator

import pytest

from app.cluster.reader import SECRETS
from app.reconcile.live_reader import LiveReader
from app.storage.facts import Secret
from app.storage.live import RESIZE_PATIENCE
from app.storage.reading import read
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, run_informers

pytestmark = pytest.mark.anyio

DSN = "postgres://ditto:hunter2@db.example.com/files"
POSTGRES = {"database": {"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "url"}}}


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[ReconcilerNamespace]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield ReconcilerNamespace(cluster, informers, namespace)


def reader_of(site: ReconcilerNamespace) -> LiveReader:
    return LiveReader(site.cluster, site.informers, site.now, RESIZE_PATIENCE, lambda _: None)


async def test_all_that_was_created_is_read(site: ReconcilerNamespace) -> None:
    manifest = await site.create_server()
    await site.reconcile()
    live = await reader_of(site).read(read(manifest).server, manifest)

    assert live.uid == manifest["metadata"]["uid"]
    assert live.stateful_set
    assert live.config_map
    assert set(live.services) == {"files-headless", "files-file", "files-api"}
    assert set(live.secrets or {}) == {"files-jwt-secret", "files-admin-bootstrap-credentials"}
    assert all(isinstance(secret, Secret) for secret in (live.secrets or {}).values())
    assert live.digests.keys() == (live.secrets or {}).keys()
    assert live.postgres_source is None


async def test_a_secret_that_does_not_exist_is_none_and_not_left_out(site: ReconcilerNamespace) -> None:
    manifest = await site.create_server(**POSTGRES)
    live = await reader_of(site).read(read(manifest).server, manifest)

    assert live.secrets
    assert live.secrets["dsn"] is None
    assert live.digests == {}


async def test_a_connection_string_is_read_until_its_parts_agree(site: ReconcilerNamespace) -> None:
    await site.put_secret("dsn", url=DSN)
    manifest = await site.create_server(**POSTGRES)
    await site.reconcile()
    reader, server = reader_of(site), read(manifest).server
    first = await reader.read(server, manifest)

    assert first.postgres_source
    assert first.postgres_source["metadata"]["name"] == "dsn"

    reader.agree(site.key, first.postgres_source)
    second = await reader.read(server, manifest)

    assert second.postgres_source is None


async def test_a_connection_string_is_in_no_log_of_the_state(
    site: ReconcilerNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await site.put_secret("dsn", url=DSN)
    manifest = await site.create_server(**POSTGRES)
    live = await reader_of(site).read(read(manifest).server, manifest)
    source = await site.live(SECRETS, "dsn")

    assert live.postgres_source == source
    assert source["data"]["url"] not in repr(live) + caplog.text


async def test_agreement_on_a_dsn_ends_with_its_history(site: ReconcilerNamespace) -> None:
    """The versions at which the two Secrets agreed belong to a history that etcd no longer has."""
    await site.put_secret("dsn", url=DSN)
    await site.create_server(**POSTGRES)
    await site.reconcile()
    await site.put_secret("dsn", url=DSN.replace("db.", "db2."))
    metadata = site.informers.secrets_metadata
    dsn, parts = ((site.namespace, name) for name in ("dsn", "files-postgres"))
    site.reconciler._reader._agreed[site.key] = metadata.version(dsn), metadata.version(parts)

    kept = [secret for key in metadata if (secret := metadata.get(key))]
    metadata.forget_versions(None)
    for secret in kept:
        metadata.put(secret)
    await site.reconcile()

    assert (await site.postgres_credentials())["host"] == "db2.example.com"
