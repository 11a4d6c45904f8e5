"""Finds the servers that depend on a Secret or a StorageClass, because they name it or because it is made for them."""

from typing import TypeVar

from app.storage.objects import servers_given
from app.storage.reading import read
from app.storage.secret_references import secret_references
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import volumes

Name = TypeVar("Name")


class Dependents:
    """Indexes servers; it keeps next to nothing of each that the garbage collector would have to look through."""

    def __init__(self) -> None:
        self._by_secret: dict[ObjectKey, set[ObjectKey]] = {}
        self._by_class: dict[str | None, set[ObjectKey]] = {}
        self._of: dict[ObjectKey, tuple[tuple[ObjectKey, ...], tuple[str | None, ...]]] = {}

    def put(self, server: ObjectKey, manifest: Manifest) -> None:
        self.remove(server)
        spec = read(manifest).server.spec
        named = {reference.secret for reference in secret_references(spec) if reference.secret}
        secrets = tuple((server[0], name) for name in named)
        classes = tuple({volume.storage_class for volume in volumes(spec.storage) if volume.size})
        self._of[server] = secrets, classes
        for secret in secrets:
            self._by_secret.setdefault(secret, set()).add(server)
        for storage_class in classes:
            self._by_class.setdefault(storage_class, set()).add(server)

    def remove(self, server: ObjectKey) -> None:
        """Removes the server, if it is there."""
        if server not in self._of:
            return
        secrets, classes = self._of.pop(server)
        for secret in secrets:
            _discard(self._by_secret, secret, server)
        for storage_class in classes:
            _discard(self._by_class, storage_class, server)

    def of_secret(self, secret: ObjectKey) -> set[ObjectKey]:
        """Returns also the servers for which a Secret of this name would be generated, which need not exist."""
        namespace, name = secret
        return self._by_secret.get(secret, set()) | {(namespace, server) for server in servers_given(name)}

    def of_class(self, name: str) -> set[ObjectKey]:
        """Returns also the servers that name no class: any class may be their default."""
        return self._by_class.get(name, set()) | self._by_class.get(None, set())


def _discard(index: dict[Name, set[ObjectKey]], name: Name, server: ObjectKey) -> None:
    index[name].discard(server)
    if not index[name]:
        del index[name]
