"""Objects that are being deleted are neither present nor absent: what the operator does while others keep them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from app.cluster.reader import SECRETS, STATEFUL_SETS, Conflict, Resource
from app.storage.status import conditions
from tests.controlplane.cluster import ControlPlane
from tests.reconcile.watching import Manifest, Site, connected, watching
from tests.servers import s3
from tests.wait import until_async

pytestmark = pytest.mark.anyio

FINALIZER = "example.com/in-use"
KEYS = {"accessKeyId": "AKIA", "secretAccessKey": "one"}


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[Site]:
    async with connected(control_plane) as cluster, watching(cluster, namespace) as observed:
        yield Site(cluster, observed, namespace)


def stores(site: Site, resource: Resource):  # type: ignore[no-untyped-def]
    return site.observed._caches[resource][0]._store


async def set_finalizers(site: Site, resource: Resource, name: str, *finalizers: str) -> Manifest:
    async with asyncio.timeout(60):
        while True:
            live = await site.live(resource, name)
            metadata = {**live["metadata"], "finalizers": list(finalizers)}
            with suppress(Conflict):
                return await site.cluster.replace(resource, {**live, "metadata": metadata})


async def delete_kept(site: Site, resource: Resource, name: str) -> None:
    """Deletes it as kubectl does; a finalizer keeps it."""
    await set_finalizers(site, resource, name, FINALIZER)
    async with asyncio.timeout(60):
        while True:
            with suppress(Conflict):
                await site.cluster.delete(resource, await site.live(resource, name))
                break

    store = stores(site, resource)
    await until_async(lambda: "deletionTimestamp" in (store.get((site.namespace, name)) or {}).get("metadata", {}))


async def release(site: Site, resource: Resource, name: str) -> None:
    await set_finalizers(site, resource, name)
    await until_async(lambda: (site.namespace, name) not in stores(site, resource))


async def message(site: Site, kind: str) -> str:
    live = await site.live(Resource("dittofs.dittofs.com/v1alpha1", "dittoservers", "DittoServer"))
    return str(conditions(live)[kind]["message"])


async def test_a_terminating_secret_changes_no_pod(site: Site) -> None:
    await site.put_secret("s3", **KEYS)
    await site.begin(**s3())
    await site.reconciled()
    template = await site.template()

    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    await delete_kept(site, SECRETS, "s3")
    await site.reconciled()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert 'S3 credentials Secret "s3" is being deleted' in await message(site, "CredentialsReady")
    assert "create it again" in await message(site, "CredentialsReady")
    assert await site.template() == template
    assert [told.reason for told in site.told] == ["SecretTerminating"]

    await release(site, SECRETS, "s3")
    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    await site.reconciled()
    assert await site.condition("CredentialsReady") == ("True", "Found")
    assert await site.template() != template


async def test_a_terminating_secret_starts_no_pod(site: Site) -> None:
    await site.put_secret("s3", **KEYS)
    await delete_kept(site, SECRETS, "s3")
    await site.begin(**s3())

    await site.reconciled()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert await site.condition("Ready") == ("False", "SecretTerminating")
    assert not await site.is_there(STATEFUL_SETS)


async def test_a_terminating_generated_secret_is_kept(site: Site) -> None:
    await site.begin()
    await site.reconciled()
    await delete_kept(site, SECRETS, "files-jwt-secret")

    await site.reconciled()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert '"files-jwt-secret"' in await message(site, "CredentialsReady")
