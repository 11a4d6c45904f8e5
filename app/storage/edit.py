"""What an edit of a DittoServer does, and what a new one makes, told before it is applied."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.storage import quantity
from app.storage.config import config_yaml
from app.storage.difference import differs
from app.storage.facts import Claim
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, controller, live_claim_templates, render, services, stateful_set
from app.storage.pod import pod_name
from app.storage.reading import read
from app.storage.resize import restart_hold
from app.storage.secret_references import consumed_references, generated_references
from app.storage.spec import KIND, DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import RESTART_FOR_RESIZE, Phase, VolumeState, volume_states
from app.storage.volumes import doubt, is_bound, is_of_another_class, storage_class_of
from app.storage.volumes import volumes as volumes_of

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class FieldChange:
    """Of one field of the spec, or of a section that comes or goes; None is what is not there."""

    path: tuple[str, ...]
    was: Any
    now: Any


@dataclass(frozen=True)
class Effect:
    """`what` is a field, a volume or an object; `restarts` is None where there is nothing yet that could restart."""

    what: str
    how: str
    restarts: bool | None = None
    grows_in_use: bool = False


def creation(manifest: Mapping[str, Any], live_state: LiveState | None) -> list[Effect]:
    """What is made for a new server, whose claims may be there since an earlier life; nothing of them where unknown."""
    server = read(manifest).server
    objects = ", ".join(f"{each['kind']} {each['metadata']['name']}" for each in render(server))
    secrets = [each.secret or "" for each in generated_references(server.metadata.name, server.spec)]
    made = [Effect("objects", f"{objects} are made")]
    if secrets:
        how = "are generated, or reused where an earlier server left them"
        made.append(Effect("Secrets", f"{', '.join(secrets)} {how}"))
    if live_state is None:
        return made
    volumes = _by_field(server, live_state, added={volume.name for volume in volumes_of(server.spec.storage)})
    return [*made, *_left(server, live_state), *volumes.values()]


def edit(old: Mapping[str, Any], new: Mapping[str, Any], live_state: LiveState | None) -> list[Effect]:
    """From one manifest to another, each with its defaults. Without a situation a size is a field as any other."""
    before, after = read(old).server, read(new).server
    runs = before.spec.replicas > 0 and after.spec.replicas > 0
    effects = list(_drift(before, live_state)) if live_state else []
    had = {volume.name for volume in volumes_of(before.spec.storage) if volume.size}
    added = {volume.name for volume in volumes_of(after.spec.storage)} - had
    resized = _by_field(after, live_state, added) if live_state else {}
    for change in _changes(old["spec"], new["spec"]):
        alone = read(_with(old, change)).server
        effect = resized.get(".".join(("spec", *change.path))) or _field_effect(change, before, alone)
        effects.append(replace(effect, restarts=runs and _consumed(before) != _consumed(alone)))
    return effects


def held_back(new: Mapping[str, Any], effects: Iterable[Effect], live_state: LiveState) -> str | None:
    """Why the pod would not end for the edit; None when it would, or does not have to."""
    server = read(new).server
    ends = server.spec.replicas == 0 or any(effect.restarts for effect in effects)
    return restart_hold(server, live_state) if ends else None


def caveat(effects: Iterable[Effect], live_state: LiveState) -> str | None:
    """Nobody but its driver knows whether a volume can be expanded while it is in use, as nearly all can."""
    if not any(effect.grows_in_use for effect in effects):
        return None
    if live_state.may_restart:
        consequence = f'the pod restarts once; annotation {RESTART_FOR_RESIZE}: "never" forbids that'
    else:
        consequence = f'it waits for you to delete the pod: annotation {RESTART_FOR_RESIZE} is "never"'
    return f"if a driver cannot expand a volume in use, {consequence}"


def _by_field(server: DittoServer, live_state: LiveState, added: Collection[str]) -> dict[str, Effect]:
    """The volumes `added` are new to the server; claims of them that exist are those of an earlier one."""
    every = volume_states(server, live_state)
    return {
        state.volume.field: _reuse_effect(state, state.claim, server, live_state)
        if state.claim and state.volume.name in added
        else _volume_effect(state, server, live_state)
        for state in every
    }


def _left(server: DittoServer, live_state: LiveState) -> Iterator[Effect]:
    """Says what becomes of the StatefulSet and the pod that an earlier server of this name has left."""
    name, live, pod = server.metadata.name, live_state.stateful_set, live_state.pod
    if live and not _is_of_former(live, name):
        labels = live["metadata"].get("labels") or {}
        ours = controller(live) is None and labels.get("app.kubernetes.io/managed-by") == OPERATOR
        how = "exists without an owner and is adopted"
        if not ours:
            how = "exists and is not this server's; nothing is made until it is removed or renamed"
        yield Effect(f"StatefulSet {name}", how)
    if pod and controller(pod) is None and not is_terminating(pod):
        yield Effect(f"pod {pod_name(name)}", "exists without a StatefulSet and is adopted")


def _is_of_former(stateful_set: Mapping[str, Any], name: str) -> bool:
    """Whether it belongs to a DittoServer of this name that is gone: then it is about to be removed, too."""
    owner = controller(stateful_set) or {}
    return (owner.get("kind"), owner.get("name")) == (KIND, name)


def _reuse_effect(state: VolumeState, claim: Claim, server: DittoServer, live_state: LiveState) -> Effect:
    volume, wanted = state.volume, storage_class_of(server.spec.storage, None, live_state.classes)
    if claim.terminating:
        of = f"class {wanted}" if wanted else "without a class"
        how = f"claim {claim.name} is made anew once the one being deleted is gone, {of}"
        return Effect(volume.name, f"{volume.size}, {how}")

    contents = _contents(claim, wanted)
    if state.phase == Phase.LOST:
        return Effect(volume.name, f"{volume.size}, claim {claim.name} is reused, but has lost its volume: {contents}")
    if not is_bound(claim):
        return Effect(volume.name, f"{volume.size}, claim {claim.name} is reused, not bound yet: {contents}")

    reused = f"claim {claim.name} is reused with its data: {contents}"
    if state.request and state.phase is Phase.RESIZING:
        in_use = server.spec.replicas > 0
        how = f"{claim.capacity} to {volume.size}, {reused}, {_expansion(state, claim, live_state, in_use=in_use)}"
        return Effect(volume.name, how, grows_in_use=in_use)
    return Effect(volume.name, f"{volume.size}, {reused}")


def _contents(claim: Claim, wanted: str | None) -> str:
    """Says how large the claim is, of which class, and which class was wanted where that is another one."""
    of = f"of class {claim.storage_class}" if claim.storage_class else "without a class"
    other = f", not {wanted or 'without one'}" if is_of_another_class(claim, wanted) else ""
    return f"{claim.capacity or claim.requested or 'an unknown size'} {of}{other}"


def _volume_effect(state: VolumeState, server: DittoServer, live_state: LiveState) -> Effect:
    volume, claim = state.volume, state.claim
    name = f"claim {state.claim_name}"
    if claim is None:
        of = state.storage_class
        return Effect(volume.name, f"{volume.size}, {name} is made, {f'class {of}' if of else 'without a class'}")
    if state.phase in (Phase.PENDING, Phase.LOST):
        return Effect(volume.name, f"{volume.size}, {name} is {state.phase} and asks for {claim.requested}")
    if state.request and state.phase is Phase.RESIZING and not _shrinks(state):
        in_use = server.spec.replicas > 0
        how = _expansion(state, claim, live_state, in_use=in_use)
        return Effect(volume.name, f"{claim.capacity} to {volume.size}, {name}, {how}", grows_in_use=in_use)
    if state.request and state.phase is Phase.RESIZING:
        return Effect(volume.name, f"{claim.capacity} to {volume.size}, {name} no longer asks for {claim.requested}")
    if state.request:
        return Effect(volume.name, f"{volume.size}, {name} has that, and no longer asks for {claim.requested}")
    return Effect(volume.name, state.message or f"{volume.size}, {name} has {claim.capacity} already")


def _shrinks(state: VolumeState) -> bool:
    asked = state.claim and state.claim.requested
    return bool(asked and state.request) and quantity.parse(state.request or "0") < quantity.parse(asked or "0")


def _expansion(state: VolumeState, claim: Claim, live_state: LiveState, *, in_use: bool) -> str:
    if doubt(state.volume, claim, live_state.classes):
        return f"whether class {claim.storage_class} can expand is unknown"
    return f"class {claim.storage_class} expands {'online' if in_use else 'it when a pod uses it'}"


def _field_effect(change: FieldChange, before: DittoServer, alone: DittoServer) -> Effect:
    hows = [f"{_shown(change.was)} to {_shown(change.now)}", *_of_services(before, alone)]
    if change.path == ("replicas",):
        hows.append("starts the pod" if change.now else "stops the pod, whose volumes are kept")
    return Effect(".".join(change.path), ", ".join(hows))


def _of_services(before: DittoServer, after: DittoServer) -> Iterator[str]:
    old, new = ({each["metadata"]["name"]: each for each in services(_owner(of), of.spec)} for of in (before, after))
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            verb = "removes" if name not in new else "changes" if name in old else "makes"
            yield f"{verb} Service {name}"


def _consumed(server: DittoServer) -> Any:
    """All that a pod is restarted for, but for what its Secrets hold."""
    spec = server.spec
    template = stateful_set(_owner(server), spec, None)["spec"]["template"]
    return template, config_yaml(spec), consumed_references(server.metadata.name, spec)


def _drift(server: DittoServer, live_state: LiveState) -> Iterator[Effect]:
    """What the operator would do without any edit, such as after an upgrade of it."""
    live = live_state.stateful_set
    if live is None:
        return
    wanted = stateful_set(_owner(server), server.spec, None, live_claim_templates(live))
    if differs({"spec": {"template": wanted["spec"]["template"]}}, live):
        how = "is not yet what this version makes of the spec as it is"
        yield Effect(f"StatefulSet {server.metadata.name}", how, restarts=server.spec.replicas > 0)


def _owner(server: DittoServer) -> Owner:
    return Owner(server.metadata.name, server.metadata.namespace)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[FieldChange]:
    """Field by field, but a section that comes or goes as a whole: its fields may make no sense one by one."""
    for name in {**old, **new}:
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _changes(was, now, (*at, name))
        elif was != now:
            yield FieldChange((*at, name), was, now)


def _with(manifest: Mapping[str, Any], change: FieldChange) -> Manifest:
    return {**manifest, "spec": _placed(manifest["spec"], change.path, change.now)}


def _placed(section: Mapping[str, Any], path: Sequence[str], value: Any) -> Manifest:
    head, *rest = path
    return {**section, head: _placed(section.get(head) or {}, rest, value) if rest else value}


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
