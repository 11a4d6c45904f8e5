"""Writes objects on behalf of a DittoServer: creates, adopts, applies and deletes them. It writes only differences.

It never changes an object that belongs to somebody else.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

from app.cluster.client import FIELD_MANAGER, Cluster
from app.cluster.errors import ClusterError, Conflict, Invalid, NotFound, Unavailable
from app.cluster.informers import Informers, is_from_creator
from app.cluster.reader import CLAIMS, CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.storage.difference import changed_fields, differs, marked, patched_fields, removes_nothing
from app.storage.evidence import quote
from app.storage.field_managers import field_managers
from app.storage.object_write import ObjectWrite, Verb, WriteCause, write_cause
from app.storage.objects import OPERATOR, Owner, controller, live_claim_templates
from app.storage.services import without_fields_of_other_types
from app.storage.spec import KIND
from app.storage.unstructured import Manifest, is_terminating, key_of


class NameTaken(Exception):
    """An object of somebody else has the name of one that the server needs."""


class ObjectTerminating(ClusterError):
    """An object that the server needs is being deleted; it can be created again once it is gone."""

    def __init__(self, resource: Resource, live: Manifest) -> None:
        name, finalizers = live["metadata"]["name"], live["metadata"].get("finalizers") or []
        why = f", and its finalizers hold it: {quote(', '.join(finalizers))}" if finalizers else ""
        super().__init__(f"{resource.kind} {name} is being deleted{why}; it is created again once it is gone")
        self.reason = f"{resource.kind}Terminating"


class LateDiscovery(ClusterError):
    """A StatefulSet or Service of the server was not known when the Plan was made, and is known now."""


class NotLeading(ClusterError):
    """Another process may be writing by now."""


class Writer:
    """Calls `may_write` before each write: a process that was paused may not be the leader any more.

    `write_handlers` are called after each request that has changed an object, in the task that made it. A dry run
    changes nothing, nor does an answer with the version that was known; a status is no change of the server either.
    """

    def __init__(self, cluster: Cluster, informers: Informers, may_write: Callable[[], bool]) -> None:
        self.write_handlers: list[Callable[[ObjectWrite], None]] = []
        self._cluster = cluster
        self._informers = informers
        self._may_write = may_write

        self._stores = {
            CLAIMS: informers.claims,
            CONFIG_MAPS: informers.config_maps,
            DITTO_SERVERS: informers.servers,
            PODS: informers.pods,
            SERVICES: informers.services,
            STATEFUL_SETS: informers.stateful_sets,
        }

    async def ensure(self, resource: Resource, manifest: Mapping[str, Any], owner: Owner) -> Manifest:
        """Creates or changes an object as the manifest asks, and returns it.

        Raises NameTaken, ObjectTerminating, and Conflict when what is known of the object is out of date. Raises
        LateDiscovery when the manifest was made without knowing of a StatefulSet with other volumes, or of a Service.
        """
        # Without differences no request is sent, and reviews would wait until all objects of a server are compared.
        await asyncio.sleep(0)
        desired, store = marked(manifest), self._stores[resource]
        live = store.get(key_of(desired))
        if live is None:
            try:
                # An exclusive create finds a name that is taken without a lookup, and overwrites nothing.
                live = await self.create(resource, desired)
            except Conflict:
                # The store lacks it: it has none of our labels, or was created a moment ago.
                live = await self._get(resource, desired)
                # How a Service is exposed already may decide about its type.
                if resource == SERVICES or (resource == STATEFUL_SETS and not _has_labels(live, owner)):
                    await self._make_known(resource, live, owner)

        _check_owner(resource, live, owner)
        if "volumeClaimTemplates" in desired.get("spec", {}):
            # These are immutable, also those of a StatefulSet that the informer has not heard of.
            desired = {**desired, "spec": {**desired["spec"], "volumeClaimTemplates": live_claim_templates(live)}}

        if not differs(desired, live):
            if key_of(live) not in store:
                store.put_written(live)
            return live

        if is_created_by_update(live) and not (is_created_by_us(live) and removes_nothing(manifest, live)):
            # Server-side apply never removes what another manager owns, so the fields of the object's creator are taken
            # over first (as client-go's csaupgrade). That takes two more requests.
            live = await self.read_whole(resource, live)
            entries = merged_entries(live["metadata"]["managedFields"])
            if entries != live["metadata"]["managedFields"]:
                live = await self.patch(resource, live, {"/metadata/managedFields": entries})

        try:
            written = await self._apply(resource, desired, live)
        except Invalid:
            # What somebody edited and what is desired may not go together, such as two ports of one name.
            written = await self._replace(resource, desired, live)
        store.put_written(written)
        return written

    async def _make_known(self, resource: Resource, live: Manifest, owner: Owner) -> None:
        """Gives an object, such as one of the Go operator, the labels by which it is watched; no pod restarts."""
        _check_owner(resource, live, owner)
        if _has_labels(live, owner):
            self._stores[resource].put_written(live)
            if key_of(live) not in self._stores[resource]:
                # The watch says that it is gone again, and another Plan would be the same.
                return
        else:
            labels = {**(live["metadata"].get("labels") or {}), **owner.selector}
            await self.patch(resource, live, {"/metadata/labels": labels})

        raise LateDiscovery(f"{resource.kind} {live['metadata']['name']} was not known, and is looked at again")

    async def create_secret(self, manifest: Manifest) -> None:
        """Creates a generated Secret; one that somebody else has created meanwhile stays as it is."""
        try:
            self._informers.secrets.put_written(await self._create(SECRETS, manifest))
        except Conflict:
            # The event of its metadata wakes the server.
            raise Unavailable(f"Secret {manifest['metadata']['name']} has just been made by another") from None

    async def ensure_secret(self, manifest: Mapping[str, Any], owner: Owner) -> None:
        """Writes a Secret whenever it differs; its values are read for the comparison and forgotten."""
        desired = marked(manifest)
        try:
            live = await self._get(SECRETS, desired)
        except NotFound:
            live = await self._create(SECRETS, desired)

        _check_owner(SECRETS, live, owner)
        if differs(desired, live):
            live = await self._apply(SECRETS, desired, live)
        self._informers.secrets.put_written(live)

    async def delete(self, resource: Resource, live: Manifest, *, orphan: bool = False) -> None:
        """Deletes the object; with `orphan`, what it owns stays behind."""
        self._check_may_write()
        started = monotonic()
        terminating = await self._cluster.delete(resource, live, orphan=orphan)

        self._report(ObjectWrite("delete", resource.kind, *key_of(live)), started)
        if terminating and resource in self._stores:
            self._stores[resource].put_written(terminating)

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Creates the object. Raises Conflict when one of that name exists."""
        created = await self._create(resource, manifest)
        self._stores[resource].put_written(created)
        return created

    async def patch(
        self, resource: Resource, live: Manifest, changes: Mapping[str, Any], *, dry_run: bool = False
    ) -> Manifest:
        """Sets values by their paths. Raises Conflict when what is known of the object is out of date."""
        values = {"/metadata/resourceVersion": live["metadata"]["resourceVersion"], **changes}
        operations = [{"op": "add", "path": path, "value": value} for path, value in values.items()]

        self._check_may_write()
        started = monotonic()
        written = await self._cluster.patch(resource, live, operations, dry_run=dry_run)
        if not dry_run and _version(written) != _version(live):
            paths = tuple(path.removeprefix("/").replace("/", ".") for path in changes)
            self._report(ObjectWrite("patch", resource.kind, *key_of(written), paths), started)

        if resource == SECRETS:
            self._informers.secrets.put_written(written)
        elif not dry_run:
            self._stores[resource].put_written(written)
        return written

    async def merge(self, resource: Resource, live: Manifest, patch: Manifest) -> Manifest:
        """Applies a merge patch to the object. Raises Conflict when what is known of it is out of date."""
        manifest = {**patch, "metadata": {**patch["metadata"], **_with_preconditions(live, live)}}

        self._check_may_write()
        started = monotonic()
        written = await self._cluster.merge(resource, manifest)

        if _version(written) != _version(live):
            self._report(ObjectWrite("merge", resource.kind, *key_of(written), patched_fields(patch)), started)
        self._stores[resource].put_written(written)
        return written

    async def restore_managed_fields(self, live: Manifest, entries: list[Manifest]) -> None:
        """Gives the fields of a recreated StatefulSet back to those who owned them, by these managedFields."""
        if all(entry.get("manager") == FIELD_MANAGER for entry in entries) or not is_created_by_update(live):
            return

        # The controllers write to an object that was just created: the store may be behind.
        full = await self._get(STATEFUL_SETS, live)
        if full["metadata"]["uid"] != live["metadata"]["uid"]:
            return

        status = [entry for entry in full["metadata"].get("managedFields") or [] if entry.get("subresource")]
        if full["metadata"].get("managedFields") != [*entries, *status]:
            await self.patch(STATEFUL_SETS, full, {"/metadata/managedFields": [*entries, *status]})

    async def read_whole(self, resource: Resource, live: Manifest) -> Manifest:
        """Returns the object with its managedFields, which stores leave out. Raises Conflict when it has changed."""
        full = await self._get(resource, live)
        if full["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Conflict(f"{resource.kind} {live['metadata']['name']} has changed since it was last heard of")
        return full

    async def write_status(self, server: Manifest, status: Manifest) -> None:
        """Replaces the status, also what the Go operator left in it."""
        self._check_may_write()
        patch = _merge_patch(server.get("status") or {}, status)
        manifest = {"metadata": _with_preconditions(server, server), "status": patch}
        self._informers.servers.put_written(await self._cluster.patch_status(DITTO_SERVERS, manifest))

    async def _get(self, resource: Resource, manifest: Mapping[str, Any]) -> Manifest:
        namespace, name = key_of(manifest)
        return await self._cluster.get(resource, name, namespace)

    async def _replace(self, resource: Resource, desired: Manifest, live: Manifest) -> Manifest:
        """Replaces each desired field of the spec as a whole, and removes ours that are no longer desired."""
        full = await self.read_whole(resource, live)
        ours = _owned_fields(full["metadata"].get("managedFields") or [])
        owned_metadata = ours.get("f:metadata") or {}

        metadata = {**full["metadata"]}
        for name in ("labels", "annotations"):
            kept = _without_owned(metadata.get(name) or {}, owned_metadata.get(f"f:{name}") or {})
            metadata[name] = {**kept, **desired["metadata"][name]}

        names = [name for name in ("spec", "data") if name in desired]
        content: Manifest = {
            name: {**_without_owned(full.get(name) or {}, ours.get(f"f:{name}") or {}), **desired[name]}
            for name in names
        }
        if resource == SERVICES:
            # Fields that only another type of Service can have go as well, whoever has set them.
            content["spec"] = without_fields_of_other_types(content["spec"])

        self._check_may_write()
        started = monotonic()
        written = await self._cluster.replace(resource, {**full, "metadata": metadata, **content})

        if _version(written) != _version(full):
            self._report(_describe("replace", desired, full, written), started)
        return written

    async def _apply(self, resource: Resource, desired: Manifest, live: Manifest) -> Manifest:
        if write_cause(desired, live) is WriteCause.DRIFT:
            # Who has changed it only explains the write, and is gone once it is applied.
            with suppress(ClusterError):
                live = await self.read_whole(resource, live)

        metadata = {**desired["metadata"], **_with_preconditions(desired, live)}

        self._check_may_write()
        started = monotonic()
        written = await self._cluster.apply(resource, {**desired, "metadata": metadata})

        if _version(written) != _version(live):
            self._report(_describe("apply", desired, live, written), started)
        return written

    async def _create(self, resource: Resource, manifest: Manifest) -> Manifest:
        self._check_may_write()
        started = monotonic()
        created = await self._cluster.create(resource, manifest)
        self._report(ObjectWrite("create", resource.kind, *key_of(created)), started)
        return created

    def _report(self, write: ObjectWrite, started: float) -> None:
        write = replace(write, seconds=monotonic() - started)
        for handler in self.write_handlers:
            handler(write)

    def may_write(self) -> bool:
        """Tells whether this process is the one that may write at this moment."""
        return self._may_write()

    def _check_may_write(self) -> None:
        if not self._may_write():
            raise NotLeading("not the leader any more")


def _describe(verb: Verb, desired: Manifest, live: Manifest, written: Manifest) -> ObjectWrite:
    """Returns what was written to the live object, why, and who had changed it before where that is why."""
    cause, fields = write_cause(desired, live), changed_fields(live, written)
    managers = field_managers(live, fields, FIELD_MANAGER) if cause is WriteCause.DRIFT else ()
    return ObjectWrite(verb, desired["kind"], *key_of(written), fields, cause=cause, changed_by=managers)


def is_created_by_update(live: Manifest) -> bool:
    """Returns whether an object, as the store has it, was made the server's by another means than server-side apply."""
    return any(entry.get("operation") == "Update" for entry in live["metadata"].get("managedFields") or [])


def is_created_by_us(live: Manifest) -> bool:
    """Returns whether nobody but this operator has created the object, or made it the server's."""
    entries = live["metadata"].get("managedFields") or []
    return all(entry.get("manager") == FIELD_MANAGER for entry in entries if entry.get("operation") == "Update")


def merged_entries(entries: list[Manifest]) -> list[Manifest]:
    """Returns the managedFields with the entries of the object's creators joined to what we applied."""
    applied = FIELD_MANAGER, "Apply", None
    ours = [
        entry
        for entry in entries
        if is_from_creator(entry)
        or (entry.get("manager"), entry.get("operation"), entry.get("subresource") or None) == applied
    ]
    if not any(entry.get("operation") == "Update" for entry in ours):
        return entries

    merged = {**ours[-1], "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": _fields_of(ours)}
    return [*(entry for entry in entries if entry not in ours), merged]


def _fields_of(entries: Iterable[Manifest]) -> Manifest:
    fields: Manifest = {}
    for entry in entries:
        fields = _merge(fields, entry.get("fieldsV1") or {})
    return fields


def _merge(one: Manifest, other: Manifest) -> Manifest:
    return {**one, **{name: _merge(one.get(name, {}), fields) for name, fields in other.items()}}


def _owned_fields(entries: list[Manifest]) -> Manifest:
    """Returns the fields that are ours by these managedFields."""
    return _fields_of(
        entry for entry in entries if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")
    )


def _without_owned(values: Manifest, owned: Manifest) -> Manifest:
    return {name: value for name, value in values.items() if f"f:{name}" not in owned}


def _has_labels(live: Manifest, owner: Owner) -> bool:
    return owner.selector.items() <= (live["metadata"].get("labels") or {}).items()


def _check_owner(resource: Resource, live: Manifest, owner: Owner) -> None:
    metadata, other = live["metadata"], controller(live)
    what, name = f"{resource.kind} {metadata['name']}", f"{resource.kind.lower()} {metadata['name']}"
    is_labelled = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == OPERATOR
    is_of_previous = other is not None and (other["kind"], other["name"]) == (KIND, owner.name)

    if not (owner.owns(live) or is_of_previous or (other is None and is_labelled)):
        advice = "remove or rename it, or name the server otherwise"
        command = f"kubectl -n {metadata['namespace']} describe {name}"
        raise NameTaken(f"{what} exists and is not this server's: {advice}; {command} shows what it is")
    if is_terminating(live):
        raise ObjectTerminating(resource, live)
    if is_of_previous and not owner.owns(live):
        raise Unavailable(f"{what} belongs to a previous {KIND} of this name and is about to be removed")


def _version(manifest: Manifest) -> str:
    version: str = manifest["metadata"]["resourceVersion"]
    return version


def _with_preconditions(manifest: Mapping[str, Any], live: Manifest) -> Manifest:
    """Returns metadata with which a write fails unless it still means the object that was looked at."""
    known = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    return {"name": manifest["metadata"]["name"], "namespace": manifest["metadata"]["namespace"], **known}


def _merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Manifest:
    """Returns `after` with a null for each field, at any depth, that only `before` has: others would stay."""
    patch: Manifest = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        earlier = before.get(name)
        are_sections = isinstance(earlier, Mapping) and isinstance(value, Mapping)
        patch[name] = _merge_patch(earlier or {}, value) if are_sections else value
    return patch
