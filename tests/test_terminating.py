"""Objects that are being deleted are neither present nor absent: the operator waits while a finalizer keeps them."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from app.cluster.errors import NotFound
from app.cluster.reader import CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.cluster.store import Store
from app.reconcile.reconciler import TAKEN_RECHECK_SECONDS, Result
from app.storage.status import conditions
from tests.harness.reconciler_namespace import (
    ReconcilerNamespace,
    open_reconciler_namespace,
)
from tests.harness.server_table import s3
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

FINALIZER = "example.com/in-use"
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
SERVICES_WITHOUT_FINALIZER = ((SERVICES, "files-headless"), (SERVICES, "files-api"))
KEYS = {"accessKeyId": "AKIA", "secretAccessKey": "one"}


site = pytest.fixture(open_reconciler_namespace)


def store_of(site: ReconcilerNamespace, resource: Resource) -> Store:
    informers = site.informers

    stores = {
        CONFIG_MAPS: informers.config_maps,
        DITTO_SERVERS: informers.servers,
        SECRETS: informers.secrets_metadata,
        SERVICES: informers.services,
        STATEFUL_SETS: informers.stateful_sets,
    }

    return stores[resource]


async def delete_kept(site: ReconcilerNamespace, resource: Resource, name: str) -> None:
    """Deletes an object as kubectl does, while a finalizer keeps it."""
    await site.edit_metadata(resource, name, finalizers=[FINALIZER])
    await delete(site, resource, name)
    store = store_of(site, resource)
    await until_async(lambda: "deletionTimestamp" in (store.get((site.namespace, name)) or {}).get("metadata", {}))


async def delete(site: ReconcilerNamespace, resource: Resource, name: str) -> None:
    with suppress(NotFound):
        await site.delete(resource, name)


async def release(site: ReconcilerNamespace, resource: Resource, name: str) -> None:
    await site.edit_metadata(resource, name, finalizers=[])
    await until_async(lambda: (site.namespace, name) not in store_of(site, resource))


async def message(site: ReconcilerNamespace, kind: str) -> str:
    return str(conditions(await site.live(DITTO_SERVERS))[kind]["message"])


async def test_a_terminating_secret_changes_no_pod(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    await site.create_server(**s3())
    await site.reconcile()
    template = await site.template()

    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    await delete_kept(site, SECRETS, "s3")
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert 'S3 credentials Secret "s3" is being deleted' in await message(site, "CredentialsReady")
    assert "create it again" in await message(site, "CredentialsReady")
    assert await site.template() == template
    assert [event.reason for event in site.events] == ["Created", "SecretTerminating"]

    await release(site, SECRETS, "s3")
    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("True", "Found")
    assert await site.template() != template


async def test_a_terminating_secret_starts_no_pod(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    await delete_kept(site, SECRETS, "s3")
    await site.create_server(**s3())

    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert await site.condition("Ready") == ("False", "SecretTerminating")
    assert not await site.exists(STATEFUL_SETS)


async def test_a_terminating_generated_secret_is_kept(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    await delete_kept(site, SECRETS, "files-jwt-secret")

    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert '"files-jwt-secret"' in await message(site, "CredentialsReady")


@pytest.fixture
async def leaving(site: ReconcilerNamespace) -> AsyncIterator[ReconcilerNamespace]:
    """Yields a namespace with a pod that stays when the namespace is deleted, so that its servers stay as well."""
    container = {"name": "c", "image": "i"}
    metadata = {"name": "stays", "namespace": site.namespace, "finalizers": [FINALIZER]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    await site.cluster.create(PODS, pod)
    yield site
    await site.edit_metadata(PODS, "stays", finalizers=[])


async def delete_namespace(site: ReconcilerNamespace) -> None:
    namespace = await site.cluster.get(NAMESPACES, site.namespace)
    await site.cluster.delete(NAMESPACES, namespace)


def requests(site: ReconcilerNamespace, method: str = "POST", code: str = "403") -> float:
    labels = {"code": code, "method": method, "host": site.cluster.connection.host}
    return REGISTRY.get_sample_value("rest_client_requests_total", labels) or 0


async def test_nothing_is_created_in_a_leaving_namespace(leaving: ReconcilerNamespace) -> None:
    site = leaving
    await site.create_server()
    await delete_namespace(site)
    refused, written = requests(site), requests(site, "PATCH", "200")

    assert await site.reconcile() is None

    assert await site.condition("Ready") == ("False", "NamespaceTerminating")
    assert await site.condition("Stalled") == ("True", "NamespaceTerminating")
    assert await site.condition("CredentialsReady") == ("Unknown", "NotRead")
    assert f"namespace {site.namespace} is being deleted" in await message(site, "Ready")
    assert site.events == []

    for _ in range(3):
        assert await site.reconcile() is None

    assert requests(site) == refused + 1
    assert requests(site, "PATCH", "200") == written + 1


@pytest.mark.parametrize(
    ("resource", "name"),
    [(CONFIG_MAPS, "files-config"), (SERVICES, "files-file"), (STATEFUL_SETS, "files")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_leaving_namespace_gets_nothing_back(
    leaving: ReconcilerNamespace, resource: Resource, name: str
) -> None:
    site = leaving
    await site.create_server()
    await site.reconcile()
    await delete_namespace(site)
    await delete(site, resource, name)
    await until_async(lambda: (site.namespace, name) not in store_of(site, resource))
    refused = requests(site)

    for _ in range(3):
        assert await site.reconcile() is None

    assert await site.condition("Ready") == ("False", "NamespaceTerminating")
    assert requests(site) == refused + 1


async def test_a_server_of_a_new_namespace_is_reconciled(leaving: ReconcilerNamespace) -> None:
    """The server has the name of one whose namespace was deleted."""
    site = leaving
    await site.create_server()
    await delete_namespace(site)
    await site.reconcile()
    known = site.informers.servers.get(site.key)

    assert known is not None

    metadata = {**known["metadata"], "uid": "another", "resourceVersion": str(2**62)}
    site.informers.servers.put({**known, "metadata": metadata})
    refused = requests(site)
    await site.reconciler.reconcile(site.key)

    assert requests(site) == refused + 1


@pytest.mark.parametrize(
    ("resource", "name"),
    [(CONFIG_MAPS, "files-config"), (SERVICES, "files-file"), (SERVICES, "files-headless")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_terminating_object_is_waited_for(site: ReconcilerNamespace, resource: Resource, name: str) -> None:
    await site.create_server()
    await site.reconcile()
    await delete_kept(site, resource, name)
    before = await site.live(resource, name)

    await site.change_spec(nfsPort=2050)

    reason = f"{resource.kind}Terminating"

    assert await site.reconcile() == TAKEN_RECHECK_SECONDS
    assert await site.condition("Reconciling") == ("True", reason)
    assert await site.condition("Stalled") == ("False", "Reconciled")
    assert f"{resource.kind} {name} is being deleted" in await message(site, "Reconciling")
    assert FINALIZER in await message(site, "Reconciling")
    assert await site.live(resource, name) == before

    await release(site, resource, name)
    await site.reconcile()

    assert (await site.live(resource, name))["metadata"]["uid"] != before["metadata"]["uid"]
    assert (await site.condition("Reconciling"))[1] != reason


async def test_a_terminating_statefulset_is_waited_for(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    await delete_kept(site, STATEFUL_SETS, "files")
    before = await site.template()

    await site.change_spec(image="example.com/dittofs:2")

    assert await site.condition("Reconciling") == ("True", "StatefulSetTerminating")
    assert "StatefulSet files is being deleted" in await message(site, "Reconciling")
    assert await site.template() == before

    await release(site, STATEFUL_SETS, "files")
    await site.reconcile()

    assert await site.template() != before


async def test_a_service_of_an_earlier_server_is_waited_for(site: ReconcilerNamespace) -> None:
    """A LoadBalancer Service, for example, stays until the cloud has removed its load balancer."""
    first = await site.create_server()
    await site.reconcile()
    await site.edit_metadata(SERVICES, "files-file", finalizers=["service.kubernetes.io/load-balancer-cleanup"])
    await delete(site, DITTO_SERVERS, "files")
    await until_async(lambda: site.key not in site.informers.servers)

    # The garbage collector would do this, but may take half a minute to start.
    await delete(site, SERVICES, "files-file")
    for resource, name in ((CONFIG_MAPS, "files-config"), (STATEFUL_SETS, "files"), *SERVICES_WITHOUT_FINALIZER):
        await delete(site, resource, name)
        await until_async(lambda r=resource, n=name: (site.namespace, n) not in store_of(site, r))  # type: ignore[misc]

    second = await site.create_server()

    assert await site.reconcile() == TAKEN_RECHECK_SECONDS

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert await site.condition("Reconciling") == ("True", "ServiceTerminating")
    assert await site.exists(STATEFUL_SETS)

    await release(site, SERVICES, "files-file")
    await site.reconcile()

    assert await site.exists(SERVICES, "files-file")


async def test_a_terminating_copy_of_a_dsn_is_waited_for(site: ReconcilerNamespace) -> None:
    await site.put_secret("dsn", url="postgres://ditto:hunter2@db.example.com/files")
    await site.create_server(database={"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "url"}})
    await site.reconcile()
    template = await site.template()
    await delete_kept(site, SECRETS, "files-postgres")

    assert await site.reconcile() == TAKEN_RECHECK_SECONDS

    assert await site.condition("CredentialsReady") == ("False", "SecretTerminating")
    assert await site.template() == template

    await release(site, SECRETS, "files-postgres")
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("True", "Found")
    assert await site.exists(SECRETS, "files-postgres")


async def test_an_unwanted_service_is_deleted_once(site: ReconcilerNamespace) -> None:
    """The server is stopped, since a pod that cannot get ready would be deleted for the change as well."""
    await site.create_server(metrics={"enabled": True}, replicas=0)
    await site.reconcile()
    await delete_kept(site, SERVICES, "files-metrics")
    before = requests(site, "DELETE", "200")

    await site.change_spec(replicas=0)
    await site.reconcile()

    assert requests(site, "DELETE", "200") == before

    await release(site, SERVICES, "files-metrics")


async def test_nothing_is_created_for_a_terminating_server(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    await delete_kept(site, DITTO_SERVERS, "files")
    live = await site.live(DITTO_SERVERS)
    sizes = {"storage": {**live["spec"]["storage"], "metadataSize": "20Gi"}}
    await site.edit(spec={**live["spec"], **sizes})
    await delete(site, CONFIG_MAPS, "files-config")
    await until_async(lambda: (site.namespace, "files-config") not in site.informers.config_maps)
    written = requests(site, "PATCH", "200"), requests(site, "POST", "201")

    assert await site.reconciler.reconcile(site.key) == Result()

    assert (requests(site, "PATCH", "200"), requests(site, "POST", "201")) == written

    await release(site, DITTO_SERVERS, "files")
