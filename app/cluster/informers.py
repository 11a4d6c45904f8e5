"""Watches every resource of the operator into a store, and answers reviews from there. It writes nothing."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from app.cluster.client import FIELD_MANAGER, Cluster, Selection
from app.cluster.lookup import count_known, gather
from app.cluster.reader import (
    CLAIMS,
    CONFIG_MAPS,
    DITTO_SERVERS,
    EVENTS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    Listing,
    Resource,
)
from app.cluster.reflector import Reflector
from app.cluster.secrets import CHANGED, GeneratedSecrets, SecretDigest, SecretDigests, trim_secret, trim_to_identity
from app.cluster.store import Store
from app.cluster.warning_events import WarningEvents
from app.storage.claim_metadata import settable_annotations
from app.storage.evidence import CLAIM, POD, STATEFUL_SET
from app.storage.facts import (
    NO_NEEDS,
    UNKNOWN_CLASSES,
    Claim,
    DryRun,
    Facts,
    Needs,
    Secret,
    StorageClass,
    StorageClasses,
    Unknown,
    size_entries,
)
from app.storage.objects import SELECTOR
from app.storage.pod import CONFIG_HASH, CONTAINER, POD_DEFAULTS, READ_ONLY_ROOT, RESTARTED_AT
from app.storage.takeover import IGNORED_FIELDS, ignored_fields
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import server_of_claim

# Events only explain. Many clusters keep them in a separate etcd, and nothing waits longer for them when it is down.
EVENTS_SYNC_SECONDS = 5.0
GENERATED_SECRETS_SECONDS = 5.0

# An entry with this field is of the client that created the object and made a DittoServer its owner.
_OWNER_REFERENCES = "f:ownerReferences"


class Informers:
    """Keeps a store for each resource, of these namespaces or of all; it is a Reader for what the stores lack."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] = ()) -> None:
        self._cluster = cluster
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._reflectors: dict[Resource, list[Reflector]] = {}

        self.servers = self._store(DITTO_SERVERS)
        self.stateful_sets = self._store(STATEFUL_SETS, SELECTOR)
        self.services = self._store(SERVICES, SELECTOR)
        self.config_maps = self._store(CONFIG_MAPS, SELECTOR)
        self.pods = self._store(PODS, SELECTOR)
        # Claims are known by name: those that were restored, cloned or provisioned by hand lack our labels.
        self.claims = self._store(CLAIMS)
        self.secrets_metadata = self._store(SECRETS)
        self.secrets = SecretDigests(cluster, self.secrets_metadata)

        # Every review asks for all classes, and they hardly ever change.
        self.classes = self._store(STORAGE_CLASSES)
        self._parsed_classes: StorageClasses | None = None
        self.classes.event_handlers.append(self._forget_parsed_classes)

        objects = {STATEFUL_SET: self.stateful_sets, POD: self.pods, CLAIM: self.claims}
        self.warnings = WarningEvents(self.servers, objects)
        self._event_reflectors = [
            Reflector(cluster, Selection(EVENTS, namespace, fields="type=Warning"), self.warnings)
            for namespace in self._namespaces
        ]
        self._events_are_late = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflector in self._object_reflectors():
                group.create_task(reflector.run())

            # WarningEvents keeps only Events about known servers.
            for reflector in self._reflectors[DITTO_SERVERS]:
                await reflector.wait_for_sync()
            for reflector in self._event_reflectors:
                group.create_task(reflector.run())

    async def wait_for_sync(self) -> None:
        """Waits until everything was listed, also after a rewind.

        StorageClasses and Events that may not be listed are not waited for, and Events only for some seconds.
        """
        for reflector in self._object_reflectors():
            await reflector.wait_for_sync()

        if self._events_are_late:
            return
        try:
            async with asyncio.timeout(EVENTS_SYNC_SECONDS):
                for reflector in self._event_reflectors:
                    await reflector.wait_for_sync()
        except TimeoutError:
            # They are waited for once, not before each reconcile.
            self._events_are_late = True

    def why_not_ready(self) -> str | None:
        """Explains why DittoServers cannot be reconciled."""
        # After the first list only a resource that is not served any more counts, not an API server without an answer.
        reasons = [reflector.why_not_listed for reflector in self._reflectors[DITTO_SERVERS]]
        why = next(filter(None, reasons), None)
        return f"cannot list {DITTO_SERVERS.plural}: {why}" if why else None

    def gap(self, resource: Resource) -> str | None:
        """Explains why objects may exist that are not in the store; None when the store is complete."""
        for reflector in self._reflectors[resource]:
            if reflector.gap:
                return reflector.gap
        return None

    @property
    def storage_classes(self) -> StorageClasses:
        gap = self.gap(STORAGE_CLASSES)
        if self._parsed_classes is None or self._parsed_classes.gap != gap:
            manifests = (self.classes.get(key) for key in self.classes)
            known = tuple(StorageClass.read(manifest) for manifest in manifests if manifest)
            self._parsed_classes = StorageClasses(known, gap)
        return self._parsed_classes

    def _forget_parsed_classes(self, _key: ObjectKey, _manifest: Manifest) -> None:
        self._parsed_classes = None

    def claim(self, key: ObjectKey) -> Claim | None:
        manifest = self.claims.get(key)
        return Claim.read(manifest) if manifest else None

    async def secret(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        """Returns a digest, with a request only when the Secret changed; None when there is no such Secret."""
        gap = self.gap(SECRETS)
        return Unknown(gap) if gap and key not in self.secrets_metadata else await self.secrets.fetch(key)

    async def fetch_generated_secrets(self) -> None:
        """Reads the generated Secrets of all servers by their label, where each server would cost two requests.

        What it has not read after some seconds, or cannot have streamed, is asked for when it is needed.
        """
        if not all(reflector.streams_lists for reflector in self._reflectors[SECRETS]):
            # Whoever gives the label to large Secrets could fill the memory with a page of them.
            return

        store = GeneratedSecrets(self.secrets, self.servers)
        selections = [Selection(SECRETS, namespace, SELECTOR) for namespace in self._namespaces]
        reflectors = [Reflector(self._cluster, selection, store) for selection in selections]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reflector.run()) for reflector in reflectors]
            with suppress(TimeoutError):
                async with asyncio.timeout(GENERATED_SECRETS_SECONDS):
                    for reflector in reflectors:
                        await reflector.wait_for_sync()
            for task in tasks:
                task.cancel()

    def secret_changed(self, key: ObjectKey) -> str | None:
        """Returns when the values of a Secret were last changed, in RFC 3339; None when there is no such Secret."""
        return (self.secrets_metadata.get(key) or {}).get(CHANGED)

    async def look_up(self, needs: Needs) -> Facts:
        """Answers a review from the stores, and asks the API server only for what they do not know."""
        if not needs:
            return Facts()

        known, missing = self.known_facts(needs)
        count_known(known)
        return known.merge(await gather(self, missing)) if missing else known

    def known_facts(self, needs: Needs) -> tuple[Facts, Needs]:
        """Returns the facts that the stores have, and the needs that remain.

        Only leftovers ever count as missing: another object may have been created a moment ago.
        """
        secrets, claims = dict[str, Secret](), dict[str, Claim | None]()
        if needs.secrets and not self._is_stale(SECRETS):
            for name in needs.secrets:
                if digest := self.secrets.get((needs.namespace, name)):
                    secrets[name] = digest.secret
        names = needs.claims | needs.leftovers
        if names and not self._is_stale(CLAIMS):
            is_watched = self._namespaces == (None,) or needs.namespace in self._namespaces
            absence_is_known = is_watched and self.gap(CLAIMS) is None
            for name in names:
                claim = self.claim((needs.namespace, name))
                if claim or (name in needs.leftovers and absence_is_known):
                    claims[name] = claim

        classes, asks_for_classes = UNKNOWN_CLASSES, needs.storage_classes
        if needs.storage_classes and not self._is_stale(STORAGE_CLASSES):
            known = self.storage_classes
            if _answers(known, needs.class_names):
                classes, asks_for_classes = known, False

        facts = Facts(classes, secrets, claims)
        named_are_known = len(secrets) == len(needs.secrets) and len(claims) == len(names)
        if named_are_known and not (asks_for_classes or needs.objects or needs.stateful_set):
            return facts, NO_NEEDS

        return facts, needs._replace(
            storage_classes=asks_for_classes,
            secrets=needs.secrets - secrets.keys(),
            claims=needs.claims - claims.keys(),
            leftovers=needs.leftovers - claims.keys(),
        )

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """Asks the API server, and remembers the digest of a Secret until it changes."""
        manifest = await self._cluster.get(resource, name, namespace)
        if resource == SECRETS:
            self.secrets.put_fetched(manifest)
        return manifest

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        return await self._cluster.list(resource, namespace, labels)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun:
        return await self._cluster.dry_run(resource, manifest)

    def _store(self, resource: Resource, labels: str = "") -> Store:
        trims = {DITTO_SERVERS: _trim_server, SECRETS: trim_secret, PODS: _trim_pod, CLAIMS: _trim_claim}
        store = Store(trims.get(resource, without_managed_fields))

        self._reflectors[resource] = [
            Reflector(
                self._cluster,
                Selection(resource, namespace, labels, metadata_only=resource == SECRETS),
                store,
                handle_rewind=self._relist,
            )
            for namespace in (self._namespaces if resource.namespaced else (None,))
        ]
        return store

    def _object_reflectors(self) -> Iterator[Reflector]:
        for reflectors in self._reflectors.values():
            yield from reflectors

    def _relist(self) -> None:
        """Lists everything again after the history of one resource was rewound: all are in the same etcd."""
        # Nothing is synced until then, so that a resource that was rewound is never compared with one that was not.
        for reflector in self._object_reflectors():
            reflector.relist()

    def _is_stale(self, resource: Resource) -> bool:
        """Returns whether a watch of the resource is broken, so that its store may be out of date."""
        return any(map(attrgetter("is_stale"), self._reflectors[resource]))


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Removes managedFields, except who created the object by update and not by apply."""
    metadata = manifest["metadata"]
    creators = [
        {"manager": entry.get("manager"), "operation": entry["operation"]}
        for entry in metadata.get("managedFields") or []
        if is_from_creator(entry)
    ]
    return {**manifest, "metadata": {**metadata, "managedFields": creators}}


def is_from_creator(entry: Manifest) -> bool:
    """Returns whether an entry of managedFields is ours, or of the client whose update made a DittoServer the owner."""
    fields = (entry.get("fieldsV1") or {}).get("f:metadata", {})
    is_creator = _OWNER_REFERENCES in fields or entry.get("manager") == FIELD_MANAGER
    return entry.get("operation") == "Update" and not entry.get("subresource") and is_creator


def _trim_server(manifest: Manifest) -> Manifest:
    ignored = ignored_fields(manifest)
    return without_managed_fields(manifest) | ({IGNORED_FIELDS: list(ignored)} if ignored else {})


def _trim_claim(manifest: Manifest) -> Manifest | None:
    if server_of_claim(manifest["metadata"]["name"]) is None:
        return None

    metadata = {
        **trim_to_identity(manifest)["metadata"],
        "creationTimestamp": manifest["metadata"].get("creationTimestamp"),
        "annotations": settable_annotations(manifest["metadata"].get("annotations") or {}),
        "managedFields": size_entries(manifest),
    }
    return {"metadata": metadata, "spec": manifest.get("spec"), "status": manifest.get("status")}


# A pod that has lost its StatefulSet is adopted as it is, by these.
_POD_ANNOTATIONS = (CONFIG_HASH, RESTARTED_AT, POD_DEFAULTS)


def _trim_pod(manifest: Manifest) -> Manifest:
    """Keeps what the operator wrote into the annotations, and of the spec image, volumes, mounts, root and node."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    trimmed_metadata: Manifest = {
        **trim_to_identity(manifest)["metadata"],
        "creationTimestamp": metadata.get("creationTimestamp"),
        "annotations": {key: value for key, value in annotations.items() if key in _POD_ANNOTATIONS},
    }
    if metadata.get("finalizers"):
        trimmed_metadata["finalizers"] = metadata["finalizers"]

    volumes = [volume for volume in spec.get("volumes") or [] if "persistentVolumeClaim" in volume]
    containers = [
        {
            "name": container["name"],
            "image": container.get("image"),
            "securityContext": {READ_ONLY_ROOT: (container.get("securityContext") or {}).get(READ_ONLY_ROOT)},
            "volumeMounts": [
                {name: mount[name] for name in ("name", "mountPath")} for mount in container.get("volumeMounts") or []
            ],
        }
        for container in spec.get("containers") or []
        if container["name"] == CONTAINER
    ]
    trimmed_spec: Manifest = {"volumes": volumes}
    if containers:
        trimmed_spec["containers"] = containers
    if spec.get("nodeName"):
        trimmed_spec["nodeName"] = spec["nodeName"]
    if spec.get("initContainers"):
        trimmed_spec["initContainers"] = [
            {name: container.get(name) for name in ("name", "restartPolicy")} for container in spec["initContainers"]
        ]
    return {"metadata": trimmed_metadata, "spec": trimmed_spec, "status": manifest.get("status")}


def _answers(classes: StorageClasses, names: Collection[str | None]) -> bool:
    """Returns whether all classes of these names are known; None means the default one."""
    return classes.gap is None and None not in [
        classes.default if name is None else classes.named(name) for name in names
    ]
