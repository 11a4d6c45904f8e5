"""Watches and writes the caBundle in the two live webhook configurations, and nothing else in them."""

import base64
from collections.abc import Callable
from time import monotonic

from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.reader import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.object_write import ObjectWrite
from app.storage.unstructured import Manifest

# A field manager for the caBundle alone: the reconciler's would give the field up with its next apply.
MANAGER = f"{FIELD_MANAGER}-certificate"
RESOURCES = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
CERT_MANAGER_PREFIX = "cert-manager.io/inject-"
KEPT_METADATA = ("name", "uid", "resourceVersion", "annotations")


class ManagedElsewhere(Exception):
    """cert-manager is asked to write the caBundle; the message names the annotation that asks for it."""


class CABundles:
    """Reads and writes the caBundles of the two configurations called `name`.

    `on_change` is called whenever one of the configurations has changed.
    """

    def __init__(self, cluster: Cluster, name: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self._cluster = cluster
        self._stores = {resource: Store(_without_unused_fields) for resource in RESOURCES}
        for store in self._stores.values():
            store.event_handlers.append(lambda *_: on_change())
        self.reflectors = [
            Reflector(cluster, Selection(resource, name=name), store) for resource, store in self._stores.items()
        ]

    def why_missing(self) -> str | None:
        """Returns which of the configurations do not exist, as far as is known; None when both do."""
        absent = [resource.kind for resource in RESOURCES if self._live(resource) is None]
        return f"waiting for {' and '.join(absent)} {self.name}" if absent else None

    def published(self) -> list[bytes]:
        """Returns the caBundle of each webhook, b"" where it is blank; [] until both configurations exist."""
        live = [configuration for resource in RESOURCES if (configuration := self._live(resource))]
        if len(live) < len(RESOURCES):
            return []

        return [bundle for configuration in live for bundle in _bundles(configuration)]

    async def publish(self, bundle: bytes) -> list[ObjectWrite]:
        """Writes the bundle where another one is, and returns what it wrote. Raises ClusterError, ManagedElsewhere."""
        writes = []
        for resource in RESOURCES:
            live = self._live(resource)
            if live and any(published != bundle for published in _bundles(live)):
                started = monotonic()
                await self._apply(resource, live, bundle)

                fields = tuple(f"webhooks[{webhook['name']}].clientConfig.caBundle" for webhook in live["webhooks"])
                writes.append(ObjectWrite("apply", resource.kind, "", self.name, fields, monotonic() - started))
        return writes

    async def _apply(self, resource: Resource, live: Manifest, bundle: bytes) -> None:
        for annotation in live["metadata"].get("annotations") or {}:
            if annotation.startswith(CERT_MANAGER_PREFIX):
                raise ManagedElsewhere(
                    f"{resource.kind} {self.name} has the annotation {annotation}: its caBundle is left alone"
                )

        encoded = base64.b64encode(bundle).decode()
        webhooks = [{"name": webhook["name"], "clientConfig": {"caBundle": encoded}} for webhook in live["webhooks"]]
        manifest = {
            "apiVersion": resource.version,
            "kind": resource.kind,
            # With the version that the bundle was made for: another replica may have added its own CA since.
            "metadata": {name: live["metadata"][name] for name in ("name", "uid", "resourceVersion")},
            "webhooks": webhooks,
        }
        await self._cluster.apply(resource, manifest, MANAGER)

    def _live(self, resource: Resource) -> Manifest | None:
        return self._stores[resource].get(("", self.name))


def _bundles(configuration: Manifest) -> list[bytes]:
    webhooks = configuration.get("webhooks") or []
    return [base64.b64decode(webhook["clientConfig"].get("caBundle") or "") for webhook in webhooks]


def _without_unused_fields(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name in KEPT_METADATA}
    return {"metadata": metadata, "webhooks": manifest.get("webhooks")}
