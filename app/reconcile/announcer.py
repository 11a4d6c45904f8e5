"""Announces what becomes of servers, by Events and to the handlers of restarts. It decides and writes nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.cluster.informers import Informers
from app.reconcile.journal import collect_writes, record_cause
from app.storage.deletion import deletion_event
from app.storage.desired import Write
from app.storage.events import Event, EventSink
from app.storage.objects import Owner
from app.storage.outages import failures_after, failures_before
from app.storage.restart_cause import Restart, RestartCause
from app.storage.secret_references import admin_secret_name, jwt_secret_name
from app.storage.spec import DittoServer
from app.storage.status import conditions
from app.storage.status_events import status_events
from app.storage.unstructured import Manifest, ObjectKey, key_of
from app.storage.volumes import VOLUME_NAMES, claim_name
from app.storage.write_events import write_events


class Announcer:
    """Announces about DittoServers, unless they are gone by then.

    `restart_handlers` are called with each server whose pod restarts, and with the cause.
    """

    def __init__(self, informers: Informers, record_event: EventSink) -> None:
        self.restart_handlers: list[Callable[[ObjectKey, RestartCause], None]] = []
        self._informers = informers
        self._record_event = record_event
        # What was announced about the present outage of servers. After a restart of the process it is announced again.
        self._failures: dict[ObjectKey, tuple[Event, ...]] = {}

    def record(self, manifest: Manifest, event: Event) -> None:
        if key_of(manifest) in self._informers.servers:
            self._record_event(manifest, event)

    def announce_write(self, manifest: Manifest, write: Write) -> None:
        """Announces what a write of the Plan means, once it has worked."""
        if write.event and key_of(manifest) in self._informers.servers:
            record_cause(write.event.reason, write.event.message)
            self.record(manifest, write.event)
        if write.restart:
            self.announce_restart(manifest, write.restart)

    def announce_restart(self, manifest: Manifest, restart: Restart) -> None:
        key = key_of(manifest)
        if key not in self._informers.servers:
            return

        record_cause(f"Restarting: {restart.cause}", restart.why)
        self.record(manifest, restart.event)
        for handler in self.restart_handlers:
            handler(key, restart.cause)

    @contextmanager
    def announce_writes(self, manifest: Manifest) -> Iterator[None]:
        """Announces what the block has written, also when it does not come to its end."""
        with collect_writes() as writes:
            try:
                yield
            finally:
                for event in write_events(writes):
                    self.record(manifest, event)

    def announce_held_back(self, manifest: Manifest, event: Event | None) -> None:
        """Announces that an edit has to wait, once for each edit: the status has seen others before."""
        is_edited = (manifest.get("status") or {}).get("observedGeneration") != manifest["metadata"]["generation"]
        if event and is_edited:
            self.record(manifest, event)

    def announce_status(self, server: DittoServer, manifest: Manifest, new_status: Manifest) -> None:
        """Announces what the new status has that the one of the manifest has not."""
        key, before = key_of(manifest), manifest.get("status") or {}
        failures = failures_before(conditions(manifest), self._failures.pop(key, ()))

        events = status_events(server, before, new_status, failures)
        if remembered := failures_after(conditions({"status": new_status}), failures, events):
            self._failures[key] = remembered

        for event in events:
            self.record(manifest, event)

    def announce_deletion(self, manifest: Manifest) -> None:
        """Announces what is kept of a server that is gone."""
        namespace, name = key_of(manifest)
        owner, informers = Owner(name, namespace), self._informers
        claims = [
            claim for volume in VOLUME_NAMES if (namespace, (claim := claim_name(volume, name))) in informers.claims
        ]

        secrets = []
        for secret in (jwt_secret_name(name), admin_secret_name(name)):
            metadata = (informers.secrets_metadata.get((namespace, secret)) or {}).get("metadata") or {}
            if owner.labels.items() <= (metadata.get("labels") or {}).items():
                secrets.append(secret)

        if event := deletion_event(name, claims, secrets):
            self._record_event(manifest, event)

    def forget(self, key: ObjectKey) -> None:
        self._failures.pop(key, None)
