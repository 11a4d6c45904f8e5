"""Everything that is watched, a store for each resource, and what of it answers a look-up without asking."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.cluster.client import FIELD_MANAGER, Cluster, Selection
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
from app.cluster.secrets import SecretDigest, SecretDigests, identity
from app.cluster.store import Store
from app.cluster.warning_events import WarningEvents
from app.storage.evidence import CLAIM, POD, STATEFUL_SET
from app.storage.facts import Claim, DryRun, Facts, Needs, StorageClass, StorageClasses, Unknown, size_entries
from app.storage.objects import SELECTOR
from app.storage.pod import CONFIG_HASH
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import server_of_claim

# A change of ours to what another client wrote begins with its entry; see app.reconcile.writer.
_OWNERS = "f:ownerReferences"
# Events only explain. Many clusters keep them in an etcd of their own, and nothing waits longer for it when it is down.
EVENTS_PATIENCE_SECONDS = 5.0


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Without managedFields, but for who made the object by update and not by apply."""
    metadata = manifest["metadata"]
    made_by = [
        {"manager": entry.get("manager"), "operation": entry["operation"]}
        for entry in metadata.get("managedFields") or []
        if is_from_creator(entry)
    ]
    return {**manifest, "metadata": {**metadata, "managedFields": made_by}}


def is_from_creator(entry: Manifest) -> bool:
    """Whether an entry of managedFields is of a client that made the object a DittoServer's own by update, or ours."""
    owned = (entry.get("fieldsV1") or {}).get("f:metadata", {})
    made = _OWNERS in owned or entry.get("manager") == FIELD_MANAGER
    return entry.get("operation") == "Update" and not entry.get("subresource") and made


def _claim(manifest: Manifest) -> Manifest | None:
    if server_of_claim(manifest["metadata"]["name"]) is None:
        return None
    kept = {"creationTimestamp": manifest["metadata"].get("creationTimestamp"), "managedFields": size_entries(manifest)}
    metadata = {**identity(manifest)["metadata"], **kept}
    return {"metadata": metadata, "spec": manifest.get("spec"), "status": manifest.get("status")}


def _pod(manifest: Manifest) -> Manifest:
    """Of its annotations only what it was configured with, of its spec what it mounts of claims and where it runs."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    configured = {key: value for key, value in (metadata.get("annotations") or {}).items() if key == CONFIG_HASH}
    kept = {"creationTimestamp": metadata.get("creationTimestamp"), "annotations": configured}
    if metadata.get("finalizers"):
        kept["finalizers"] = metadata["finalizers"]

    placed: Manifest = {
        "volumes": [volume for volume in spec.get("volumes") or [] if "persistentVolumeClaim" in volume]
    }
    if spec.get("nodeName"):
        placed["nodeName"] = spec["nodeName"]
    if spec.get("initContainers"):
        names = ("name", "restartPolicy")
        placed["initContainers"] = [
            {name: container.get(name) for name in names} for container in spec["initContainers"]
        ]
    return {
        "metadata": {**identity(manifest)["metadata"], **kept},
        "spec": placed,
        "status": manifest.get("status"),
    }


class Informers:
    """Of the namespaces, or of the whole cluster where none are named. Also a Reader, for what is not known here."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] = ()) -> None:
        self._reflectors: dict[Resource, list[Reflector]] = {}
        self._cluster = cluster
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self.servers = self._store(DITTO_SERVERS)
        self.stateful_sets = self._store(STATEFUL_SETS, SELECTOR)
        self.services = self._store(SERVICES, SELECTOR)
        self.config_maps = self._store(CONFIG_MAPS, SELECTOR)
        # By their names: those that were restored, cloned or provisioned by hand have no label of ours.
        self.claims = self._store(CLAIMS)
        self.pods = self._store(PODS, SELECTOR)
        self.classes = self._store(STORAGE_CLASSES)
        # Every review asks for all of them, and they hardly ever change.
        self._known_classes: tuple[StorageClass, ...] | None = None
        self.classes.event_handlers.append(self._forget_classes)
        self.secrets_metadata = self._store(SECRETS)
        self.secrets = SecretDigests(cluster, self.secrets_metadata)
        objects = {STATEFUL_SET: self.stateful_sets, POD: self.pods, CLAIM: self.claims}
        self.warnings = WarningEvents(self.servers, objects)
        self._event_reflectors = [
            Reflector(cluster, Selection(EVENTS, namespace, fields="type=Warning"), self.warnings)
            for namespace in self._namespaces
        ]
        self._events_are_late = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflectors in self._reflectors.values():
                for reflector in reflectors:
                    group.create_task(reflector.run())
            # Only those about known servers are kept.
            for reflector in self._reflectors[DITTO_SERVERS]:
                await reflector.wait_for_sync()
            for reflector in self._event_reflectors:
                group.create_task(reflector.run())

    async def wait_for_sync(self) -> None:
        """Until all of it was read, but for StorageClasses and Events where they may not be; again after a rewind."""
        for reflectors in self._reflectors.values():
            for reflector in reflectors:
                await reflector.wait_for_sync()
        if self._events_are_late:
            return
        try:
            async with asyncio.timeout(EVENTS_PATIENCE_SECONDS):
                for reflector in self._event_reflectors:
                    await reflector.wait_for_sync()
        except TimeoutError:
            # They only explain what is wrong, and are waited for once, not before each reconcile.
            self._events_are_late = True

    def why_not_ready(self) -> str | None:
        """Why DittoServers cannot be looked after.

        Once they were listed, only that the API server no longer serves them counts, and not that it does not answer.
        """
        reasons = (
            reflector.why_not_listed for reflector in self._reflectors[DITTO_SERVERS] if reflector.why_not_listed
        )
        why = next(reasons, None)
        return f"cannot list {DITTO_SERVERS.plural}: {why}" if why else None

    def gap(self, resource: Resource) -> str | None:
        """Why what is not in the store may exist all the same; None when it does not."""
        return next((reflector.gap for reflector in self._reflectors[resource] if reflector.gap), None)

    @property
    def storage_classes(self) -> StorageClasses:
        if self._known_classes is None:
            found = (self.classes.get(key) for key in self.classes)
            self._known_classes = tuple(StorageClass.read(each) for each in found if each)
        return StorageClasses(self._known_classes, self.gap(STORAGE_CLASSES))

    async def secret(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        """None when there is no such Secret."""
        gap = self.gap(SECRETS)
        return Unknown(gap) if gap and key not in self.secrets_metadata else await self.secrets.read(key)

    def claim(self, key: ObjectKey) -> Claim | None:
        found = self.claims.get(key)
        return Claim.read(found) if found else None

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """From the API server; of a Secret is remembered what there is to know, until it changes."""
        found = await self._cluster.get(resource, name, namespace)
        if resource == SECRETS:
            self.secrets.remember(found)
        return found

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        return await self._cluster.list(resource, namespace, labels)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun:
        return await self._cluster.dry_run(resource, manifest)

    def known(self, needs: Needs) -> tuple[Facts, Needs]:
        """What is known here of what a judgement needs, and what has to be asked for.

        That there is no such thing is never concluded, since it may have been made a moment ago, but of leftovers.
        """
        named = frozenset[str]() if self._is_stale(SECRETS) else needs.secrets
        secrets = {name: self.secrets.remembered((needs.namespace, name)) for name in named}
        claimed = frozenset[str]() if self._is_stale(CLAIMS) else needs.claims | needs.leftovers
        claims = {name: self.claim((needs.namespace, name)) for name in claimed}
        absent = {name for name in needs.leftovers if self._knows_all_claims(needs.namespace) and not claims[name]}
        classes = self.storage_classes if needs.storage_classes else Facts().storage_classes
        knows_class = not self._is_stale(STORAGE_CLASSES) and _answers(classes, needs.storage_class)
        asks_for_classes = needs.storage_classes and not knows_class
        facts = Facts(
            storage_classes=Facts().storage_classes if asks_for_classes else classes,
            secrets={name: known.secret for name, known in secrets.items() if isinstance(known, SecretDigest)},
            claims={name: claim for name, claim in claims.items() if claim or name in absent},
        )
        return facts, replace(
            needs,
            storage_classes=asks_for_classes,
            secrets=needs.secrets - facts.secrets.keys(),
            claims=needs.claims - facts.claims.keys(),
            leftovers=needs.leftovers - facts.claims.keys(),
        )

    def _knows_all_claims(self, namespace: str) -> bool:
        """Whether a claim of this namespace that is not in the store did not exist a moment ago."""
        is_whole = self.gap(CLAIMS) is None and not self._is_stale(CLAIMS)
        return is_whole and (self._namespaces == (None,) or namespace in self._namespaces)

    def _is_stale(self, resource: Resource) -> bool:
        """Whether a watch of it is broken, so that what is in the store may be out of date."""
        return any(reflector.is_stale for reflector in self._reflectors[resource])

    def _relist(self) -> None:
        """Everything, when the history of one resource was rewound: all resources are in the same etcd.

        Until then nothing is synced, and a resource that was rewound is not compared with one that was not.
        """
        for reflectors in self._reflectors.values():
            for reflector in reflectors:
                reflector.relist()

    def _forget_classes(self, _key: ObjectKey, _manifest: Manifest) -> None:
        self._known_classes = None

    def _store(self, resource: Resource, labels: str = "") -> Store:
        trim = {SECRETS: identity, PODS: _pod, CLAIMS: _claim}.get(resource, without_managed_fields)
        store = Store(trim)
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


def _answers(classes: StorageClasses, name: str | None) -> bool:
    """Whether the class that matters most is known; where the name is empty, none matters."""
    if classes.gap is not None:
        return False
    return name == "" or (classes.default if name is None else classes.named(name)) is not None
