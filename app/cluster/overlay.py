"""Reads documents as if they had been applied, on top of a cluster or a snapshot. It writes neither."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.cluster.errors import ClusterError, NotFound, Unavailable
from app.cluster.lookup import NOTHING_TO_ASK
from app.cluster.reader import Listing, Reader, Resource
from app.cluster.snapshot import find, objects, select
from app.manifests import Document
from app.storage.facts import DryRun
from app.storage.spec import KIND
from app.storage.unstructured import namespaced_key


class Overlay:
    """Reads from documents first, and from the fallback, if there is one, what they do not contain.

    DittoServers among the documents are what is judged, and no facts.
    """

    def __init__(self, documents: Iterable[Document], fallback: Reader | None = None) -> None:
        """Raises UnusableInput."""
        self._objects = objects(document for document in documents if document.object["kind"] != KIND)
        self._fallback = fallback

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        try:
            return find(self._objects, resource, name, namespace)
        except NotFound:
            if self._fallback is None:
                raise Unavailable(NOTHING_TO_ASK) from None
            return await self._fallback.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        fallback = Listing(gap=NOTHING_TO_ASK)
        if self._fallback:
            try:
                fallback = await self._fallback.list(resource, namespace, labels)
            except ClusterError as error:
                fallback = Listing(gap=str(error))

        documents = select(self._objects, resource, namespace)
        keys = {namespaced_key(item) for item in documents}
        others = (item for item in fallback.items if namespaced_key(item) not in keys)
        return Listing((*documents, *others), fallback.gap)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun | None:
        return await self._fallback.dry_run(resource, manifest) if self._fallback else None
