"""What is read of one DittoServer at the real API server."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from app.cluster.reader import SECRETS
from app.reconcile.live_reader import LiveReader
from app.storage.containers import failed_run
from app.storage.facts import Secret
from app.storage.live import RESIZE_PATIENCE
from app.storage.reading import read
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.kubelet import kubelet
from tests.harness.nodes import crashed_container
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, run_informers
from tests.harness.wait import until_async

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
    site: ReconcilerNamespace, log_lines: list[dict[str, Any]]
) -> None:
    await site.put_secret("dsn", url=DSN)
    manifest = await site.create_server(**POSTGRES)
    live = await reader_of(site).read(read(manifest).server, manifest)
    source = await site.live(SECRETS, "dsn")

    assert live.postgres_source == source
    assert source["data"]["url"] not in repr(live) + str(log_lines)


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


FAILED = "level=INFO password=m4rk3r\nError: failed to run database migration: m4rk3r\n"


@pytest.fixture
async def crashed(site: ReconcilerNamespace, control_plane: ControlPlane) -> tuple[DittoServer, Manifest]:
    """A server whose pod is on a node of its own and has ended once with an error."""
    manifest = await site.create_server()
    await site.reconcile()
    await until_async(lambda: site.pod is not None)

    target = {"kind": "Node", "name": f"node-{site.namespace}"}
    path = f"/api/v1/namespaces/{site.namespace}/pods/files-0/binding"
    control_plane.create(path, {"metadata": {"name": "files-0"}, "target": target})
    await end_run(site, control_plane, 1)
    return read(manifest).server, manifest


async def end_run(site: ReconcilerNamespace, control_plane: ControlPlane, restarts: int) -> None:
    """Reports as the kubelet does that the server has ended with an error once more."""
    change = json.dumps({"status": {"containerStatuses": [crashed_container(restarts)]}})
    arguments = ("files-0", "--subresource=status", "--type=merge", "-p", change)
    control_plane.kubectl("--namespace", site.namespace, "patch", "pod", *arguments)

    await until_async(lambda: (failed_run(site.pod or {"metadata": {}}) or ("", 0))[1] == restarts)


async def test_a_failed_migration_is_read_once_for_each_run(
    site: ReconcilerNamespace,
    control_plane: ControlPlane,
    crashed: tuple[DittoServer, Manifest],
    log_lines: list[dict[str, Any]],
) -> None:
    reader, log = reader_of(site), f"{site.namespace}/files-0/dittofs"
    logs = {log: FAILED}

    with kubelet(control_plane, f"node-{site.namespace}", logs=logs) as requests:
        first = await reader.read_migration(reader.observe(*crashed))
        again = await reader.read_migration(reader.observe(*crashed))
        asked = len(requests)

        # Where the kubelet has no answer, the pod's earlier run still counts.
        del logs[log]
        await end_run(site, control_plane, 2)
        unknown = await reader.read_migration(reader.observe(*crashed))

        logs[log] = "Error: no space left\n"
        await end_run(site, control_plane, 3)
        other = await reader.read_migration(reader.observe(*crashed))

    assert (first, again, unknown, other) == (True, True, True, False)
    assert asked == 1
    assert "m4rk3r" not in str(log_lines)


async def test_a_log_that_nobody_can_read_is_no_failed_migration(
    site: ReconcilerNamespace, crashed: tuple[DittoServer, Manifest]
) -> None:
    """No kubelet answers for the node of the pod."""
    reader = reader_of(site)

    assert not await reader.read_migration(reader.observe(*crashed))


async def test_the_log_of_somebody_elses_pod_is_not_read(
    site: ReconcilerNamespace, control_plane: ControlPlane, crashed: tuple[DittoServer, Manifest]
) -> None:
    reader = reader_of(site)
    live = reader.observe(*crashed)
    stateful_set = {**(live.stateful_set or {}), "metadata": {"uid": "another"}}

    logs = {f"{site.namespace}/files-0/dittofs": FAILED}
    with kubelet(control_plane, f"node-{site.namespace}", logs=logs) as requests:
        assert not await reader.read_migration(replace(live, stateful_set=stateful_set))

    assert requests == []
