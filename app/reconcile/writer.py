"""Makes one object as it is wanted: created, adopted, changed or removed. Only what differs, and only what is ours."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from app.cluster.client import FIELD_MANAGER, Cluster
from app.cluster.errors import ClusterError, Conflict, Invalid, NotFound, Unavailable
from app.cluster.informers import Informers, is_from_creator
from app.cluster.reader import CLAIMS, CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.storage.difference import differs, marked
from app.storage.evidence import words
from app.storage.objects import OPERATOR, Owner, controller, live_claim_templates, without_fields_of_other_types
from app.storage.spec import KIND
from app.storage.unstructured import Manifest, is_terminating, key_of


class NameTaken(Exception):
    """An object that is not ours has the name of one that is wanted."""


class ObjectTerminating(ClusterError):
    """An object that is wanted is being deleted, and its finalizers keep it: it can be created once it is gone."""

    def __init__(self, resource: Resource, live: Manifest) -> None:
        name, finalizers = live["metadata"]["name"], live["metadata"].get("finalizers") or []
        why = f", and its finalizers hold it: {words(', '.join(finalizers))}" if finalizers else ""
        super().__init__(f"{resource.kind} {name} is being deleted{why}; it is created again once it is gone")
        self.reason = f"{resource.kind}Terminating"


class NotLeading(ClusterError):
    """Another process may be writing by now."""


class Writer:
    """`may_write` is asked before each write: a process that was paused may not be the leader any more."""

    def __init__(self, cluster: Cluster, informers: Informers, may_write: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._informers = informers
        self._may_write = may_write
        self._stores = {
            CLAIMS: informers.claims,
            CONFIG_MAPS: informers.config_maps,
            PODS: informers.pods,
            SERVICES: informers.services,
            STATEFUL_SETS: informers.stateful_sets,
        }

    async def ensure(self, resource: Resource, manifest: Mapping[str, Any], owner: Owner) -> Manifest:
        """The live object, as it is wanted. Raises NameTaken, ObjectTerminating, and Conflict when what is known of it
        is out of date.
        """
        # Where all is as it is wanted nobody is asked, and the webhook would wait for all objects of a server.
        await asyncio.sleep(0)
        wanted, store = marked(manifest), self._stores[resource]
        live = store.get(key_of(wanted)) or await self._created(resource, wanted)
        if live is None:
            # There is one that the cache does not know: it has no label of ours, or was made a moment ago.
            live = await self._cluster.get(resource, *reversed(key_of(wanted)))
        _check_owner(resource, live, owner)
        wanted = _with_live_templates(wanted, live)
        if differs(wanted, live):
            return await self._changed(resource, wanted, live)
        if key_of(live) not in store:
            # Made by another a moment ago: who tells of it looks there.
            store.put_written(live)
        return live

    async def create_secret(self, manifest: Manifest) -> None:
        """Once and never again: what somebody else made meanwhile is left as it is."""
        self._check_may_write()
        try:
            self._informers.secrets.put_written(await self._cluster.create(SECRETS, manifest))
        except Conflict:
            # Its metadata is about to be heard of, and wakes the server.
            raise Unavailable(f"Secret {manifest['metadata']['name']} has just been made by another") from None

    async def ensure_secret(self, manifest: Mapping[str, Any], owner: Owner) -> None:
        """One that is written whenever it differs; its values are read for that and forgotten."""
        wanted = marked(manifest)
        namespace, name = key_of(wanted)
        try:
            live = await self._cluster.get(SECRETS, name, namespace)
        except NotFound:
            self._check_may_write()
            live = await self._cluster.create(SECRETS, wanted)
        _check_owner(SECRETS, live, owner)
        if differs(wanted, live):
            live = await self._applied(SECRETS, wanted, live)
        self._informers.secrets.put_written(live)

    async def remove(self, resource: Resource, live: Manifest, *, orphan: bool = False) -> None:
        """What it owns stays behind where that is to be an orphan."""
        self._check_may_write()
        leaving = await self._cluster.delete(resource, live, orphan=orphan)
        if leaving and resource in self._stores:
            self._stores[resource].put_written(leaving)

    async def make(self, resource: Resource, manifest: Manifest) -> Manifest:
        """As it is. Raises Conflict when there is one of that name."""
        self._check_may_write()
        made = await self._cluster.create(resource, manifest)
        self._stores[resource].put_written(made)
        return made

    async def patch(
        self, resource: Resource, live: Manifest, changes: Mapping[str, Any], *, dry_run: bool = False
    ) -> Manifest:
        """Sets what the paths lead to. Raises Conflict when what is known of the object is out of date."""
        known = {"/metadata/resourceVersion": live["metadata"]["resourceVersion"]}
        operations = [{"op": "add", "path": path, "value": value} for path, value in {**known, **changes}.items()]
        self._check_may_write()
        written = await self._cluster.patch(resource, live, operations, dry_run=dry_run)
        if not dry_run:
            self._stores[resource].put_written(written)
        return written

    async def restore_managed_fields(self, live: Manifest, entries: list[Manifest]) -> None:
        """The fields of an object that was made again, to whom they belonged before by these managedFields."""
        if all(entry.get("manager") == FIELD_MANAGER for entry in entries) or not is_made_by_update(live):
            return

        # Read anew: the controllers write to an object that was just created.
        full = await self._cluster.get(STATEFUL_SETS, *reversed(key_of(live)))
        if full["metadata"]["uid"] != live["metadata"]["uid"]:
            return
        status = [entry for entry in full["metadata"].get("managedFields") or [] if entry.get("subresource")]
        if full["metadata"].get("managedFields") != [*entries, *status]:
            await self.patch(STATEFUL_SETS, full, {"/metadata/managedFields": [*entries, *status]})

    async def whole(self, resource: Resource, live: Manifest) -> Manifest:
        """With its managedFields, which are not kept. Raises Conflict when it is not as it is known here."""
        full = await self._cluster.get(resource, *reversed(key_of(live)))
        if full["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Conflict(f"{resource.kind} {live['metadata']['name']} has changed since it was last heard of")
        return full

    async def write_status(self, server: Manifest, status: Manifest) -> None:
        """All of it: what the Go operator left in the conditions goes, and so does a field that is no longer there."""
        self._check_may_write()
        removed = dict.fromkeys((server.get("status") or {}).keys() - status.keys())
        manifest = {"metadata": _identified(server, server), "status": {**removed, **status}}
        written = await self._cluster.patch_status(DITTO_SERVERS, manifest)
        self._informers.servers.put_written(written)

    async def _created(self, resource: Resource, wanted: Manifest) -> Manifest | None:
        """An exclusive create: a name that is taken is found out without a look before, and nothing is overwritten."""
        self._check_may_write()
        try:
            made = await self._cluster.create(resource, wanted)
        except Conflict:
            return None
        self._stores[resource].put_written(made)
        return made

    async def _changed(self, resource: Resource, wanted: Manifest, live: Manifest) -> Manifest:
        if is_made_by_update(live):
            live = await self._migrate_managed_fields(resource, live)
        try:
            written = await self._applied(resource, wanted, live)
        except Invalid:
            # What somebody edited and what is wanted may not go together, such as two ports of one name.
            written = await self._replaced(resource, wanted, live)
        self._stores[resource].put_written(written)
        return written

    async def _migrate_managed_fields(self, resource: Resource, live: Manifest) -> Manifest:
        """Server-side apply never removes what another owns: its maker's fields become ours first (as csaupgrade)."""
        full = await self.whole(resource, live)
        entries = merged_entries(full["metadata"]["managedFields"])
        if entries == full["metadata"]["managedFields"]:
            return full
        return await self.patch(resource, full, {"/metadata/managedFields": entries})

    async def _replaced(self, resource: Resource, wanted: Manifest, live: Manifest) -> Manifest:
        """Each field of the spec that is wanted, as a whole: what others made of it goes.

        So do the fields that only another type of Service can have, whoever set them.
        """
        full = await self.whole(resource, live)
        metadata = {**full["metadata"]}
        for name in ("labels", "annotations"):
            metadata[name] = {**metadata.get(name, {}), **wanted["metadata"][name]}
        content: Manifest = {
            name: {**full.get(name, {}), **wanted[name]} for name in ("spec", "data") if name in wanted
        }
        if resource == SERVICES:
            content["spec"] = without_fields_of_other_types(content["spec"])
        self._check_may_write()
        return await self._cluster.replace(resource, {**full, "metadata": metadata, **content})

    async def _applied(self, resource: Resource, wanted: Manifest, live: Manifest) -> Manifest:
        metadata = {**wanted["metadata"], **_identified(wanted, live)}
        self._check_may_write()
        return await self._cluster.apply(resource, {**wanted, "metadata": metadata})

    def _check_may_write(self) -> None:
        if not self._may_write():
            raise NotLeading("not the leader any more")


def is_made_by_update(live: Manifest) -> bool:
    """As the store knows it: by who made it a server's own without server-side apply."""
    return any(entry.get("operation") == "Update" for entry in live["metadata"].get("managedFields") or [])


def merged_entries(entries: list[Manifest]) -> list[Manifest]:
    """The managedFields with the entries of the object's makers joined to what we applied."""
    ours = [entry for entry in entries if is_from_creator(entry) or _is_applied(entry)]
    if not any(entry.get("operation") == "Update" for entry in ours):
        return entries
    fields: Manifest = {}
    for entry in ours:
        fields = _joined(fields, entry.get("fieldsV1") or {})
    applied = {**ours[-1], "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    return [*(entry for entry in entries if entry not in ours), applied]


def _is_applied(entry: Manifest) -> bool:
    identity = entry.get("manager"), entry.get("operation"), entry.get("subresource") or None
    return identity == (FIELD_MANAGER, "Apply", None)


def _joined(one: Manifest, other: Manifest) -> Manifest:
    return {**one, **{name: _joined(one.get(name, {}), fields) for name, fields in other.items()}}


def _with_live_templates(wanted: Manifest, live: Manifest) -> Manifest:
    """Claim templates are immutable: the live ones stay, also of a StatefulSet that the informer had not heard of."""
    if "volumeClaimTemplates" not in wanted.get("spec", {}):
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "volumeClaimTemplates": live_claim_templates(live)}}


def _check_owner(resource: Resource, live: Manifest, owner: Owner) -> None:
    metadata = live["metadata"]
    other = controller(live)
    what = f"{resource.kind} {metadata['name']}"
    is_former = not owner.owns(live) and other is not None and (other["kind"], other["name"]) == (KIND, owner.name)
    is_labelled = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == OPERATOR

    if not (owner.owns(live) or is_former or (other is None and is_labelled)):
        raise NameTaken(f"{what} exists and is not this server's; remove or rename it, or name the server otherwise")
    if is_terminating(live):
        raise ObjectTerminating(resource, live)
    if is_former:
        raise Unavailable(f"{what} is of the former {KIND} of this name and about to be removed")


def _identified(manifest: Mapping[str, Any], live: Manifest) -> Manifest:
    """The preconditions under which a write still means the object that was looked at."""
    known = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    return {"name": manifest["metadata"]["name"], "namespace": manifest["metadata"]["namespace"], **known}
