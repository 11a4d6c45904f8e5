"""Answers the reads of a cluster from YAML files. What they do not contain does not exist. It never writes them."""

import asyncio
import base64
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from app.cluster.errors import NotFound
from app.cluster.reader import (
    CLAIMS,
    DITTO_SERVERS,
    EVENTS,
    NETWORK_POLICIES,
    PODS,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    VOLUME_SNAPSHOTS,
    Listing,
    Resource,
)
from app.manifests import Document, list_files, read
from app.storage import quantity
from app.storage.facts import DryRun
from app.storage.unstructured import DEFAULT_NAMESPACE
from app.storage.unusable_input import UnusableInput

CHECK_SECONDS = 1.0

Objects = Mapping[tuple[Resource, str, str], dict[str, Any]]

log = logging.getLogger(__name__)


class Snapshot:
    """Reads a file or folder, and reads it again when it changes; it is a Reader.

    While the changed files are unusable, it keeps answering from the earlier ones.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Raises UnusableInput."""
        self._path = path
        self._now = now
        self._signature = _signature(path)
        self._objects = objects(read([path]))
        self._checked = now()
        self._lock = asyncio.Lock()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        await self._refresh()
        return find(self._objects, resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, _labels: str = "") -> Listing:
        await self._refresh()
        return Listing(select(self._objects, resource, namespace))

    async def events(self, namespace: str, _fields: str) -> Listing:
        return await self.list(EVENTS, namespace)

    async def dry_run(self, _resource: Resource, _manifest: Mapping[str, Any]) -> DryRun | None:
        """Returns None, because files cannot try anything."""
        return None

    async def _refresh(self) -> None:
        async with self._lock:
            if self._now() - self._checked < CHECK_SECONDS:
                return
            self._checked = self._now()

            signature = await asyncio.to_thread(_signature, self._path)
            if signature != self._signature:
                # Set before reading: when the caller gives up, the thread goes on, and no second one is started.
                self._signature = signature
                await asyncio.to_thread(self._reread)

    def _reread(self) -> None:
        try:
            self._objects = objects(read([self._path]))
        except UnusableInput as error:
            log.error(  # noqa: TRY400
                "snapshot unusable, answering from it as it was before", extra={"reason": str(error)}
            )
        else:
            log.info("snapshot read again", extra={"file": str(self._path), "objects": len(self._objects)})


def objects(documents: Iterable[Document]) -> Objects:
    """Selects and checks the objects that somebody may ask for. The later of two with one name counts, as in kubectl.

    Raises UnusableInput when one does not have the expected shape.
    """
    resources = {(resource.version, resource.kind): resource for resource in _SHAPES}
    selected = {}
    for document in documents:
        resource = resources.get((document.object["apiVersion"], document.object["kind"]))
        if resource is None:
            continue

        for path, expected in _SHAPES[resource]:
            value: Any = document.object
            for step in path.split("."):
                value = (value or {}).get(step)

            may_be_missing = value is None and path not in ("metadata", "metadata.name")
            if not may_be_missing and not _IS[expected](value):
                message = f"expected {expected} in {path} of a {resource.kind}"
                raise UnusableInput(document.file, document.line_of(path), message)

        metadata = document.object["metadata"]
        selected[_key(resource, metadata["name"], metadata.get("namespace"))] = document.object
    return selected


def find(objects: Objects, resource: Resource, name: str, namespace: str | None) -> dict[str, Any]:
    manifest = objects.get(_key(resource, name, namespace))
    if manifest is None:
        raise NotFound(f'{resource.plural} "{name}" not found')
    return manifest


def select(objects: Objects, resource: Resource, namespace: str | None) -> tuple[dict[str, Any], ...]:
    """Returns the objects of the namespace, or of all namespaces where it is None."""
    return tuple(
        manifest for (kind, within, _), manifest in objects.items() if kind == resource and namespace in (None, within)
    )


def _key(resource: Resource, name: str, namespace: str | None) -> tuple[Resource, str, str]:
    return resource, (namespace or DEFAULT_NAMESPACE) if resource.namespaced else "", name


# Expected values, as an error names them, each with its check.
_MAPPING, _TEXTS, _TEXT, _NAME, _BOOLEAN = "a mapping", "a mapping of strings", "a string", "a name", "true or false"
_BASE64, _AMOUNT, _AMOUNTS = "a mapping of base64 strings", "a quantity", "a mapping of quantities"
_MAPPINGS, _TEMPLATES = "a list of mappings", "a list of volume claim templates"
_CONDITIONS, _ENTRIES = "a list of conditions", "a list of managers with their fields"
_REQUESTS = "requests of storage"
_VOLUMES, _CONTAINERS = "a list of volumes", "a list of containers"
_IS: dict[str, Callable[[Any], bool]] = {
    _MAPPING: lambda value: isinstance(value, dict),
    _TEXTS: lambda value: isinstance(value, dict) and all(isinstance(text, str | None) for text in value.values()),
    # Like the API server: strict, but line breaks do not count.
    _BASE64: lambda value: (
        _IS[_TEXTS](value)
        and _can_parse(lambda text: base64.b64decode(re.sub("[\r\n]", "", text), validate=True), value.values())
    ),
    _AMOUNTS: lambda value: _IS[_TEXTS](value) and _can_parse(quantity.parse, value.values()),
    _AMOUNT: lambda value: isinstance(value, str) and _can_parse(quantity.parse, [value]),
    _MAPPINGS: lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
    _TEMPLATES: lambda value: (
        _IS[_MAPPINGS](value)
        and all(isinstance(item.get("metadata"), dict) and isinstance(item.get("spec"), dict) for item in value)
        and all(_IS[_NAME](item["metadata"].get("name")) for item in value)
        and all(_IS[_REQUESTS](item["spec"].get("resources")) for item in value)
    ),
    _CONDITIONS: lambda value: _IS[_MAPPINGS](value) and all("type" in item and "status" in item for item in value),
    _ENTRIES: lambda value: _IS[_MAPPINGS](value) and all("manager" in item for item in value),
    _VOLUMES: lambda value: (
        _IS[_MAPPINGS](value) and all(isinstance(volume.get("persistentVolumeClaim", {}), dict) for volume in value)
    ),
    _REQUESTS: lambda value: value is None or (isinstance(value, dict) and _IS[_AMOUNTS](value.get("requests") or {})),
    _CONTAINERS: lambda value: (
        _IS[_MAPPINGS](value) and all(_IS[_MAPPINGS](container.get("volumeMounts") or []) for container in value)
    ),
    _TEXT: lambda value: isinstance(value, str),
    _NAME: lambda value: isinstance(value, str) and value != "",
    _BOOLEAN: lambda value: isinstance(value, bool),
}

# The fields that are read of each object, parents before children. Only metadata and its name must exist.
_METADATA = (("metadata", _MAPPING), ("metadata.name", _NAME), ("metadata.namespace", _TEXT))
_SHAPES: dict[Resource, tuple[tuple[str, str], ...]] = {
    NETWORK_POLICIES: (*_METADATA, ("spec", _MAPPING)),
    SERVICES: (*_METADATA, ("spec", _MAPPING)),
    STORAGE_CLASSES: (
        *_METADATA,
        ("metadata.annotations", _TEXTS),
        ("metadata.creationTimestamp", _TEXT),
        ("allowVolumeExpansion", _BOOLEAN),
    ),
    SECRETS: (*_METADATA, ("type", _TEXT), ("data", _BASE64), ("stringData", _TEXTS)),
    PRIORITY_CLASSES: _METADATA,
    SERVICE_ACCOUNTS: _METADATA,
    VOLUME_SNAPSHOTS: (*_METADATA, ("status", _MAPPING), ("status.restoreSize", _AMOUNT)),
    CLAIMS: (
        *_METADATA,
        ("metadata.labels", _TEXTS),
        ("metadata.annotations", _TEXTS),
        ("metadata.creationTimestamp", _TEXT),
        ("spec", _MAPPING),
        ("spec.storageClassName", _TEXT),
        ("spec.dataSourceRef", _MAPPING),
        ("spec.dataSourceRef.kind", _NAME),
        ("spec.dataSourceRef.name", _NAME),
        ("spec.resources", _MAPPING),
        ("spec.resources.requests", _AMOUNTS),
        ("metadata.managedFields", _ENTRIES),
        ("status", _MAPPING),
        ("status.capacity", _AMOUNTS),
        ("status.conditions", _CONDITIONS),
        ("status.allocatedResources", _AMOUNTS),
        ("status.allocatedResourceStatuses", _TEXTS),
    ),
    DITTO_SERVERS: (
        *_METADATA,
        ("metadata.annotations", _TEXTS),
        ("spec", _MAPPING),
        ("status", _MAPPING),
        ("status.volumes", _MAPPINGS),
        ("metadata.managedFields", _ENTRIES),
    ),
    EVENTS: (*_METADATA, ("involvedObject", _MAPPING), ("series", _MAPPING)),
    STATEFUL_SETS: (
        *_METADATA,
        ("spec", _MAPPING),
        ("spec.volumeClaimTemplates", _TEMPLATES),
        ("spec.template", _MAPPING),
        ("spec.template.metadata", _MAPPING),
        ("spec.template.metadata.annotations", _TEXTS),
        ("spec.template.spec", _MAPPING),
        ("spec.template.spec.containers", _CONTAINERS),
    ),
    PODS: (
        *_METADATA,
        ("spec", _MAPPING),
        ("spec.nodeName", _TEXT),
        ("spec.volumes", _VOLUMES),
        ("spec.containers", _CONTAINERS),
        ("status", _MAPPING),
        ("status.conditions", _CONDITIONS),
        ("status.containerStatuses", _MAPPINGS),
    ),
}


def _can_parse(parse: Callable[[str], object], values: Iterable[str | None]) -> bool:
    try:
        for value in filter(None, values):
            parse(value)
    except ValueError:
        return False
    return True


def _signature(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Returns something that changes when the files do, and nothing when they cannot be read."""
    try:
        stats = [(str(file), file.stat()) for file in list_files(path)]
    except (OSError, UnusableInput):
        return ()

    return tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)
