"""The two live webhook configurations: the caBundle in each, watched, and set to what it should be. Owns no more."""

import base64
from collections.abc import Callable

from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.reader import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.unstructured import Manifest

# An owner of its own: the reconciler's field manager would give the caBundle up with its next apply.
MANAGER = f"{FIELD_MANAGER}-certificate"
RESOURCES = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
_INJECTED = "cert-manager.io/inject-"


class ManagedElsewhere(Exception):
    """cert-manager has been told to write the caBundle; the message says by what."""


class Webhooks:
    """Both are called `name`; `changed` is called when something has become of one of them."""

    def __init__(self, cluster: Cluster, name: str, changed: Callable[[], None]) -> None:
        self.name = name
        self._cluster = cluster
        self._stores = {resource: Store(_of_interest) for resource in RESOURCES}
        for store in self._stores.values():
            store.event_handlers.append(lambda *_: changed())
        self.reflectors = [
            Reflector(cluster, Selection(each, name=name), store) for each, store in self._stores.items()
        ]

    def missing(self) -> str | None:
        """What of it is not there, as far as is known; None when both are."""
        absent = [resource.kind for resource in RESOURCES if self._live(resource) is None]
        return f"waiting for {' and '.join(absent)} {self.name}" if absent else None

    def bundles(self) -> list[bytes]:
        """The caBundle of each webhook, empty where it is blank; none at all until both configurations are there."""
        live = [found for resource in RESOURCES if (found := self._live(resource))]
        return [bundle for found in live for bundle in _bundles(found)] if len(live) == len(RESOURCES) else []

    async def publish(self, bundle: bytes) -> list[str]:
        """The kinds that had another one. Raises ClusterError, and LeftAlone."""
        written = []
        for resource in RESOURCES:
            live = self._live(resource)
            if live and any(published != bundle for published in _bundles(live)):
                await self._apply(resource, live, bundle)
                written.append(resource.kind)
        return written

    async def _apply(self, resource: Resource, live: Manifest, bundle: bytes) -> None:
        for annotation in live["metadata"].get("annotations") or {}:
            if annotation.startswith(_INJECTED):
                raise ManagedElsewhere(
                    f"{resource.kind} {self.name} has the annotation {annotation}: its caBundle is left alone"
                )
        encoded = base64.b64encode(bundle).decode()
        manifest = {
            "apiVersion": resource.version,
            "kind": resource.kind,
            # Made for what it was when this was decided: another replica may have added a CA of its own since.
            "metadata": {name: live["metadata"][name] for name in ("name", "uid", "resourceVersion")},
            "webhooks": [{"name": each["name"], "clientConfig": {"caBundle": encoded}} for each in live["webhooks"]],
        }
        await self._cluster.apply(resource, manifest, MANAGER)

    def _live(self, resource: Resource) -> Manifest | None:
        return self._stores[resource].get(("", self.name))


def _bundles(live: Manifest) -> list[bytes]:
    return [base64.b64decode(each["clientConfig"].get("caBundle") or "") for each in live.get("webhooks") or []]


def _of_interest(manifest: Manifest) -> Manifest:
    kept = ("name", "uid", "resourceVersion", "annotations")
    metadata = {name: value for name, value in manifest["metadata"].items() if name in kept}
    return {"metadata": metadata, "webhooks": manifest.get("webhooks")}
