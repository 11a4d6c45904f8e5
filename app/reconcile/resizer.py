"""Carries out the steps of volume expansions that `storage.resize` decides on. It decides nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, NamespaceTerminating
from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, PODS, STATEFUL_SETS
from app.reconcile.announcer import Announcer
from app.reconcile.writer import NotLeading, Writer
from app.storage.events import Event
from app.storage.live import LiveState
from app.storage.objects import Owner
from app.storage.resize import (
    ChangeClaims,
    HoldPod,
    RecreateStatefulSet,
    ReleasePod,
    RemoveStatefulSet,
    RestartPod,
    Step,
    field_owners,
)
from app.storage.unstructured import Manifest, ObjectKey, is_terminating

# How long an API server may be away before a StatefulSet that was removed is rendered instead of recreated as it was.
REMEMBERED = timedelta(minutes=10)

_REQUEST = "/spec/resources/requests/storage"
_OWNERS = "/metadata/ownerReferences"


@dataclass(frozen=True)
class ResizeResult:
    """The result of a step. `refused` is what the API server said to claims, `failure` what else went wrong.

    `again` asks for another reconcile at once; `decide_again` for another decision in this one, because what was
    refused may leave something else to do.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    again: bool = False
    decide_again: bool = False


class Resizer:
    """Carries out the steps of volume expansions, and remembers a StatefulSet while it is being recreated."""

    def __init__(
        self, informers: Informers, writer: Writer, announcer: Announcer, clock: Callable[[], datetime]
    ) -> None:
        self._informers = informers
        self._writer = writer
        self._announcer = announcer
        self._clock = clock
        # In memory alone: users could change what is saved in the cluster.
        self._removed: dict[ObjectKey, tuple[datetime, Manifest]] = {}
        informers.stateful_sets.rewind_handlers.append(self._removed.clear)

    async def carry_out(self, step: Step | None, manifest: Manifest, owner: Owner, live: LiveState) -> ResizeResult:
        """Takes the step; a failure is part of the result, and keeps nothing else from being done.

        Raises what concerns every other object as well, such as Conflict when what is known is out of date.
        """
        try:
            if live.stateful_set and owner.owns(live.stateful_set) and not isinstance(step, RemoveStatefulSet):
                await self._restore_field_owners(owner, live.stateful_set)
            if isinstance(step, ChangeClaims):
                refused = await self._change_claims(step, manifest)
                all_refused = refused.keys() == step.requests.keys()
                return ResizeResult({**live.refused, **refused}, again=not all_refused, decide_again=all_refused)
            if step:
                await self._take(step, manifest, owner)
        except (Conflict, NotLeading, NamespaceTerminating):
            raise
        except ClusterError as error:
            return ResizeResult(live.refused, failure=str(error))

        # The watch reports when the StatefulSet that is removed is gone.
        return ResizeResult(live.refused, again=isinstance(step, HoldPod | RecreateStatefulSet | ReleasePod))

    def removed(self, key: ObjectKey) -> Manifest | None:
        """Returns the StatefulSet that was removed lately and is to be recreated.

        None also for one that another replica has recreated and a user has deleted since.
        """
        if key not in self._removed:
            return None
        since, removed = self._removed[key]
        return removed if self._clock() - since < REMEMBERED else None

    def forget(self, key: ObjectKey) -> None:
        self._removed.pop(key, None)

    async def _change_claims(self, step: ChangeClaims, manifest: Manifest) -> dict[str, str]:
        """Returns what the API server says to the claims that it rejects. A dry run of all of them comes first."""
        namespace = manifest["metadata"]["namespace"]
        refused: dict[str, str] = {}

        for dry_run in (True, False):
            for name, size in step.requests.items():
                claim = self._informers.claims.get((namespace, name))
                if claim is None or name in refused:
                    continue

                try:
                    await self._writer.patch(CLAIMS, claim, {_REQUEST: size}, dry_run=dry_run)
                except (Forbidden, Invalid) as error:
                    refused[name] = str(error)
                    continue
                if not dry_run:
                    event = Event("Normal", "Resizing", f"volume claim {name} now asks for {size}")
                    self._announcer.record(manifest, event)

        return refused

    async def _take(self, step: Step, manifest: Manifest, owner: Owner) -> None:
        match step:
            case HoldPod(pod=pod):
                # Whoever deletes the server meanwhile wants its pod to end as well.
                reference = {name: owner.reference[name] for name in ("apiVersion", "kind", "name", "uid")}
                await self._writer.patch(PODS, pod, {_OWNERS: [*_owners(pod), reference]})

            case RemoveStatefulSet(stateful_set):
                # Fields that others own exist nowhere else until it is recreated.
                whole = await self._writer.read_whole(STATEFUL_SETS, stateful_set)
                self._removed[owner.namespace, owner.name] = self._clock(), whole
                await self._writer.delete(STATEFUL_SETS, stateful_set, orphan=True)

            case RecreateStatefulSet(stateful_set):
                try:
                    recreated = await self._writer.create(STATEFUL_SETS, stateful_set)
                except (Forbidden, Invalid):
                    # It cannot be as it was: from now on the rendered one is created.
                    self._removed.pop((owner.namespace, owner.name), None)
                    raise

                message = f"StatefulSet {owner.name} was recreated for its volumes; its pod keeps running"
                self._announcer.record(manifest, Event("Normal", "StatefulSetRecreated", message))
                await self._restore_field_owners(owner, recreated)

            case ReleasePod(pod):
                others = [reference for reference in _owners(pod) if reference["uid"] != owner.uid]
                await self._writer.patch(PODS, pod, {_OWNERS: others})

            case RestartPod(pod, restart):
                await self._writer.delete(PODS, pod)
                self._announcer.announce_restart(manifest, restart)

    async def _restore_field_owners(self, owner: Owner, live: Manifest) -> None:
        """Gives the fields of a recreated StatefulSet back to their managers; every step tries until it has worked."""
        key = owner.namespace, owner.name
        if key not in self._removed or is_terminating(live):
            return

        _, removed = self._removed[key]
        if removed["metadata"]["uid"] != live["metadata"]["uid"]:
            await self._writer.restore_managed_fields(live, field_owners(removed))
        self._removed.pop(key, None)


def _owners(pod: Manifest) -> list[Manifest]:
    return pod["metadata"].get("ownerReferences") or []
