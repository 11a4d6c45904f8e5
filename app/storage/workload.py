"""Decides on the StatefulSet of a server, and on the rendering of what its pod reads.

A restart is an outage. A pod therefore keeps the rendering that it has, and the labels, annotations and pull secrets
that the operator's settings gave it, until it restarts for another reason; then everything that is pending goes out at
once. No record is kept of that: it follows from the live pod template.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from app.storage.config import config_yaml
from app.storage.database import database_template, mounted_database
from app.storage.difference import APPLIED, differs, marked
from app.storage.live import LiveState
from app.storage.live_sections import with_live_sections
from app.storage.object_defaults import APPLIED_WITHOUT_DEFAULTS, pod_defaults
from app.storage.objects import Owner, controller, live_claim_templates, stateful_set
from app.storage.pod import (
    CONFIG_FILE,
    CONFIG_FOLDER,
    READ_ONLY_ROOT,
    RESTARTED_AT,
    TEMPORARY_FOLDER,
    PodRevision,
    pod_config_hash,
    server_container,
)
from app.storage.problem import Problem
from app.storage.provisioning import Hashes, template_hash
from app.storage.reading import field_name
from app.storage.rendering import NEWEST, Baseline, ObjectDefaults, Rendering
from app.storage.resize import HoldPod, RemoveStatefulSet, Step, initial_templates, missing_volume
from app.storage.restart_cause import Restart, RestartCause
from app.storage.rollout import rolls_out
from app.storage.sections import rejected_sections
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volumes import CONTROL_PLANE, SECOND_METADATA_PATH

SECTION_REJECTED = "SectionRejected"

MAX_RESTARTED_AT_CHARACTERS = 64


@dataclass(frozen=True)
class Workload:
    """The StatefulSet to apply, None to leave it as it is, and why that restarts the pod.

    `manifest` has the defaults of its pod, and none of its own. `baseline` is that of the pod, and so of the ConfigMap
    that it reads. `rejected` says why a section of the pod stays as it is live, and `is_held_back` that the whole pod
    does although the spec asks for another one.
    """

    baseline: Baseline
    manifest: Manifest | None = None
    restart: Restart | None = None
    rejected: Problem | None = None
    is_held_back: bool = False


def decide_workload(
    server: DittoServer, owner: Owner, live: LiveState, step: Step | None, credentials: Problem | None
) -> Workload:
    """Decides on the StatefulSet; `credentials` is why the pod must not start with its Secrets as they are."""
    candidates = _Candidates(server, owner, live, is_hash_kept=credentials is not None)
    baseline = candidates.choose()
    is_leaving = live.stateful_set is not None and is_terminating(live.stateful_set)
    is_to_recreate = live.stateful_set is None and candidates.present is not None
    is_about_to_recreate = isinstance(step, RemoveStatefulSet) or (isinstance(step, HoldPod) and step.adds_volumes)
    if is_leaving or is_to_recreate or is_about_to_recreate:
        return Workload(baseline)

    # A claim that nobody knows of may have the database, and the pod would start with an empty one on another volume.
    if live.claims_gap and mounted_database(owner.name, live) is None:
        return Workload(baseline)

    if credentials and live.stateful_set is None and not orphan_hash(live):
        return Workload(baseline)
    if credentials and live.stateful_set and (server.spec.replicas or not live.stateful_set["spec"]["replicas"]):
        # Half of a rotation does not touch a pod that runs. Stopping it is another matter.
        is_same = _keeps_template(candidates.render(baseline), live.stateful_set, owner)
        return Workload(baseline, is_held_back=not is_same)

    rejected = None
    if live.rejected:
        # A section that the API server rejects keeps its live value, so that a rotation, an image or a size is applied
        # nevertheless. Without a live StatefulSet none is created: its pod would run without what the user asked for.
        reason = "; ".join(finding.message for finding in live.rejected)
        if live.stateful_set is None:
            problem = Problem(SECTION_REJECTED, f"no pod can be created: {reason}", stalls=True)
            return Workload(baseline, rejected=problem)

        names = " and ".join(field_name(section.field) for section in rejected_sections(live.rejected))
        rejected = Problem(SECTION_REJECTED, f"{reason}; the pod keeps {names} unchanged", stalls=True)

    manifest = candidates.render(baseline)
    return Workload(baseline, manifest, candidates.why_restart(manifest), rejected)


def pending_rollout(baseline: Baseline, newest: ObjectDefaults) -> str | None:
    """Returns what the next rollout of a pod brings that no pod is restarted for; None when nothing is pending."""
    changes = baseline.pending_changes(newest)
    if changes is None:
        return None

    how = f"to start one now, set annotation {RESTARTED_AT} of the DittoServer to a new value, such as the current time"
    return f"the next rollout of the pod also changes: {changes}; {how}"


def restarted_at(manifest: Mapping[str, Any]) -> str | None:
    """Returns the value of the annotation by which a person restarts the pod; None without a usable one."""
    value = ((manifest.get("metadata") or {}).get("annotations") or {}).get(RESTARTED_AT)
    is_usable = isinstance(value, str) and 0 < len(value) <= MAX_RESTARTED_AT_CHARACTERS and value.isprintable()
    return value if is_usable else None


def orphan_hash(live: LiveState) -> str | None:
    """Returns what a pod that has lost its StatefulSet was configured with: it is adopted, and not restarted."""
    # Users can write the annotation, so that nothing but a hash is taken from it.
    annotation = pod_config_hash(_orphan(live) or {}) or ""
    return annotation if re.fullmatch("[0-9a-f]{64}", annotation) else None


def is_changed(workload: Manifest, live: Manifest | None) -> bool:
    return live is None or differs(marked(workload), live)


def rendering_of(template: Mapping[str, Any]) -> Rendering:
    """Returns the rendering that a live pod template, or a pod, has the mounts of; the newest for any other pod."""
    mounts = server_container(template).get("volumeMounts") or []
    paths = {mount["mountPath"] for mount in mounts}
    is_ours = CONFIG_FOLDER in paths
    return Rendering.SINGLE_FAMILY if is_ours and SECOND_METADATA_PATH not in paths else NEWEST


def baseline_of(template: Mapping[str, Any]) -> Baseline:
    """Returns what the operator brought to a live pod template, or to a pod."""
    return Baseline(rendering_of(template), pod_defaults(template))


def has_writable_root(template: Mapping[str, Any] | None, templates: Sequence[Manifest]) -> bool:
    """Tells whether a server may have written to its root file system, and would miss that.

    `template` is its live pod template, or its pod; None for a server that has neither.
    """
    if template is None:
        # The Go operator lets its servers write anywhere, and this claim is what is left of one.
        return CONTROL_PLANE in {entry["metadata"]["name"] for entry in templates}
    container = server_container(template)
    # With these mounts the operator has rendered a read-only root, and a podTemplate makes it writable.
    paths = {mount["mountPath"] for mount in container.get("volumeMounts") or []}
    if paths >= {CONFIG_FOLDER, SECOND_METADATA_PATH, TEMPORARY_FOLDER}:
        return False
    return (container.get("securityContext") or {}).get(READ_ONLY_ROOT) is not True


def live_template(owner: Owner, live: LiveState) -> Manifest | None:
    """Returns what the pod was created from, or the pod itself where it has lost its StatefulSet."""
    present = _present(owner, live)
    return present["spec"]["template"] if present else _orphan(live)


@dataclass(frozen=True)
class _Candidates:
    """The StatefulSet of a server on each baseline; with `is_hash_kept`, nobody knows what is in its Secrets."""

    server: DittoServer
    owner: Owner
    live: LiveState
    is_hash_kept: bool

    @cached_property
    def present(self) -> Manifest | None:
        return _present(self.owner, self.live)

    @cached_property
    def template(self) -> Manifest | None:
        return live_template(self.owner, self.live)

    def choose(self) -> Baseline:
        """Returns the baseline that leaves the pod as it is; the newest when the pod changes in any case."""
        newest = Baseline(NEWEST, self.live.defaults)
        if self.server.spec.replicas == 0 or (self.present and not self.present["spec"]["replicas"]):
            return newest

        baseline = baseline_of(self.template) if self.template else newest
        if baseline == newest:
            return newest

        if self.present:
            is_unchanged = _keeps_template(self.render(baseline), self.present, self.owner)
        else:
            # A pod has more in it than its template had: apart from its mounts, only its annotations tell.
            is_asked_for = self.live.restarted_at not in (None, restarted_at(self.template or {}))
            is_unchanged = not is_asked_for and orphan_hash(self.live) in (None, self._digest(baseline.rendering))
        return baseline if is_unchanged else newest

    def render(self, baseline: Baseline) -> Manifest:
        templates = live_claim_templates(self.present) if self.present else initial_templates(self.server, self.live)
        revision = PodRevision(
            rendering=baseline.rendering,
            defaults=baseline.defaults,
            config_hash=self._digest(baseline.rendering),
            # To remove the annotation restarts nothing.
            restarted_at=self.live.restarted_at or restarted_at(self.template or {}),
            has_writable_root=has_writable_root(self.template, templates),
            database=database_template(self.server, self.live),
        )

        if revision.has_writable_root and self.present and self.owner.owns(self.present):
            # Only its owner, in the spec, makes a root writable that was applied as a read-only one.
            read_only = replace(revision, has_writable_root=False)
            before = stateful_set(self.owner, self.server.spec, read_only, templates)
            if _is_applied_last(before, self.present):
                revision = read_only

        if not (self.live.rejected and self.present):
            return stateful_set(self.owner, self.server.spec, revision, templates)

        kept = rejected_sections(self.live.rejected)
        spec = self.server.spec.model_copy(update={section.attribute: None for section in kept})
        return with_live_sections(stateful_set(self.owner, spec, revision, templates), self.present, kept)

    def why_restart(self, workload: Manifest) -> Restart | None:
        """Returns why to apply the StatefulSet restarts the pod; None when it does not."""
        present = self.live.stateful_set
        # The first pod does not restart, and neither does one that is stopped.
        if present is None or not (present["spec"]["replicas"] and workload["spec"]["replicas"]):
            return None
        if not rolls_out(present) or _keeps_template(workload, present, self.owner):
            return None

        if self.live.pod and missing_volume(self.live.pod, workload):
            # The StatefulSet's controller cannot replace such a pod: a step of its own restarts it.
            return None

        restart = self._restart(workload, present)
        changes = baseline_of(present["spec"]["template"]).pending_changes(self.live.defaults)
        pending = f"; pending changes go out with it: {changes}" if changes else ""
        return replace(restart, why=f"{restart.why}{pending}")

    def _restart(self, workload: Manifest, present: Manifest) -> Restart:
        before, after = present["spec"]["template"], workload["spec"]["template"]
        if restarted_at(before) != restarted_at(after):
            return Restart(RestartCause.REQUESTED, f'annotation {RESTARTED_AT} is "{restarted_at(after)}"')
        if _applied_digest(present) is None:
            return Restart(RestartCause.TAKEOVER, f"StatefulSet {self.owner.name} is taken over from the Go operator")
        if _is_applied_last(workload, present):
            why = f"somebody changed the pod template of StatefulSet {self.owner.name}, and it is restored"
            return Restart(RestartCause.DRIFT, why)

        # Without what is pending and with the Secrets of before, only the spec can make a difference.
        baseline = baseline_of(before)
        same_secrets = replace(self, is_hash_kept=True).render(baseline)
        config = ((self.live.config_map or {}).get("data") or {}).get(CONFIG_FILE)
        is_same_config = config in (None, config_yaml(self.server.spec, baseline.rendering))
        if is_same_config and _keeps_template(same_secrets, present, self.owner):
            return Restart(RestartCause.CREDENTIALS, "the credentials that it consumes have changed")
        return Restart(RestartCause.SPEC, "the spec has changed")

    def _digest(self, rendering: Rendering) -> str | None:
        """Returns the hash of what the pod consumes."""
        present = pod_config_hash(self.template or {}) if self.present else orphan_hash(self.live)
        if self.is_hash_kept or (self.template and self.live.secrets is None):
            return present

        hashes = Hashes.of(self.server, self.live.digests, rendering)
        return hashes.full if present is None else template_hash(self.server, self.live, hashes, present)


def _keeps_template(workload: Manifest, present: Manifest, owner: Owner) -> bool:
    """Tells whether to apply the workload would leave the live pod template as it is."""
    if differs({"spec": {"template": workload["spec"]["template"]}}, present):
        return False

    # Fields that the spec no longer has are in the live template all the same, and go with the next write. Only the
    # digest of what was applied tells. That of another owner tells nothing: it covers the owner as well.
    return _applied_digest(present) is None or _is_applied_last(workload, present) or not owner.owns(present)


def _applied_digest(present: Manifest) -> str | None:
    """Returns the digest of what was applied last, without the defaults that it had."""
    annotations = present["metadata"].get("annotations") or {}
    return annotations.get(APPLIED_WITHOUT_DEFAULTS) or annotations.get(APPLIED)


def _is_applied_last(workload: Manifest, present: Manifest) -> bool:
    """Tells whether the live StatefulSet is what became of this one, apart from the replicas."""
    # The spec may ask for other replicas than before, or somebody has scaled the StatefulSet since.
    same_replicas = {**workload, "spec": {**workload["spec"], "replicas": present["spec"]["replicas"]}}
    digests = (marked(either)["metadata"]["annotations"][APPLIED] for either in (same_replicas, workload))
    return _applied_digest(present) in digests


def _present(owner: Owner, live: LiveState) -> Manifest | None:
    """Returns the StatefulSet, or the one that this process removed to recreate it."""
    if live.stateful_set:
        return live.stateful_set
    return live.removed if live.removed and owner.owns(live.removed) else None


def _orphan(live: LiveState) -> Manifest | None:
    """Returns the pod that the StatefulSet to create is going to adopt."""
    is_adopted = live.pod is not None and not is_terminating(live.pod) and controller(live.pod) is None
    return live.pod if is_adopted else None
