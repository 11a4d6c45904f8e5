"""Servers with the finalizer of the Go operator, at the real API server."""

from collections.abc import AsyncIterator

import pytest

from app.cluster.errors import Conflict
from app.cluster.reader import DITTO_SERVERS, SECRETS
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.takeover import FINALIZER
from app.storage.unstructured import Manifest, is_terminating
from tests.controlplane.cluster import ControlPlane
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, resource_version, run_informers
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

OTHER = "example.com/finalizer"


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[ReconcilerNamespace]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield ReconcilerNamespace(cluster, informers, namespace)


async def hold(site: ReconcilerNamespace, *finalizers: str, annotations: Manifest | None = None) -> None:
    """Gives the server finalizers, and perhaps annotations, and waits until the informers have them."""
    await site.edit(metadata={"finalizers": list(finalizers), "annotations": annotations or {}})


async def finalizers(site: ReconcilerNamespace) -> list[str]:
    return (await site.live(DITTO_SERVERS))["metadata"].get("finalizers") or []


def reasons(site: ReconcilerNamespace) -> list[str]:
    return [event.reason for event in site.events]


async def test_only_the_finalizer_of_the_go_operator_is_removed(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await hold(site, OTHER, FINALIZER)
    await site.reconcile()

    assert await finalizers(site) == [OTHER]
    assert reasons(site).count("FinalizerRemoved") == 1

    await hold(site)


async def test_a_finalizer_that_comes_back_is_reported_once(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await hold(site, FINALIZER)
    await site.reconcile()

    await hold(site, FINALIZER)
    await site.reconcile()
    await site.reconcile()

    assert await finalizers(site) == [FINALIZER]
    assert reasons(site).count("GoOperatorRunning") == 1

    await hold(site)


async def test_a_server_that_is_deleted_goes_after_its_secrets_are_kept(site: ReconcilerNamespace) -> None:
    server = await site.create_server()
    await site.reconcile()
    await own_secret(site, server)
    await hold(site, FINALIZER)
    await site.delete(DITTO_SERVERS)
    await until_async(
        lambda: bool((site.informers.servers.get(site.key) or server)["metadata"].get("deletionTimestamp"))
    )

    await site.reconciler.reconcile(site.key)

    await until_async(lambda: site.key not in site.informers.servers)
    assert not (await site.live(SECRETS, "files-jwt-secret"))["metadata"].get("ownerReferences")


async def test_a_finalizer_stays_while_a_secret_cannot_be_kept(site: ReconcilerNamespace) -> None:
    server = await site.create_server()
    await site.reconcile()
    await hold(site, FINALIZER)
    await own_secret(site, server)
    await site.put_secret("files-admin-bootstrap-credentials", password="other-password")
    site.writer.patch = refuse  # type: ignore[method-assign]

    result = await site.reconciler.reconcile(site.key)

    assert result.retry
    assert await finalizers(site) == [FINALIZER]

    await hold(site)


async def refuse(*_: object, **__: object) -> Manifest:
    raise Conflict("somebody else was faster")


async def own_secret(site: ReconcilerNamespace, server: Manifest) -> None:
    """Lets a generated Secret belong to the server, and waits until the informers know that."""
    reference = {name: server[name] for name in ("apiVersion", "kind")}
    reference |= {name: server["metadata"][name] for name in ("name", "uid")}
    key = (site.namespace, "files-jwt-secret")
    owned = await site.edit_metadata(SECRETS, key[1], ownerReferences=[{**reference, "controller": True}])
    await until_async(lambda: site.informers.secrets_metadata.version(key) >= int(resource_version(owned)))


async def test_a_paused_server_keeps_the_finalizer_until_it_is_deleted(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await hold(site, FINALIZER, annotations={PAUSED_ANNOTATION: "true"})
    await site.reconcile()

    assert await finalizers(site) == [FINALIZER]

    await site.delete(DITTO_SERVERS)
    await until_async(lambda: is_terminating(site.informers.servers.get(site.key) or {"metadata": {}}))
    await site.reconcile()

    assert not await site.exists(DITTO_SERVERS)
