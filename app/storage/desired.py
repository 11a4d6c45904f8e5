"""Decides what to do about a DittoServer, from its spec and from what the cluster has of it.

This is the heart of the reconcile side. It does no I/O and takes the time as an argument: the reconciler reads, asks
`desired`, applies the Plan and reports. The `plan` command shows the difference of two Plans.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.storage import postgres
from app.storage.claim_metadata import metadata_patch
from app.storage.claims import claim_seconds_left
from app.storage.diagnosis import ends_at, node_in_question
from app.storage.events import Event
from app.storage.evidence import CLAIM
from app.storage.facts import Unknown
from app.storage.live import LiveState
from app.storage.maintenance import Provisioning
from app.storage.object_defaults import with_defaults, workload_with_defaults
from app.storage.objects import (
    Owner,
    claim_templates,
    config_map,
    controller,
    postgres_secret,
    service_name,
    stateful_set,
)
from app.storage.pause import paused_problem
from app.storage.pod import PodRevision
from app.storage.problem import UNREADABLE, Problem, Stage
from app.storage.provisioning import Contents, Hashes, awaits_push, contents, credentials_problem, provisioning
from app.storage.remote_store import RemoteStore
from app.storage.rendering import NO_DEFAULTS, Baseline, ObjectDefaults
from app.storage.resize import (
    ALLOW_DATA_LOSS,
    CLAIM_CREATION_TIME,
    ChangeClaims,
    HoldPod,
    RestartPod,
    Step,
    next_step,
    restart_due,
    restart_hold,
)
from app.storage.restart_cause import Restart, RestartCause
from app.storage.rollout import blocks
from app.storage.secret_references import (
    PASSWORD_PATH,
    POSTGRES_PATH,
    SecretReference,
    consumed_references,
    generated_references,
    why_not_usable,
)
from app.storage.services import services
from app.storage.spec import DittoServer, Spec
from app.storage.takeover import former_admin_secret_name, is_of_server, without_owner
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import Phase, volume_states
from app.storage.volumes import volumes
from app.storage.workload import decide_workload, is_changed, orphan_hash

# Earlier versions saved the StatefulSet that they were about to recreate in this annotation of the ConfigMap. Whoever
# may change ConfigMaps could have any pod created that way.
SAVED_STATE = "dittofs.io/stateful-set"

RESTART_HELD_BACK = "RestartHeldBack"

# Making a StorageClass expandable wakes only the servers that name it; a claim may be of another class.
REFUSED_RECHECK_SECONDS = 60.0
# Nodes are not watched: a node in question is looked up again.
NODE_RECHECK_SECONDS = 60.0
# Nothing is known of claims that may not be listed, not even when that has changed.
UNKNOWN_CLAIMS_RECHECK_SECONDS = 30.0


@dataclass(frozen=True)
class Write:
    """One object to write, and what to announce when that has worked: an Event, or a restart of the pod."""

    kind: str
    manifest: Manifest
    event: Event | None = None
    restart: Restart | None = None


@dataclass(frozen=True)
class Plan:
    """Says what to do about a server, in this order. What is not in it is left as it is.

    `resize` is the next step of a volume expansion. `annotate` replaces all annotations of live objects, `disown` all
    owners, `label` all labels. `generate` names the Secrets to create with random values, except for a password that
    the server's database knows already: `password_from` names the Secret that has it. The objects in `apply` come in
    the order of their dependencies: a StatefulSet is applied only if what its pod reads could be. `delete` has live
    objects, and `claims` has merge patches of the labels and annotations of live claims.

    `problems` say why the pod must not start with its Secrets as they are, why it must not be restarted, or which
    sections of the spec the API server does not accept for it, or why the server does not have its S3 keys. `baseline`
    is that of the pod; what newer ones change is pending.

    `held_back` says that the spec asks for another pod, which has to wait.

    `provisioning` is what the server should have inside, None while it cannot be asked; `contents` is for the status.
    """

    resize: Step | None = None
    annotate: tuple[Write, ...] = ()
    disown: tuple[Write, ...] = ()
    label: tuple[Write, ...] = ()
    generate: tuple[SecretReference, ...] = ()
    password_from: str | None = None
    apply: tuple[Write, ...] = ()
    delete: tuple[Write, ...] = ()
    claims: tuple[Write, ...] = ()
    problems: tuple[Problem, ...] = ()
    held_back: Event | None = None
    baseline: Baseline = field(default_factory=Baseline)
    provisioning: Provisioning | None = None
    contents: Contents = field(default_factory=Contents)


def desired(server: DittoServer, live: LiveState, now: datetime) -> Plan:
    """Decides what to do next about the server; an empty LiveState stands for one that does not exist yet.

    For a paused server nothing is to do. The rest of its Plan is for the status.
    """
    owner, spec = Owner(server.metadata.name, server.metadata.namespace, live.uid), server.spec
    is_foreign = live.stateful_set is not None and not owner.owns(live.stateful_set)
    step = None if is_foreign else next_step(server, owner, live, now)

    generate, credentials = _missing_secrets(owner, spec, live)
    credentials = credentials or _credentials_problem(owner, spec, live)
    parts: Manifest | None = None
    if not credentials:
        parts, credentials = _postgres_parts(owner, spec, live)

    decision = decide_workload(server, owner, live, step, credentials)
    workload = workload_with_defaults(decision.manifest, live.defaults) if decision.manifest else None
    rejected, rendering = decision.rejected, decision.baseline.rendering

    hashes = None if credentials or live.secrets is None else Hashes.of(server, live.digests, rendering)
    if hashes and live.stateful_set and awaits_push(server, live, hashes):
        workload = None
    inside = contents(server, live, hashes)

    stuck = None if is_foreign else _stuck_pod(live, step, workload)
    if not (stuck or is_foreign or credentials):
        stuck = _outdated_pod(live, step, workload, inside.remote_store)

    held = None
    if hold := restart_hold(server, live):
        if stuck or isinstance(step, RestartPod) or (workload and is_changed(workload, live.stateful_set)):
            message = f'{hold}; annotation {ALLOW_DATA_LOSS}: "true" lets the pod restart anyway'
            held = Problem(RESTART_HELD_BACK, message, Stage.VOLUMES, stalls=True)
        workload = stuck = rejected = None
        step = None if isinstance(step, RestartPod) else step

    held_back = None
    if decision.is_held_back and credentials:
        message = f"the pod of StatefulSet {owner.name} stays as it is until its Secrets are in order"
        held_back = Event("Warning", "ChangeHeldBack", f"{message}: {credentials.message}")

    adding = None
    if isinstance(step, HoldPod) and step.adds_volumes:
        message = f"StatefulSet {owner.name} is recreated with more volumes, and its pod restarts once"
        adding = Problem("AddingVolumes", message, Stage.VOLUMES)

    rejected_keys = credentials_problem(server, live)
    if live.is_paused:
        # A Secret that would be generated is not one that somebody has to create.
        awaited = paused_problem(owner.name, owner.namespace, Stage.CREDENTIALS) if generate else None
        problem = awaited or credentials or rejected_keys
        return Plan(problems=(problem,) if problem else (), baseline=decision.baseline, contents=inside)

    objects = [
        Write("ConfigMap", with_defaults(config_map(owner, spec, rendering), live.defaults)),
        Write("Secret", with_defaults(parts, live.defaults)) if parts else None,
        Write("StatefulSet", workload, restart=decision.restart) if workload else None,
        *(Write("Service", with_defaults(service, live.defaults)) for service in services(owner, spec, live.services)),
    ]
    return Plan(
        resize=step,
        annotate=tuple(_ignore_saved_state(owner, live)),
        disown=tuple(disowned_secrets(owner, live)),
        label=tuple(_labelled_secrets(owner, live)),
        generate=generate,
        password_from=_known_password(owner, live),
        apply=tuple(write for write in objects if write),
        delete=(*([stuck] if stuck else []), *_unwanted(owner, spec, live)),
        claims=() if is_foreign else tuple(_claim_patches(owner, spec, live)),
        problems=tuple(problem for problem in (credentials or rejected_keys, held, rejected, adding) if problem),
        held_back=held_back,
        baseline=decision.baseline,
        provisioning=None if is_foreign else provisioning(server, live, hashes),
        contents=inside,
    )


def render(server: DittoServer, defaults: ObjectDefaults = NO_DEFAULTS) -> list[Manifest]:
    """Renders everything that is created for a server except Secrets, without a cluster."""
    has_namespace = "namespace" in server.metadata.model_fields_set
    owner = Owner(server.metadata.name, server.metadata.namespace if has_namespace else "")
    templates = [with_defaults(template, defaults) for template in claim_templates(server.spec)]
    workload = stateful_set(owner, server.spec, PodRevision(defaults=defaults), templates)
    objects = [config_map(owner, server.spec), *services(owner, server.spec), workload]
    return [with_defaults(manifest, defaults) for manifest in objects]


def recheck_seconds(server: DittoServer, live: LiveState, now: datetime) -> float | None:
    """Returns the seconds until the server has to be looked at again although no event says so; None for never."""
    # Only time tells that a claim waits for too long, or a file system for a restart of its pod.
    pending = [claim for claim in live.claims.values() if claim.phase == Phase.PENDING]
    delays = [seconds + 1 for claim in pending if (seconds := claim_seconds_left(claim, now)) > 0]

    states = volume_states(server, live)
    due = restart_due(states, live)
    if due and not restart_hold(server, live):
        delays.append(max((due - now).total_seconds(), 0.0) + 1)

    if live.claims_gap and live.stateful_set is None:
        delays.append(UNKNOWN_CLAIMS_RECHECK_SECONDS)
    if any(state.phase == Phase.RESIZE_REFUSED for state in states):
        delays.append(REFUSED_RECHECK_SECONDS)
    if live.is_new and live.stateful_set and any(state.claim is None for state in states):
        delays.append((new_until(live.stateful_set) - now).total_seconds() + 1)

    if end := ends_at(live.pod):
        seconds_left = (end - now).total_seconds()
        delays.append(seconds_left + 1 if seconds_left > 0 else NODE_RECHECK_SECONDS)
    elif node_in_question(live.pod, now):
        delays.append(NODE_RECHECK_SECONDS)
    return min(delays, default=None)


def new_until(stateful_set: Mapping[str, Any]) -> datetime:
    """Returns when the StatefulSet's controller has had the time to create its claims."""
    return datetime.fromisoformat(stateful_set["metadata"]["creationTimestamp"]) + CLAIM_CREATION_TIME


def disowned_secrets(owner: Owner, live: LiveState) -> Iterator[Write]:
    """Yields generated Secrets that would be deleted with the server, while the database on its claims is kept."""
    for secret in live.generated_secrets.values():
        disowned = None if is_terminating(secret) else without_owner(secret, owner)
        if disowned:
            name = disowned["metadata"]["name"]
            message = f"Secret {name} is kept when the server is deleted: the database on its volume claims needs it"
            yield Write("Secret", disowned, Event("Normal", "SecretKept", message))


def _labelled_secrets(owner: Owner, live: LiveState) -> Iterator[Write]:
    """Yields generated Secrets that lack a label which the settings give to all objects."""
    for secret in live.generated_secrets.values():
        labels = secret["metadata"].get("labels") or {}
        desired_labels = {**live.defaults.labels, **owner.labels}
        is_generated = labels.items() >= owner.labels.items()
        if is_generated and not labels.items() >= desired_labels.items() and not is_terminating(secret):
            metadata = {**secret["metadata"], "labels": {**labels, **desired_labels}}
            yield Write("Secret", {**secret, "metadata": metadata})


def _missing_secrets(owner: Owner, spec: Spec, live: LiveState) -> tuple[tuple[SecretReference, ...], Problem | None]:
    """Returns the Secrets to generate, and why one that is lost is not generated again: a pod may still need it."""
    references = generated_references(owner.name, spec)
    missing = [reference for reference in references if (live.secrets or {}).get(reference.secret or "", ...) is None]
    pod = live.stateful_set["spec"]["template"]["spec"] if live.stateful_set else {}
    variables = [variable for container in pod.get("containers", ()) for variable in container.get("env") or ()]
    sources = [(variable.get("valueFrom") or {}).get("secretKeyRef") or {} for variable in variables]

    for reference in missing:
        if reference.path == PASSWORD_PATH and _known_password(owner, live):
            continue
        if reference.secret in {source.get("name") for source in sources} or orphan_hash(live):
            advice = "put it back, or delete the StatefulSet to have a new one made"
            message = f"generated Secret {reference.secret} is gone: {advice}"
            return (), Problem("SecretNotFound", message, Stage.CREDENTIALS)
    return tuple(missing), None


def _known_password(owner: Owner, live: LiveState) -> str | None:
    """Returns the Secret whose password the Go operator gave the server, under the name that the Secret had before."""
    secret = live.former_admin_secret
    is_usable = secret is not None and is_of_server(secret, owner) and not is_terminating(secret)
    return former_admin_secret_name(owner.name) if is_usable else None


def _credentials_problem(owner: Owner, spec: Spec, live: LiveState) -> Problem | None:
    """Returns why the pod must not start with the Secrets that it reads as they are; half of a rotation, for one."""
    if live.secrets is None:
        return None

    for reference in consumed_references(owner.name, spec):
        secret = live.secrets.get(reference.secret) if reference.secret else None
        finding = why_not_usable(reference, secret)
        if finding is None:
            continue
        if secret is None:
            return Problem("SecretNotFound", finding.message, Stage.CREDENTIALS)
        if isinstance(secret, Unknown):
            return Problem(UNREADABLE, finding.message, Stage.CREDENTIALS)
        reason = "SecretTerminating" if secret.terminating else "SecretIncomplete"
        return Problem(reason, finding.message, Stage.CREDENTIALS)
    return None


def _postgres_parts(owner: Owner, spec: Spec, live: LiveState) -> tuple[Manifest | None, Problem | None]:
    """Returns the Secret with the parts of the connection string, where they have to be compared with it."""
    reference = postgres_reference(owner.name, spec)
    if reference is None or live.postgres_source is None:
        return None, None

    [key] = reference.keys
    encoded = (live.postgres_source.get("data") or {}).get(key.name, "")
    try:
        dsn = postgres.parse_dsn(base64.b64decode(encoded).decode(errors="replace"))
    except ValueError as error:
        where = f'Postgres Secret "{reference.secret}" key "{key.name}"'
        return None, Problem("SecretIncomplete", f"{where}: {error}", Stage.CREDENTIALS)
    return postgres_secret(owner, dsn), None


def postgres_reference(name: str, spec: Spec) -> SecretReference | None:
    """Returns the reference to the Secret with the connection string; None when the spec names none."""
    references = consumed_references(name, spec)
    return next((reference for reference in references if reference.path == POSTGRES_PATH and reference.secret), None)


def _stuck_pod(live: LiveState, step: Step | None, workload: Manifest | None) -> Write | None:
    """Returns the deletion of a pod of an earlier revision that cannot get ready and blocks the current one."""
    # While the pod or the StatefulSet is about to change, nobody can say whether the pod is in the way.
    is_changing = step is not None and not isinstance(step, ChangeClaims)
    if is_changing or live.pod is None or live.stateful_set is None or not blocks(live.pod, live.stateful_set):
        return None
    if workload and is_changed(workload, live.stateful_set):
        return None
    name = live.pod["metadata"]["name"]
    message = f"pod {name} was not ready before the last change; it was deleted to make way for the next one"
    return Write("Pod", live.pod, Event("Normal", "PodReplaced", message))


def _outdated_pod(live: LiveState, step: Step | None, workload: Manifest | None, store: RemoteStore) -> Write | None:
    """Returns the deletion of a pod that serves from a store as it was before, which nothing else would restart."""
    if live.pod is None or live.stateful_set is None or live.pod["metadata"].get("uid") != store.restart_for:
        return None
    if is_terminating(live.pod) or (controller(live.pod) or {}).get("uid") != live.stateful_set["metadata"]["uid"]:
        return None

    is_changing = step is not None and not isinstance(step, ChangeClaims)
    if is_changing or (workload and is_changed(workload, live.stateful_set)):
        return None

    why = "its server has new S3 credentials or another bucket, which it only uses after a restart"
    return Write("Pod", live.pod, restart=Restart(RestartCause.CREDENTIALS, why))


def _claim_patches(owner: Owner, spec: Spec, live: LiveState) -> Iterator[Write]:
    """Yields what claims lack of the labels and annotations of the spec, and what they have of an earlier spec."""
    for volume in volumes(spec.storage):
        claim = live.claims.get(volume.claim_name(owner.name)) if volume.size else None
        patch = metadata_patch(volume.settings, claim) if claim and not claim.terminating else None
        if claim and patch:
            yield Write(CLAIM, {"metadata": {"name": claim.name, "namespace": owner.namespace, **patch}})


def _ignore_saved_state(owner: Owner, live: LiveState) -> Iterator[Write]:
    metadata = live.config_map["metadata"] if live.config_map else {}
    annotations = dict(metadata.get("annotations") or {})
    if live.config_map is None or SAVED_STATE not in annotations or not _may_change(live.config_map, owner):
        return

    del annotations[SAVED_STATE]
    message = (
        f"annotation {SAVED_STATE} of ConfigMap {metadata['name']} was ignored and removed: "
        "the operator no longer saves StatefulSets there, and never restores one from there"
    )
    event = Event("Warning", "SavedStateIgnored", message)
    yield Write("ConfigMap", {**live.config_map, "metadata": {**metadata, "annotations": annotations}}, event)


def _unwanted(owner: Owner, spec: Spec, live: LiveState) -> Iterator[Write]:
    """Yields what an earlier spec asked for: the metrics Service, and the parts of a connection string."""
    metrics = live.services.get(service_name(owner.name, "metrics"))
    if metrics and not spec.metrics.enabled and _may_change(metrics, owner):
        yield Write("Service", metrics)

    if not spec.database.postgres_secret_ref and live.postgres_secret and _may_change(live.postgres_secret, owner):
        yield Write("Secret", live.postgres_secret)


def _may_change(manifest: Manifest, owner: Owner) -> bool:
    return owner.owns(manifest) and not is_terminating(manifest)
