"""Informers in the test's own process, and a DittoServer that the test itself reconciles."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.cluster.client import Cluster
from app.cluster.errors import NotFound
from app.cluster.informers import Informers
from app.cluster.reader import DITTO_SERVERS, SECRETS, STATEFUL_SETS, Resource
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.events import Event
from app.storage.objects import Owner
from app.storage.status import conditions
from app.storage.unstructured import Manifest, ObjectKey
from tests.controlplane.cluster import ControlPlane
from tests.harness.editing import delete, edit
from tests.harness.server_table import server
from tests.harness.wait import run_beside, until_async

# What the API server and the writer say to a write on the ground of an object that has changed.
_CONFLICT = re.compile("has been modified|has changed since|Precondition failed|already exists")

BY_HAND: Manifest = {"storage": {"metadataSize": "10Gi", "storageClassName": ""}}


class Retry(Exception):
    """A reconcile that its controller would repeat, and why."""


@asynccontextmanager
async def connect(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        yield cluster


@asynccontextmanager
async def run_informers(cluster: Cluster, *namespaces: str) -> AsyncIterator[Informers]:
    """Runs informers of these namespaces, or of the whole cluster when none is named."""
    informers = Informers(cluster, namespaces)
    async with run_beside(informers.run(), informers.wait_for_sync(), 60):
        yield informers


async def create_server(cluster: Cluster, namespace: str, **spec: Any) -> Manifest:
    """Creates a DittoServer that needs no StorageClass. Objects of a server that does not exist would be collected."""
    manifest = server(**BY_HAND, **spec)
    return await cluster.create(DITTO_SERVERS, {**manifest, "metadata": {"name": "files", "namespace": namespace}})


def owner_of(manifest: Manifest) -> Owner:
    metadata = manifest["metadata"]
    return Owner(metadata["name"], metadata["namespace"], metadata["uid"])


def resource_version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


@dataclass
class ReconcilerNamespace:
    """A namespace with at most one server in it, named files.

    Its reconciler works only when the test calls it.
    """

    cluster: Cluster
    informers: Informers
    namespace: str
    leads: Callable[[], bool] = lambda: True
    fixed_time: datetime | None = None
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = self.namespace, "files"
        self.writer = Writer(self.cluster, self.informers, self.may_write)
        self.reconciler = Reconciler(self.cluster, self.informers, self.writer, self.record_event, self.now)

    def may_write(self) -> bool:
        return self.leads()

    def now(self) -> datetime:
        return self.fixed_time or datetime.now(UTC)

    def record_event(self, _: Manifest, event: Event) -> None:
        self.events.append(event)

    @property
    def pod(self) -> Manifest | None:
        return self.informers.pods.get((self.namespace, "files-0"))

    @property
    def stateful_set(self) -> Manifest | None:
        return self.informers.stateful_sets.get(self.key)

    async def create_server(self, **spec: Any) -> Manifest:
        """Creates a server and waits until the informers have it; does not reconcile it."""
        server = await create_server(self.cluster, self.namespace, **spec)
        await until_async(lambda: self.key in self.informers.servers)
        return server

    async def reconcile(self, key: ObjectKey | None = None) -> float | None:
        """Reconciles the server, again when somebody else was writing at the same time.

        Returns the seconds until the next time. Raises Retry with the reason why the controller would try again.
        """
        async with asyncio.timeout(60):
            while (result := await self.reconciler.reconcile(key or self.key)).retry:
                if not _CONFLICT.search(result.retry):
                    raise Retry(result.retry)

                await asyncio.sleep(0.05)

        return result.requeue_after

    async def change_spec(self, **spec: Any) -> None:
        """Changes the spec, waits until the informers have it, and reconciles."""
        await self.edit(spec=server(**BY_HAND, **spec)["spec"])
        await self.reconcile()

    async def edit(self, metadata: Manifest | None = None, **fields: Any) -> None:
        """Changes these fields of the server, and of its metadata, and waits until the informers have them."""

        def change(live: Manifest) -> Manifest:
            return {**live, **fields, "metadata": {**live["metadata"], **(metadata or {})}}

        version = int(resource_version(await edit(self.cluster, DITTO_SERVERS, self.key, change)))
        await until_async(lambda: self.informers.servers.version(self.key) >= version)

    async def edit_metadata(self, resource: Resource, name: str, **metadata: Any) -> Manifest:
        """Changes these fields of an object's metadata, and returns the object."""

        def change(live: Manifest) -> Manifest:
            return {**live, "metadata": {**live["metadata"], **metadata}}

        return await edit(self.cluster, resource, (self.namespace, name), change)

    async def put_secret(self, name: str, **values: str) -> None:
        """Creates or replaces a Secret and waits until the informers have it."""
        metadata = {"name": name, "namespace": self.namespace}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}

        version = int(resource_version(await self.cluster.apply(SECRETS, manifest)))
        await until_async(lambda: self.informers.secrets_metadata.version((self.namespace, name)) >= version)

    async def delete(self, resource: Resource, name: str = "files", *, orphan: bool = False) -> None:
        await delete(self.cluster, resource, (self.namespace, name), orphan=orphan)

    async def delete_known(self, resource: Resource, name: str) -> None:
        """Deletes the object and waits until the informers lack it."""
        await self.delete(resource, name)
        store = self.informers.secrets_metadata if resource == SECRETS else self.informers.stateful_sets
        await until_async(lambda: (self.namespace, name) not in store)

    async def live(self, resource: Resource, name: str = "files") -> Manifest:
        return await self.cluster.get(resource, name, self.namespace)

    async def exists(self, resource: Resource, name: str = "files") -> bool:
        try:
            await self.live(resource, name)
        except NotFound:
            return False
        return True

    async def condition(self, kind: str) -> tuple[str, str]:
        """Returns status and reason of the condition of this type."""
        condition = conditions(await self.live(DITTO_SERVERS))[kind]
        return condition["status"], condition["reason"]

    async def template(self) -> Manifest:
        template: Manifest = (await self.live(STATEFUL_SETS))["spec"]["template"]
        return template

    async def postgres_credentials(self) -> dict[str, str]:
        data = (await self.live(SECRETS, "files-postgres"))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


async def open_reconciler_namespace(
    control_plane: ControlPlane, crd: None, namespace: str
) -> AsyncIterator[ReconcilerNamespace]:
    """Serves as a fixture: `site = pytest.fixture(open_reconciler_namespace)`."""
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield ReconcilerNamespace(cluster, informers, namespace)
