"""Takes servers over from the Go operator: reports which fields have no effect, and removes that operator's finalizer.

Once another operator works on a server, nobody else removes the finalizer, and the server could not be deleted.
"""

from app.cluster.informers import Informers
from app.cluster.reader import DITTO_SERVERS, SECRETS
from app.reconcile.live_reader import LiveReader
from app.reconcile.writer import Writer
from app.storage.desired import disowned_secrets
from app.storage.events import Event, EventSink
from app.storage.objects import Owner
from app.storage.pause import is_paused
from app.storage.reading import read
from app.storage.takeover import FINALIZER, IGNORED_FIELDS, remaining_finalizers
from app.storage.unstructured import Manifest, ObjectKey, is_terminating, key_of

_RELEASED = f"finalizer {FINALIZER} was removed: it waits for the Go operator, which no longer manages the server"
_DISPUTED = f"finalizer {FINALIZER} is back: the Go operator still runs and undoes what this operator does; stop it"


class Handover:
    """Hands servers over. It remembers for which it has done that, to notice when somebody undoes it."""

    def __init__(self, informers: Informers, reader: LiveReader, writer: Writer, record_event: EventSink) -> None:
        self._informers = informers
        self._reader = reader
        self._writer = writer
        self._record_event = record_event
        self._reported: dict[ObjectKey, tuple[str, ...]] = {}
        self._released: dict[ObjectKey, str] = {}
        self._disputed: dict[ObjectKey, str] = {}

    def report_ignored_fields(self, manifest: Manifest) -> None:
        """Records an Event that lists the fields, unless the status has the list already."""
        key, fields = key_of(manifest), tuple(manifest.get(IGNORED_FIELDS) or ())
        is_in_status = list(fields) == (manifest.get("status") or {}).get(IGNORED_FIELDS)
        if not fields or is_in_status or self._reported.get(key) == fields:
            return

        self._reported[key] = fields
        message = f"this operator does not know these fields of the spec, so they have no effect: {', '.join(fields)}"
        self._record_event(manifest, Event("Warning", "FieldsIgnored", message))

    async def release(self, key: ObjectKey) -> None:
        """Removes the finalizer, unless a generated Secret would be deleted with the server. Raises ClusterError.

        A server that is paused keeps it until it is deleted.
        """
        manifest = self._informers.servers.get(key)
        finalizers = remaining_finalizers(manifest) if manifest else None
        if manifest is None or finalizers is None or (is_paused(manifest) and not is_terminating(manifest)):
            return

        uid = manifest["metadata"]["uid"]
        if not is_terminating(manifest) and self._released.get(key) == uid:
            # Two operators that undo what the other one does would never end.
            if self._disputed.get(key) != uid:
                self._disputed[key] = uid
                self._record_event(manifest, Event("Warning", "GoOperatorRunning", _DISPUTED))
            return

        owner = Owner(key[1], key[0], uid)
        for write in disowned_secrets(owner, self._reader.observe(read(manifest).server, manifest)):
            owners = {"/metadata/ownerReferences": write.manifest["metadata"]["ownerReferences"]}
            await self._writer.patch(SECRETS, write.manifest, owners)

        await self._writer.patch(DITTO_SERVERS, manifest, {"/metadata/finalizers": finalizers})
        self._released[key] = uid
        self._record_event(manifest, Event("Normal", "FinalizerRemoved", _RELEASED))

    def forget(self, key: ObjectKey) -> None:
        self._reported.pop(key, None)
        self._released.pop(key, None)
        self._disputed.pop(key, None)
