"""Volumes that grow: carries out what `storage.growth` plans, one step before the reconciler does the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import orjson

from app.cluster.cache import Manifest
from app.cluster.observed import Observed
from app.cluster.reader import (
    CLAIMS,
    CONFIG_MAPS,
    PODS,
    STATEFUL_SETS,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    Unavailable,
)
from app.reconcile.writer import NotLeading, Writer
from app.storage.growth import (
    ChangeClaims,
    CrossOut,
    MakeAgain,
    RemoveStatefulSet,
    RestartPod,
    Situation,
    Step,
    WriteDown,
    may_restart,
    next_step,
    noted,
)
from app.storage.objects import Owner
from app.storage.pod import config_map_name, pod_name
from app.storage.spec import DittoServer
from app.storage.status import News
from app.storage.volumes import volumes

# On the ConfigMap, for the time in which there is no StatefulSet: the one there was.
NOTE = "dittofs.io/stateful-set"

# Called with the raw DittoServer and what there is to tell of it.
Tell = Callable[[Manifest, News], None]

_REQUEST = "/spec/resources/requests/storage"
_OWNERS = "/metadata/ownerReferences"


@dataclass(frozen=True)
class Grown:
    """What came of a step. `refused` is what the API server said to claims, `failure` what went wrong otherwise.

    `again` says that there is more to do at once.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    again: bool = False


class Growth:
    """`patience` is how long a file system may take to grow while it is in use, before its pod is restarted."""

    def __init__(
        self, observed: Observed, writer: Writer, tell: Tell, clock: Callable[[], datetime], patience: timedelta
    ) -> None:
        self._observed = observed
        self._writer = writer
        self._tell = tell
        self._clock = clock
        self._patience = patience

    async def step(self, server: DittoServer, manifest: Manifest, owner: Owner) -> Grown:
        """What goes wrong keeps nothing else from being done. Raises Conflict when what is known is out of date."""
        try:
            return await self._stepped(server, manifest, owner)
        except (Conflict, NotLeading):
            raise
        except ClusterError as error:
            return Grown(failure=str(error))

    async def _stepped(self, server: DittoServer, manifest: Manifest, owner: Owner) -> Grown:
        found = self.situation(server, manifest)
        if found.stateful_set and not owner.owns(found.stateful_set):
            return Grown()
        found = replace(found, note=self._noted(owner))
        step, refused = next_step(server, found, self._clock()), dict[str, str]()
        if isinstance(step, ChangeClaims):
            refused = await self._change_claims(step, manifest)
            if refused.keys() != step.requests.keys():
                return Grown(refused, again=True)
            step = next_step(server, replace(found, refused=refused), self._clock())
        if step:
            await self._take(step, manifest, owner)
        # Of what is removed its watch tells when it is gone.
        return Grown(refused, again=isinstance(step, WriteDown | MakeAgain | CrossOut))

    async def _change_claims(self, step: ChangeClaims, manifest: Manifest) -> dict[str, str]:
        """What the API server says to those that it refuses. A dry run of all of them comes first."""
        namespace = manifest["metadata"]["namespace"]
        refused: dict[str, str] = {}
        for dry_run in (True, False):
            for name, size in step.requests.items():
                claim = self._observed.claims.get((namespace, name))
                if claim is None or name in refused:
                    continue
                try:
                    await self._writer.patch(CLAIMS, claim, {_REQUEST: size}, dry_run=dry_run)
                except (Forbidden, Invalid) as error:
                    refused[name] = str(error)
                    continue
                if not dry_run:
                    self._tell(manifest, News("Normal", "Resizing", f"volume claim {name} now asks for {size}"))
        return refused

    async def _take(self, step: Step, manifest: Manifest, owner: Owner) -> None:
        match step:
            case WriteDown():
                await self._write_down(step, owner)
            case RemoveStatefulSet(stateful_set):
                await self._writer.remove(STATEFUL_SETS, stateful_set, orphan=True)
            case MakeAgain(stateful_set, managed_fields):
                made = await self._writer.make(STATEFUL_SETS, stateful_set)
                await self._writer.give_back(made, managed_fields)
                message = f"StatefulSet {owner.name} was made again for its volumes; its pod goes on"
                self._tell(manifest, News("Normal", "MadeAgain", message))
            case CrossOut():
                await self._cross_out(step, owner)
            case RestartPod(pod, why):
                await self._writer.remove(PODS, pod)
                self._tell(manifest, News("Normal", "Restarting", f"the pod restarts: {why}"))

    async def _write_down(self, step: WriteDown, owner: Owner) -> None:
        """The pod first: once there is a note, the StatefulSet is removed."""
        config_map = self._config_map(owner)
        if config_map is None:
            raise Unavailable(f"ConfigMap {config_map_name(owner.name)} is yet to be made")
        whole = await self._writer.whole(STATEFUL_SETS, step.stateful_set)
        if step.pod and not any(each["uid"] == owner.uid for each in _owners(step.pod)):
            # Who deletes the server meanwhile wants its pod to end as well.
            reference = {name: owner.reference[name] for name in ("apiVersion", "kind", "name", "uid")}
            await self._writer.patch(PODS, step.pod, {_OWNERS: [*_owners(step.pod), reference]})
        await self._writer.note(CONFIG_MAPS, config_map, {NOTE: orjson.dumps(noted(whole)).decode()})

    async def _cross_out(self, step: CrossOut, owner: Owner) -> None:
        """The note last: as long as there is one, this is done again."""
        await self._writer.give_back(step.stateful_set, step.managed_fields)
        if step.pod and any(each["uid"] == owner.uid for each in _owners(step.pod)):
            others = [each for each in _owners(step.pod) if each["uid"] != owner.uid]
            await self._writer.patch(PODS, step.pod, {_OWNERS: others})
        if config_map := self._config_map(owner):
            await self._writer.note(CONFIG_MAPS, config_map, {})

    def _noted(self, owner: Owner) -> Manifest | None:
        config_map = self._config_map(owner) or {"metadata": {}}
        note = (config_map["metadata"].get("annotations") or {}).get(NOTE)
        return orjson.loads(note) if note else None

    def _config_map(self, owner: Owner) -> Manifest | None:
        """None while there is only that of a former server of this name."""
        found = self._observed.config_maps.get((owner.namespace, config_map_name(owner.name)))
        return found if found and owner.owns(found) else None

    def situation(self, server: DittoServer, manifest: Manifest) -> Situation:
        namespace, name = server.metadata.namespace, server.metadata.name
        claims = [self._observed.claim((namespace, each.claim_name(name))) for each in volumes(server.spec.storage)]
        return Situation(
            claims={claim.name: claim for claim in claims if claim},
            classes=self._observed.storage_classes,
            stateful_set=self._observed.stateful_sets.get((namespace, name)),
            pod=self._observed.pods.get((namespace, pod_name(name))),
            may_restart=may_restart(manifest),
            patience=self._patience,
        )


def _owners(pod: Manifest) -> list[Manifest]:
    return pod["metadata"].get("ownerReferences") or []
