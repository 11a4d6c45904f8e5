"""Volumes that grow: carries out what `storage.growth` plans, one step before the reconciler does the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, NamespaceTerminating
from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, PODS, STATEFUL_SETS
from app.reconcile.unlabelled_pods import UnlabelledPods
from app.reconcile.writer import NotLeading, Writer
from app.storage.events import Event
from app.storage.live import LiveState
from app.storage.objects import Owner
from app.storage.pod import pod_name
from app.storage.resize import (
    CLAIM_CREATION_TIME,
    ChangeClaims,
    HoldPod,
    RecreateStatefulSet,
    ReleasePod,
    RemoveStatefulSet,
    RestartPod,
    Step,
    field_owners,
    may_lose_data,
    may_restart,
    next_step,
    restart_hold,
)
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, ObjectKey, is_terminating
from app.storage.volumes import volumes

# How long an API server may be away before a StatefulSet that was removed is rendered instead of recreated as it was.
REMEMBERED = timedelta(minutes=10)

# Called with the raw DittoServer and what there is to tell of it.
EventSink = Callable[[Manifest, Event], None]

_REQUEST = "/spec/resources/requests/storage"
_OWNERS = "/metadata/ownerReferences"


@dataclass(frozen=True)
class ResizeResult:
    """What came of a step. `refused` is what the API server said to claims, `failure` what went wrong otherwise.

    `again` says that there is more to do at once, `held` that the pod would have restarted but for a claim.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    again: bool = False
    held: bool = False


class Resizer:
    """`patience` is how long a file system may take to grow while it is in use, before its pod is restarted."""

    def __init__(
        self,
        informers: Informers,
        writer: Writer,
        record_event: EventSink,
        clock: Callable[[], datetime],
        patience: timedelta,
    ) -> None:
        self._informers = informers
        self._writer = writer
        self._record_event = record_event
        self._clock = clock
        self._patience = patience
        # By the server's namespace and name. In memory alone: users could change what is saved in the cluster.
        self._removed: dict[ObjectKey, tuple[datetime, Manifest]] = {}
        informers.stateful_sets.rewind_handlers.append(self._removed.clear)
        self.unlabelled_pods = UnlabelledPods(informers, clock)

    async def step(self, server: DittoServer, manifest: Manifest, owner: Owner) -> ResizeResult:
        """What goes wrong keeps nothing else from being done. Raises Conflict when what is known is out of date."""
        await self.unlabelled_pods.look_for((owner.namespace, owner.name))
        try:
            return await self._stepped(server, manifest, owner)
        except (Conflict, NotLeading, NamespaceTerminating):
            raise
        except ClusterError as error:
            return ResizeResult(failure=str(error))

    def forget(self, key: ObjectKey) -> None:
        """Forgets a server that is gone."""
        self._removed.pop(key, None)
        self.unlabelled_pods.forget(key)

    async def _stepped(self, server: DittoServer, manifest: Manifest, owner: Owner) -> ResizeResult:
        known = self.live_state(server, manifest)
        if known.stateful_set and not owner.owns(known.stateful_set):
            return ResizeResult()

        step, refused = next_step(server, owner, known, self._clock()), dict[str, str]()
        if isinstance(step, ChangeClaims):
            refused = await self._change_claims(step, manifest)
            if refused.keys() != step.requests.keys():
                return ResizeResult(refused, again=True)
            step = next_step(server, owner, replace(known, refused=refused), self._clock())

        if known.stateful_set and not isinstance(step, RemoveStatefulSet):
            await self._restore_field_owners(owner, known.stateful_set)
        if isinstance(step, RestartPod) and restart_hold(server, known):
            return ResizeResult(refused, held=True)
        if step:
            await self._take(step, manifest, owner)
        # The watch reports when the StatefulSet that is removed is gone.
        return ResizeResult(refused, again=isinstance(step, HoldPod | RecreateStatefulSet | ReleasePod))

    async def _change_claims(self, step: ChangeClaims, manifest: Manifest) -> dict[str, str]:
        """What the API server says to those that it refuses. A dry run of all of them comes first."""
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
                    self._record_event(
                        manifest, Event("Normal", "Resizing", f"volume claim {name} now asks for {size}")
                    )
        return refused

    async def _take(self, step: Step, manifest: Manifest, owner: Owner) -> None:
        match step:
            case HoldPod(pod):
                # Whoever deletes the server meanwhile wants its pod to end as well.
                reference = {name: owner.reference[name] for name in ("apiVersion", "kind", "name", "uid")}
                await self._writer.patch(PODS, pod, {_OWNERS: [*_owners(pod), reference]})
            case RemoveStatefulSet(stateful_set):
                await self._remove(stateful_set, owner)
            case RecreateStatefulSet(stateful_set):
                await self._recreate(stateful_set, manifest, owner)
            case ReleasePod(pod):
                others = [reference for reference in _owners(pod) if reference["uid"] != owner.uid]
                await self._writer.patch(PODS, pod, {_OWNERS: others})
            case RestartPod(pod, why):
                await self._writer.remove(PODS, pod)
                self._record_event(manifest, Event("Normal", "Restarting", f"the pod restarts: {why}"))

    async def _remove(self, stateful_set: Manifest, owner: Owner) -> None:
        """Removes it and remembers it whole: fields that others own exist nowhere else until it is recreated."""
        whole = await self._writer.whole(STATEFUL_SETS, stateful_set)
        self._removed[owner.namespace, owner.name] = self._clock(), whole
        await self._writer.remove(STATEFUL_SETS, stateful_set, orphan=True)

    async def _recreate(self, stateful_set: Manifest, manifest: Manifest, owner: Owner) -> None:
        try:
            recreated = await self._writer.make(STATEFUL_SETS, stateful_set)
        except (Forbidden, Invalid):
            # It cannot be as it was: from now on the rendered one is created.
            self._removed.pop((owner.namespace, owner.name), None)
            raise
        message = f"StatefulSet {owner.name} was recreated for its volumes; its pod keeps running"
        self._record_event(manifest, Event("Normal", "StatefulSetRecreated", message))
        await self._restore_field_owners(owner, recreated)

    async def _restore_field_owners(self, owner: Owner, live: Manifest) -> None:
        """Gives the fields of a recreated StatefulSet back to their managers; tried again until it has worked."""
        key = owner.namespace, owner.name
        if key not in self._removed or is_terminating(live):
            return
        _, removed = self._removed[key]
        if removed["metadata"]["uid"] != live["metadata"]["uid"]:
            await self._writer.restore_managed_fields(live, field_owners(removed))
        self._removed.pop(key, None)

    def _removed_lately(self, key: ObjectKey) -> Manifest | None:
        """None also for one that another replica has recreated and a user has deleted since."""
        if key not in self._removed:
            return None
        since, removed = self._removed[key]
        return removed if self._clock() - since < REMEMBERED else None

    def live_state(self, server: DittoServer, manifest: Manifest) -> LiveState:
        namespace, name = server.metadata.namespace, server.metadata.name
        claims = [self._informers.claim((namespace, each.claim_name(name))) for each in volumes(server.spec.storage)]
        stateful_set = self._informers.stateful_sets.get((namespace, name))
        return LiveState(
            claims={claim.name: claim for claim in claims if claim},
            classes=self._informers.storage_classes,
            stateful_set=stateful_set,
            pod=self._informers.pods.get((namespace, pod_name(name))),
            removed=self._removed_lately((namespace, name)),
            may_restart=may_restart(manifest),
            may_lose_data=may_lose_data(manifest),
            patience=self._patience,
            unlabelled_pod=self.unlabelled_pods.get((namespace, name)),
            claims_gap=self._informers.gap(CLAIMS),
            is_new=bool(stateful_set and self.new_until(stateful_set) > self._clock()),
        )

    def new_until(self, stateful_set: Manifest) -> datetime:
        """When its controller has had the time to create its claims."""
        return datetime.fromisoformat(stateful_set["metadata"]["creationTimestamp"]) + CLAIM_CREATION_TIME


def _owners(pod: Manifest) -> list[Manifest]:
    return pod["metadata"].get("ownerReferences") or []
