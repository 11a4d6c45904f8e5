"""Says what an edit of a DittoServer or a new one would do, for the `plan` command. It applies nothing."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.storage import quantity
from app.storage.claim_metadata import template_metadata
from app.storage.desired import Plan, desired
from app.storage.difference import differs
from app.storage.facts import Claim
from app.storage.field_changes import FieldChange, field_changes, format_value, with_field
from app.storage.images import is_same_image
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, controller, stateful_set
from app.storage.pause import PAUSED_ANNOTATION, is_paused, is_paused_after
from app.storage.pod import RESTARTED_AT, PodRevision, pod_name, server_container
from app.storage.provisioning import Hashes
from app.storage.reading import read
from app.storage.remote_store import RemoteStore
from app.storage.rendering import NEWEST, Baseline
from app.storage.resize import restart_hold
from app.storage.secret_references import consumed_references, generated_references
from app.storage.spec import KIND, DittoServer
from app.storage.status_schema import ServerStatus
from app.storage.stored_form import stored_template
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import RESTART_FOR_RESIZE, Phase, VolumeState, volume_states
from app.storage.volumes import is_bound, is_of_another_class, storage_class_of, unknown_resizability
from app.storage.volumes import volumes as volumes_of
from app.storage.workload import has_writable_root, live_template, restarted_at

Objects = Mapping[tuple[str, str], Manifest]


_CLAIM = "volume claim"


@dataclass(frozen=True)
class Effect:
    """`what` is a field, a volume or an object; `restarts` is None where nothing runs yet that could restart."""

    what: str
    how: str
    restarts: bool | None = None
    grows_in_use: bool = False


def creation(manifest: Mapping[str, Any], live: LiveState | None, now: datetime) -> list[Effect]:
    """Returns the effects of a new server. Claims of an earlier server count; without a LiveState none is mentioned."""
    server = read(manifest).server
    objects = ", ".join(f"{kind} {name}" for kind, name in _objects(server, live, now))
    effects = [Effect("objects", f"{objects} are created")]

    secrets = [reference.secret or "" for reference in generated_references(server.metadata.name, server.spec)]
    if secrets:
        how = "are generated, or reused where an earlier server left them"
        effects.append(Effect("Secrets", f"{', '.join(secrets)} {how}"))

    if live:
        added = {volume.name for volume in volumes_of(server.spec.storage)}
        effects += [*_adoption_effects(server, live), *_volume_effects(server, live, added).values()]
    return _after_resumption(effects) if is_paused(manifest) else effects


def edit(old: Mapping[str, Any], new: Mapping[str, Any], live: LiveState | None, now: datetime) -> list[Effect]:
    """Returns the effects of an edit, field by field: the difference of the Plans before and after each change.

    Both manifests have their defaults. Without a LiveState a size is a field like any other.
    """
    before, after = read(old).server, read(new).server
    had = {volume.name for volume in volumes_of(before.spec.storage) if volume.size}
    added = {volume.name for volume in volumes_of(after.spec.storage)} - had

    effects = []
    runs = before.spec.replicas > 0 and after.spec.replicas > 0
    plan = _plan(before, now, live) if live else Plan()
    workload = next((write.manifest for write in plan.apply if write.kind == "StatefulSet"), None)
    template = {"spec": {"template": workload["spec"]["template"]}} if workload else {}
    if live and live.stateful_set and differs(template, live.stateful_set):
        # The operator replaces without any edit what somebody else changed.
        how = "differs from what this version of the operator renders for the unchanged spec"
        effects.append(Effect(f"StatefulSet {before.metadata.name}", how, restarts=before.spec.replicas > 0))

    asked, asked_before = restarted_at(new), restarted_at(old)
    done = restarted_at(live.stateful_set["spec"]["template"]) if live and live.stateful_set else None
    if asked and asked not in (asked_before, done):
        how = f"{format_value(asked_before)} to {format_value(asked)}"
        effects.append(Effect(f"annotation {RESTARTED_AT}", how, restarts=runs))

    resized = _volume_effects(after, live, added) if live else {}
    old_objects, old_template = (
        {**_objects(before, live, now), **_claims(before)},
        _template(before, live, plan.baseline),
    )
    for change in field_changes(old["spec"], new["spec"]):
        alone = read({**old, "spec": with_field(old["spec"], change.path, change.after)}).server
        new_objects = {**_objects(alone, live, now), **_claims(alone)}
        effect = resized.get(".".join(("spec", *change.path))) or _field_effect(change, old_objects, new_objects)
        if change.path == ("image",) and not is_same_image(after.spec.image, ServerStatus.read(old)):
            effect = replace(effect, how=f"{effect.how}, which may migrate the database irreversibly")

        restarts = _template(alone, live, plan.baseline) != old_template
        if change.path == ("imagePullPolicy",) and change.after and live and live.stateful_set:
            # The API server has chosen one by the tag of an image, and keeps it when another image has another tag.
            container = server_container(live.stateful_set["spec"]["template"])
            restarts = container.get("imagePullPolicy", change.before) != change.after
        store = RemoteStore.read(old).name
        if change.path == ("s3", "bucket") and store and change.before and change.after:
            # No template has the bucket, but the shares of the server use the former one until it restarts.
            effect, restarts = replace(effect, how=f"{effect.how}, also in block store {store} of the server"), True
        effects.append(replace(effect, restarts=runs and restarts))

    if live and (changes := plan.baseline.pending_changes(live.defaults)):
        restarts = any(effect.restarts for effect in effects)
        when = "goes out with this restart" if restarts else "waits for the next rollout"
        effects.append(Effect("pending rollout", f"{when}: {changes}", restarts=restarts))
    return _after_resumption(effects) if is_paused_after(old, new) else effects


def held_back(new: Mapping[str, Any], effects: Iterable[Effect], live: LiveState) -> str | None:
    """Returns why the pod would not end for the edit; None when it would, or does not have to."""
    server = read(new).server
    ends = server.spec.replicas == 0 or any(effect.restarts for effect in effects)
    return restart_hold(server, live) if ends else None


def caveat(effects: Iterable[Effect], live: LiveState) -> str | None:
    """Returns what happens if a volume cannot be expanded in use, which nobody but its driver knows."""
    if not any(effect.grows_in_use for effect in effects):
        return None
    if live.may_restart:
        consequence = f'the pod restarts once; annotation {RESTART_FOR_RESIZE}: "never" forbids that'
    else:
        consequence = f'it waits for you to delete the pod: annotation {RESTART_FOR_RESIZE} is "never"'
    return f"if a driver cannot expand a volume in use, {consequence}"


def _after_resumption(effects: Sequence[Effect]) -> list[Effect]:
    """Returns what an edit of a paused server does: nothing yet."""
    if not effects:
        return []

    how = 'is "true": nothing of this happens before it is removed'
    if any(effect.restarts for effect in effects):
        how = f"{how}, and then the pod restarts"
    postponed = (replace(effect, restarts=effect.restarts and False, grows_in_use=False) for effect in effects)
    return [Effect(f"annotation {PAUSED_ANNOTATION}", how), *postponed]


def _adoption_effects(server: DittoServer, live: LiveState) -> Iterator[Effect]:
    """Yields what becomes of a StatefulSet and a pod that are there already."""
    name, stateful_set, pod = server.metadata.name, live.stateful_set, live.pod

    # One that belongs to a previous DittoServer of this name is about to be garbage collected.
    owner = controller(stateful_set) if stateful_set else None
    is_leftover = owner is not None and (owner.get("kind"), owner.get("name")) == (KIND, name)
    if stateful_set and not is_leftover:
        labels = stateful_set["metadata"].get("labels") or {}
        if owner is None and labels.get("app.kubernetes.io/managed-by") == OPERATOR:
            how = "exists without an owner and is adopted"
        else:
            how = "exists and is not this server's; nothing is created until it is removed or renamed"
        yield Effect(f"StatefulSet {name}", how)

    if pod and controller(pod) is None and not is_terminating(pod):
        yield Effect(f"pod {pod_name(name)}", "exists without a StatefulSet and is adopted")


def _volume_effects(server: DittoServer, live: LiveState, added: Collection[str]) -> dict[str, Effect]:
    """Returns the effects by field; the claim of an added volume that exists is that of an earlier server."""
    effects = {}
    for state in volume_states(server, live):
        if state.claim and state.volume.name in added:
            effect = _reuse_effect(state, state.claim, server, live)
        else:
            effect = _resize_effect(state, server, live)
        effects[state.volume.field] = effect
    return effects


def _reuse_effect(state: VolumeState, claim: Claim, server: DittoServer, live: LiveState) -> Effect:
    volume, wanted = state.volume, storage_class_of(state.volume, None, live.classes)
    if claim.terminating:
        how = f"claim {claim.name} is recreated once the one being deleted is gone, {_class_text(wanted)}"
        return Effect(volume.name, f"{volume.size}, {how}")

    of = f"of class {claim.storage_class}" if claim.storage_class else "without a class"
    other = f", not {wanted or 'without one'}" if is_of_another_class(claim, wanted) else ""
    contents = f"{claim.capacity or claim.requested or 'an unknown size'} {of}{other}"
    if state.phase == Phase.LOST:
        return Effect(volume.name, f"{volume.size}, claim {claim.name} is reused, but has lost its volume: {contents}")
    if not is_bound(claim):
        return Effect(volume.name, f"{volume.size}, claim {claim.name} is reused, not bound yet: {contents}")

    reused = f"claim {claim.name} is reused with its data: {contents}"
    if state.request and state.phase is Phase.RESIZING:
        return _expansion_effect(state, f"{reused},", server, live)
    return Effect(volume.name, f"{volume.size}, {reused}")


def _resize_effect(state: VolumeState, server: DittoServer, live: LiveState) -> Effect:
    volume, claim, name = state.volume, state.claim, f"claim {state.claim_name}"
    if claim is None:
        source = state.data_source
        restored = f", restored from {source.kind} {source.name}" if source else ""
        return Effect(volume.name, f"{volume.size}, {name} is created, {_class_text(state.storage_class)}{restored}")
    if state.phase in (Phase.PENDING, Phase.LOST):
        return Effect(volume.name, f"{volume.size}, {name} is {state.phase} and asks for {claim.requested}")
    if not state.request:
        return Effect(volume.name, state.message or f"{volume.size}, {name} has {claim.capacity} already")

    if state.phase is not Phase.RESIZING:
        return Effect(volume.name, f"{volume.size}, {name} has that, and no longer asks for {claim.requested}")
    if claim.requested and quantity.parse(state.request) < quantity.parse(claim.requested):
        return Effect(volume.name, f"{claim.capacity} to {volume.size}, {name} no longer asks for {claim.requested}")
    return _expansion_effect(state, f"{name},", server, live)


def _expansion_effect(state: VolumeState, claim: str, server: DittoServer, live: LiveState) -> Effect:
    in_use = server.spec.replicas > 0
    how = f"class {state.storage_class} expands {'online' if in_use else 'it when a pod uses it'}"
    if state.claim and unknown_resizability(state.volume, state.claim, live.classes):
        how = f"whether class {state.storage_class} can expand is unknown"
    return Effect(state.volume.name, f"{state.capacity} to {state.volume.size}, {claim} {how}", grows_in_use=in_use)


def _class_text(storage_class: str | None) -> str:
    return f"class {storage_class}" if storage_class else "without a class"


def _field_effect(change: FieldChange, old: Objects, new: Objects) -> Effect:
    """Describes a change by the values of the field and the Services that follow from it."""
    parts = [f"{format_value(change.before)} to {format_value(change.after)}"]

    for kind, name in {**old, **new}:
        if kind in ("Service", _CLAIM) and old.get((kind, name)) != new.get((kind, name)):
            verb = "removes" if (kind, name) not in new else "changes" if (kind, name) in old else "creates"
            parts.append(f"{verb} {kind} {name}")

    if change.path == ("replicas",):
        parts.append("starts the pod" if change.after else "stops the pod, whose volumes are kept")
    return Effect(change.field, ", ".join(parts))


def _objects(server: DittoServer, live: LiveState | None, now: datetime) -> Objects:
    """Returns what is applied for a new server with the Services that there are, by kind and name."""
    present = LiveState(services=live.services) if live else None
    plan = _plan(server, now, present)
    return {(write.kind, write.manifest["metadata"]["name"]): write.manifest for write in plan.apply}


def _claims(server: DittoServer) -> Objects:
    """Returns the labels and annotations that claims are to have, by kind and name."""
    volumes = [volume for volume in volumes_of(server.spec.storage) if volume.size]
    return {(_CLAIM, volume.claim_name(server.metadata.name)): template_metadata(volume.settings) for volume in volumes}


def _plan(server: DittoServer, now: datetime, live: LiveState | None = None) -> Plan:
    # A restart that is held back is reported elsewhere.
    return desired(server, replace(live or LiveState(), may_lose_data=True), now)


def _template(server: DittoServer, live: LiveState | None, baseline: Baseline) -> str:
    """Returns the pod template, by which to tell whether an edit restarts the pod, as JSON: 1 is not True there."""
    # Which Secrets the pod reads matters, not what they hold: their names stand for digests of their values.
    references = [reference for reference in consumed_references(server.metadata.name, server.spec) if reference.secret]
    digests: dict[str, dict[str, str]] = {}
    for reference in references:
        keys = {key.name: f"{reference.secret}/{key.name}" for key in reference.keys}
        digests.setdefault(reference.secret or "", {}).update(keys)
    owner = Owner(server.metadata.name, server.metadata.namespace)
    present = live_template(owner, live) if live else None

    has_root = present is not None and has_writable_root(present, ())
    digest = Hashes.of(server, digests, NEWEST).full
    revision = PodRevision(config_hash=digest, has_writable_root=has_root, defaults=baseline.defaults)
    return json.dumps(stored_template(stateful_set(owner, server.spec, revision)["spec"]["template"]), sort_keys=True)
