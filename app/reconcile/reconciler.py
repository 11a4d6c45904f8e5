"""One DittoServer at a time: look, decide by `storage`, make what is wanted, say so in the status and in Events."""

import base64
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, Conflict, NamespaceTerminating, NotFound, Unavailable, Unreachable
from app.cluster.informers import Informers
from app.cluster.reader import CONFIG_MAPS, NODES, PODS, SECRETS, SERVICES, STATEFUL_SETS
from app.cluster.secrets import SecretDigest
from app.reconcile.resizer import EventSink, Resizer, ResizeResult
from app.reconcile.writer import NameTaken, NotLeading, ObjectTerminating, Writer
from app.storage import postgres
from app.storage.config import config_hash, config_yaml, consumed_digests
from app.storage.diagnosis import ends_at, node_in_question
from app.storage.difference import differs, marked
from app.storage.events import Event, transition_events
from app.storage.evidence import Node, NodeState, words
from app.storage.facts import Claim, DryRun, Secret, Unknown
from app.storage.finding import Finding
from app.storage.live import RESIZE_PATIENCE, LiveState
from app.storage.objects import (
    Owner,
    admin_secret,
    config_map,
    controller,
    jwt_secret,
    live_claim_templates,
    postgres_secret,
    service_name,
    services,
    stateful_set,
)
from app.storage.pod import CONFIG_HASH, pod_name
from app.storage.problem import Problem, Stage, first
from app.storage.reading import field_name, read
from app.storage.resize import ALLOW_DATA_LOSS, initial_templates, restart_due, restart_hold
from app.storage.rollout import blocks
from app.storage.rules import invalid_findings
from app.storage.secret_references import (
    JWT_PATH,
    POSTGRES_PATH,
    SecretReference,
    consumed_references,
    generated_references,
    postgres_secret_name,
    why_not_usable,
)
from app.storage.sections import (
    changed_sections,
    rejected_sections,
    section_findings,
    stateful_set_for_dry_run,
    with_live_sections,
)
from app.storage.spec import DittoServer, Spec
from app.storage.status import (
    CLAIM_PATIENCE_SECONDS,
    SERVICE_MISSING,
    SERVICE_OUTDATED,
    UNREADABLE,
    Observation,
    conditions,
    invalid_spec,
    status,
)
from app.storage.unstructured import Manifest, ObjectKey, is_terminating, key_of
from app.storage.volume_states import Phase, volume_states

TOKEN_BYTES = 32
PASSWORD_BYTES = 18  # 24 characters
TAKEN_SECONDS = 30.0
# A class that is made expandable wakes only the servers that name it; a claim may be of another one.
REFUSED_SECONDS = 60.0
# What the API server rejects may have been the doing of a webhook of others, which is repaired some day.
REJECTED_SECONDS = 300.0
# Nodes are not watched: one that is in question is looked up again.
NODE_SECONDS = 60.0
WRITE_FAILED = "WriteFailed"
RESTART_HELD_BACK = "RestartHeldBack"
# Where earlier versions saved, on the ConfigMap, the StatefulSet that they were about to recreate. Whoever may change
# ConfigMaps could have any pod created that way.
SAVED_STATE = "dittofs.io/stateful-set"

# What concerns every other object as well, so that there is no point in trying these.
CONCERNS_EVERY_OBJECT = (Unreachable, Conflict, NotLeading, NamespaceTerminating)

Result = TypeVar("Result")
Digests = dict[str, Mapping[str, str]]


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class PodUpdate:
    """What keeps the pod from being as the spec asks: a restart that is held back, or sections that are rejected."""

    held: Problem | None = None
    rejected: Problem | None = None


@dataclass(frozen=True)
class Rejected:
    """What the API server rejects of a server, by its UID and generation; it is not asked again before `until`."""

    version: tuple[str | None, int]
    findings: list[Finding]
    until: datetime


@dataclass(frozen=True)
class Credentials:
    """What the pod's Secrets hold, by digest; `problem` is why it must not be started with them."""

    digests: Digests
    problem: Problem | None = None


class Attempts:
    """Attempts to write objects, each by itself, and the first of what went wrong."""

    def __init__(self, stage: Stage = Stage.APPLY) -> None:
        self._stage = stage
        self.taken: Problem | None = None
        self.failure: Problem | None = None
        self.terminating: Problem | None = None

    async def make(self, attempt: Awaitable[Result], reason: str = WRITE_FAILED) -> Result | None:
        """The result, None when the API server rejects it. Raises what concerns every other attempt, too."""
        try:
            return await attempt
        except CONCERNS_EVERY_OBJECT:
            raise
        except NameTaken as error:
            self.taken = self.taken or Problem("NameTaken", str(error), Stage.NAME, stalls=True)
        except ObjectTerminating as error:
            self.terminating = self.terminating or Problem(error.reason, str(error), Stage.NAME)
        except ClusterError as error:
            self.failure = self.failure or Problem(reason, str(error), self._stage)
        return None

    @property
    def first(self) -> Problem | None:
        """The first reason why an attempt gave nothing."""
        return self.taken or self.terminating or self.failure


class Reconciler:
    """Safe to be repeated and to be broken off between any two calls: what there is to do is read from the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        writer: Writer,
        record_event: EventSink,
        clock: Callable[[], datetime] = _utc,
        resize_patience: timedelta = RESIZE_PATIENCE,
    ) -> None:
        self._cluster = cluster
        self._informers = informers
        self._writer = writer
        self._record_event = record_event
        self._clock = clock
        self._resizer = Resizer(informers, writer, record_event, clock, resize_patience)
        # Versions of the Postgres Secret and of what was made of it, when they were last seen to agree.
        self._agreed: dict[ObjectKey, tuple[int, int]] = {}
        informers.secrets_metadata.rewind_handlers.append(self._agreed.clear)
        # Of servers with sections that the API server rejects.
        self._rejected: dict[ObjectKey, Rejected] = {}
        informers.servers.event_handlers.append(self._forget_if_gone)
        informers.servers.rewind_handlers.append(self._rejected.clear)
        # UIDs of servers in namespaces that are being deleted, which lasts until the servers are gone.
        self._in_terminating_namespaces: dict[ObjectKey, str] = {}

    async def reconcile(self, key: ObjectKey) -> float | None:
        """The seconds after which to look again, None when an event will say so. Raises what is worth another try."""
        manifest = self._informers.servers.get(key)
        if manifest is None or is_terminating(manifest):
            self._forget(key)
            return None
        if self._in_terminating_namespaces.get(key) == manifest["metadata"]["uid"]:
            return None
        reading = read(manifest)
        server, rejections = reading.server, invalid_findings(reading)
        if rejections:
            live_state = await self._report(server, manifest, Observation([invalid_spec(rejections)]), ResizeResult())
            return self._look_again(server, live_state)

        # Before anything else: a disk that is full waits for nothing, least of all for Secrets or a pod that is ready.
        owner = _owner(manifest)
        try:
            resize_result = await self._resizer.step(server, manifest, owner)
            observation = await self._apply(server, manifest, owner)
        except NamespaceTerminating:
            await self._report(server, manifest, Observation([_namespace_problem(owner)]), ResizeResult())
            self._in_terminating_namespaces[key] = manifest["metadata"]["uid"]
            return None
        live_state = await self._report(server, manifest, observation, resize_result)
        if resize_result.again:
            return 0.0

        # No event says when Secrets can be read or a Service may be made, nor when a name that is taken becomes free.
        problems = observation.problems
        unreadable = (problem for problem in problems if problem.reason == UNREADABLE)
        failure = first(problems, Stage.APPLY, Stage.SERVICES) or next(unreadable, None)
        if (
            why := failure.message
            if failure
            else resize_result.failure or next(iter(resize_result.refused.values()), None)
        ):
            raise Unavailable(why)
        if first(problems, Stage.NAME):
            return TAKEN_SECONDS
        later = self._look_again(server, live_state)
        return min(later or REJECTED_SECONDS, REJECTED_SECONDS) if first(problems, Stage.POD) else later

    def _forget_if_gone(self, key: ObjectKey, _manifest: Manifest) -> None:
        if key not in self._informers.servers:
            self._forget(key)

    def _forget(self, key: ObjectKey) -> None:
        self._agreed.pop(key, None)
        self._rejected.pop(key, None)
        self._in_terminating_namespaces.pop(key, None)
        self._resizer.forget(key)

    async def _apply(self, server: DittoServer, manifest: Manifest, owner: Owner) -> Observation:
        """Applies each object by itself: what the API server rejects of one keeps no other from being applied."""
        spec, attempts = server.spec, Attempts()
        try:
            config_map = await attempts.make(self._apply_config_map(owner, spec, manifest))
            lost = await attempts.make(self._generate_secrets(owner, spec))
            credentials = await self._credentials(owner, spec)
            if not credentials.problem:
                copied = await attempts.make(self._with_postgres(owner, spec, credentials))
                credentials = copied or replace(credentials, problem=attempts.first)
            if lost:
                credentials = replace(credentials, problem=lost)

            update = PodUpdate()
            if config_map:  # A pod would otherwise start with the former configuration.
                attempt = self._update_pod(server, manifest, owner, credentials)
                update = await attempts.make(attempt) or update
            services = Attempts(Stage.SERVICES)
            await self._apply_services(owner, spec, services)
            await attempts.make(self._remove_unwanted(owner, spec))
        except Unreachable as error:
            # Nobody would answer to the other objects either, and each would have to wait for that.
            return Observation([Problem(WRITE_FAILED, str(error), Stage.APPLY)])

        lacking = credentials.problem
        problems = (
            attempts.taken or services.taken,
            services.terminating or attempts.terminating,
            replace(lacking, stage=Stage.CREDENTIALS, stalls=False) if lacking else None,
            attempts.failure,
            services.failure,
            update.held,
            update.rejected,
        )
        return Observation([problem for problem in problems if problem])

    async def _apply_config_map(self, owner: Owner, spec: Spec, manifest: Manifest) -> Manifest:
        live = await self._writer.ensure(CONFIG_MAPS, config_map(owner, spec), owner)
        annotations = dict(live["metadata"].get("annotations") or {})
        if annotations.pop(SAVED_STATE, None) is not None:
            await self._writer.patch(CONFIG_MAPS, live, {"/metadata/annotations": annotations})
            message = (
                f"annotation {SAVED_STATE} of ConfigMap {live['metadata']['name']} was ignored and removed: "
                "the operator no longer saves StatefulSets there, and never restores one from there"
            )
            self._record_event(manifest, Event("Warning", "SavedStateIgnored", message))
        return live

    async def _generate_secrets(self, owner: Owner, spec: Spec) -> Problem | None:
        """What is gone while a pod that runs may still need it is not made up anew."""
        live = self._informers.stateful_sets.get((owner.namespace, owner.name))
        for reference in generated_references(owner.name, spec):
            if (owner.namespace, reference.secret or "") in self._informers.secrets_metadata:
                continue
            if (live and reference.secret in consumed_by(live)) or self._orphan_hash(owner):
                advice = "put it back, or delete the StatefulSet to have a new one made"
                return Problem("SecretNotFound", f"generated Secret {reference.secret} is gone: {advice}")
            await self._writer.create_secret(_generated(reference, owner, spec))
        return None

    async def _credentials(self, owner: Owner, spec: Spec) -> Credentials:
        digests: Digests = {}
        for reference in consumed_references(owner.name, spec):
            found = await self._informers.secret((owner.namespace, reference.secret)) if reference.secret else None
            secret: Secret | Unknown | None = found.secret if isinstance(found, SecretDigest) else found
            if finding := why_not_usable(reference, secret):
                problem = Problem(_reason_of_unusable(secret), finding.message)
                return Credentials({}, problem)
            if isinstance(found, SecretDigest) and reference.secret:
                digests[reference.secret] = found.digests
        return Credentials(digests)

    async def _with_postgres(self, owner: Owner, spec: Spec, credentials: Credentials) -> Credentials:
        """Keeps the parts of the connection string as the string is."""
        reference = next((each for each in consumed_references(owner.name, spec) if each.path == POSTGRES_PATH), None)
        if reference is None or not reference.secret or reference.secret not in credentials.digests:
            return credentials
        key = owner.namespace, owner.name
        metadata = self._informers.secrets_metadata
        source, target = (owner.namespace, reference.secret), (owner.namespace, postgres_secret_name(owner.name))
        if target in metadata and self._agreed.get(key) == (metadata.version(source), metadata.version(target)):
            return credentials
        [name] = reference.keys
        secret = await self._cluster.get(SECRETS, reference.secret, owner.namespace)
        try:
            fields = postgres.parse_dsn(decoded(secret, name.name))
        except ValueError as error:
            problem = Problem("SecretIncomplete", f'Postgres Secret "{reference.secret}" key "{name.name}": {error}')
            return replace(credentials, problem=problem)
        await self._writer.ensure_secret(postgres_secret(owner, fields), owner)
        self._agreed[key] = int(secret["metadata"]["resourceVersion"]), metadata.version(target)
        return credentials

    async def _update_pod(
        self, server: DittoServer, manifest: Manifest, owner: Owner, credentials: Credentials
    ) -> PodUpdate:
        live_state = self._resizer.live_state(server, manifest)
        live = live_state.stateful_set
        if live and is_terminating(live):
            return PodUpdate()

        if live is None and live_state.removed and owner.owns(live_state.removed):
            # It is about to be recreated as it was, with what others have set.
            return PodUpdate()

        digest = self._config_hash(owner, server.spec, credentials, live)
        templates = live_claim_templates(live) if live else initial_templates(server, live_state)
        wanted = None if digest is None else stateful_set(owner, server.spec, digest, templates)
        if hold := restart_hold(server, live_state):
            is_changed = wanted is not None and (live is None or differs(marked(wanted), live))
            is_stuck = bool(live and live_state.pod and blocks(live_state.pod, live))
            return PodUpdate(held=_held(hold) if is_changed or is_stuck else None)

        applied, rejected = live, None
        if wanted:
            applied, rejected = await self._apply_stateful_set(server, manifest, owner, wanted, live)
        if live and wanted and live_hash(live) and live_hash(live) != digest:
            message = "the pod restarts: its configuration or the credentials that it consumes have changed"
            self._record_event_for(owner, Event("Normal", "Restarting", message))
        if applied:
            await self._replace_stuck_pod(owner, applied)
        return PodUpdate(rejected=rejected)

    async def _apply_stateful_set(
        self, server: DittoServer, manifest: Manifest, owner: Owner, wanted: Manifest, live: Manifest | None
    ) -> tuple[Manifest | None, Problem | None]:
        """Gives the live StatefulSet, and why a section that goes into the pod verbatim is not as the spec asks.

        Such a section keeps its live value, so that a rotation, an image or a size is applied nevertheless. Without a
        live StatefulSet none is created: its pod would run without what the user asked for.
        """
        key = owner.namespace, owner.name
        version = owner.uid, manifest["metadata"]["generation"]
        known = self._rejected.get(key)
        if known is None or known.version != version or known.until <= self._clock():
            self._rejected.pop(key, None)
            try:
                return await self._writer.ensure(STATEFUL_SETS, wanted, owner), None
            except CONCERNS_EVERY_OBJECT:
                raise
            except ClusterError:
                findings = await self._try_sections(server.spec, owner)
                if not findings:
                    raise
            self._rejected[key] = Rejected(version, findings, self._clock() + timedelta(seconds=REJECTED_SECONDS))

        findings = self._rejected[key].findings
        reason = "; ".join(finding.message for finding in findings)
        if live is None:
            return None, Problem("SectionRejected", f"no pod can be created: {reason}", stalls=True)
        kept = rejected_sections(findings)
        names = " and ".join(field_name(section.field) for section in kept)
        applied = await self._writer.ensure(STATEFUL_SETS, with_live_sections(wanted, live, kept), owner)
        return applied, Problem("SectionRejected", f"{reason}; the pod keeps {names} unchanged", stalls=True)

    async def _try_sections(self, spec: Spec, owner: Owner) -> list[Finding]:
        """What the API server rejects of the sections; nothing when something else of the StatefulSet is at fault."""
        sections = changed_sections(spec, None)
        if not sections:
            return []
        dry_run: DryRun | Unknown
        try:
            dry_run = await self._cluster.dry_run(STATEFUL_SETS, stateful_set_for_dry_run(owner, spec, sections))
        except ClusterError as error:
            # A webhook of others may not know dry runs; the types of core/v1 have to do then.
            dry_run = Unknown(str(error))
        return [finding for finding in section_findings(spec, sections, dry_run) if finding.rejects]

    def _config_hash(self, owner: Owner, spec: Spec, credentials: Credentials, live: Manifest | None) -> str | None:
        """What the pod is to be configured with; None while the StatefulSet is to be left as it is.

        Half of a rotation does not touch the pod that runs. To stop it is another matter.
        """
        if not credentials.problem:
            references = consumed_references(owner.name, spec)
            return config_hash(config_yaml(spec), consumed_digests(references, credentials.digests))
        if live is None:
            return self._orphan_hash(owner)
        stops = not spec.replicas and live["spec"]["replicas"]
        return (live_hash(live) or "") if stops else None

    def _orphan_hash(self, owner: Owner) -> str | None:
        """What a pod that has lost its StatefulSet was configured with: it must not be alone, and not be restarted.

        Users can write the annotation, so that nothing but a hash is taken from it.
        """
        pod = self._informers.pods.get((owner.namespace, pod_name(owner.name)))
        if pod is None or is_terminating(pod) or controller(pod):
            return None
        annotation = (pod["metadata"].get("annotations") or {}).get(CONFIG_HASH) or ""
        return annotation if re.fullmatch("[0-9a-f]{64}", annotation) else None

    async def _replace_stuck_pod(self, owner: Owner, stateful_set: Manifest) -> None:
        """Deletes a former pod that cannot get ready and is in the place of the one that is wanted."""
        pod = self._informers.pods.get((owner.namespace, pod_name(owner.name)))
        if not (pod and blocks(pod, stateful_set)):
            return
        await self._writer.remove(PODS, pod)
        name = pod_name(owner.name)
        message = f"pod {name} was not ready before the last change; it was deleted to make way for the next one"
        self._record_event_for(owner, Event("Normal", "PodReplaced", message))

    async def _apply_services(self, owner: Owner, spec: Spec, attempts: Attempts) -> None:
        for service in services(owner, spec):
            is_there = key_of(service) in self._informers.services
            reason = SERVICE_OUTDATED if is_there else SERVICE_MISSING
            await attempts.make(self._writer.ensure(SERVICES, service, owner), reason)

    async def _remove_unwanted(self, owner: Owner, spec: Spec) -> None:
        wanted = {service["metadata"]["name"] for service in services(owner, spec)}
        metrics = service_name(owner.name, "metrics")
        service = self._informers.services.get((owner.namespace, metrics))
        if metrics not in wanted and service and owner.owns(service) and not is_terminating(service):
            await self._writer.remove(SERVICES, service)
        secret = self._informers.secrets_metadata.get((owner.namespace, postgres_secret_name(owner.name)))
        if not spec.database.postgres_secret_ref and secret and owner.owns(secret) and not is_terminating(secret):
            await self._writer.remove(SECRETS, secret)

    async def _report(
        self, server: DittoServer, manifest: Manifest, observation: Observation, resize_result: ResizeResult
    ) -> LiveState:
        """Gives what it told of."""
        live_state = replace(self._resizer.live_state(server, manifest), refused=resize_result.refused)
        problems = list(observation.problems)
        if resize_result.failure:
            problems.append(Problem(WRITE_FAILED, resize_result.failure, Stage.VOLUMES))
        overdue = [claim.name for claim in live_state.claims.values() if self._patience_left(claim) <= 0]
        created = manifest["metadata"]["creationTimestamp"]
        leftovers = [claim.name for claim in live_state.claims.values() if claim.created < created]
        hold = restart_hold(server, live_state) if resize_result.held else None
        if hold and not any(problem.reason == RESTART_HELD_BACK for problem in problems):
            problems.append(_held(hold))
        observation = replace(
            observation,
            problems=problems,
            live_state=live_state,
            overdue=overdue,
            file_service=self._informers.services.get(
                (key_of(manifest)[0], service_name(server.metadata.name, "file"))
            ),
            leftovers=leftovers,
            warnings=self._informers.warnings.about(key_of(manifest)),
            node=await self._node_in_question(live_state),
        )
        found = status(server, manifest, observation, self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        if found != manifest.get("status"):
            await self._write_status(manifest, found)
        return live_state

    async def _node_in_question(self, live_state: LiveState) -> Node | None:
        """Looked up only when a pod does not end, or has lost its node: with nothing wrong, nothing is asked.

        Of a pod that somebody else has made under this name nothing is said: users may not read nodes.
        """
        pod, live = live_state.pod, live_state.stateful_set
        name = node_in_question(pod, self._clock())
        is_ours = pod and live and (controller(pod) or {}).get("uid") == live["metadata"]["uid"]
        if name is None or not is_ours:
            return None
        try:
            return Node.read(await self._cluster.get(NODES, name))
        except NotFound:
            return Node(name, NodeState.DELETED)
        except ClusterError as error:
            return Node(name, NodeState.NOT_LOOKED_UP, words=words(error))

    async def _write_status(self, manifest: Manifest, found: Manifest) -> None:
        before = conditions(manifest)
        await self._writer.write_status(manifest, found)
        for each in transition_events(before, conditions({"status": found})):
            self._record_event(manifest, each)

    def _look_again(self, server: DittoServer, live_state: LiveState) -> float | None:
        """Only time tells that a claim waits for too long, or a file system for a restart of its pod."""
        left = [self._patience_left(claim) for claim in live_state.claims.values() if claim.phase == "Pending"]
        due = None if restart_hold(server, live_state) else restart_due(server, live_state)
        delays = [seconds + 1 for seconds in left if seconds > 0]
        if due:
            delays.append(max((due - self._clock()).total_seconds(), 0.0) + 1)
        states = volume_states(server, live_state)
        if any(state.phase == Phase.RESIZE_REFUSED for state in states):
            delays.append(REFUSED_SECONDS)
        lacks_claims = any(state.claim is None for state in states)
        if live_state.is_new and live_state.stateful_set and lacks_claims:
            new_until = self._resizer.new_until(live_state.stateful_set)
            delays.append((new_until - self._clock()).total_seconds() + 1)
        if end := ends_at(live_state.pod):
            time_left = (end - self._clock()).total_seconds()
            delays.append(time_left + 1 if time_left > 0 else NODE_SECONDS)
        elif node_in_question(live_state.pod, self._clock()):
            delays.append(NODE_SECONDS)
        key = server.metadata.namespace or "", server.metadata.name
        if (seconds_left := self._resizer.unlabelled_pods.seconds_left(key)) is not None:
            delays.append(max(seconds_left, 0.0))
        return min(delays, default=None)

    def _patience_left(self, claim: Claim) -> float:
        """Seconds until it has had time enough to be bound."""
        created = datetime.fromisoformat(claim.created)
        return (created + timedelta(seconds=CLAIM_PATIENCE_SECONDS) - self._clock()).total_seconds()

    def _record_event_for(self, owner: Owner, each: Event) -> None:
        manifest = self._informers.servers.get((owner.namespace, owner.name))
        if manifest:
            self._record_event(manifest, each)


def _namespace_problem(owner: Owner) -> Problem:
    message = f"namespace {owner.namespace} is being deleted: nothing can be created in it, and the operator leaves it"
    return Problem("NamespaceTerminating", message, Stage.NAME, stalls=True)


def _reason_of_unusable(secret: Secret | Unknown | None) -> str:
    if secret is None:
        return "SecretNotFound"
    if isinstance(secret, Unknown):
        return UNREADABLE
    return "SecretTerminating" if secret.terminating else "SecretIncomplete"


def _held(hold: str) -> Problem:
    message = f'{hold}; annotation {ALLOW_DATA_LOSS}: "true" lets the pod restart anyway'
    return Problem(RESTART_HELD_BACK, message, Stage.VOLUMES, stalls=True)


def live_hash(stateful_set: Mapping[str, Any]) -> str | None:
    metadata = stateful_set["spec"]["template"].get("metadata") or {}
    return (metadata.get("annotations") or {}).get(CONFIG_HASH)


def consumed_by(stateful_set: Mapping[str, Any]) -> set[str]:
    """The Secrets that the pod's variables come from."""
    variables = [
        variable
        for container in stateful_set["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env") or []
    ]
    sources = [(variable.get("valueFrom") or {}).get("secretKeyRef") for variable in variables]
    return {source["name"] for source in sources if source}


def decoded(secret: Mapping[str, Any], key: str) -> str:
    return base64.b64decode((secret.get("data") or {}).get(key, "")).decode(errors="replace")


def _owner(manifest: Manifest) -> Owner:
    metadata = manifest["metadata"]
    return Owner(metadata["name"], metadata["namespace"], metadata["uid"])


def _generated(reference: SecretReference, owner: Owner, spec: Spec) -> Manifest:
    if reference.path == JWT_PATH:
        # In hex: the server takes the value as text.
        return jwt_secret(owner, secrets.token_hex(TOKEN_BYTES).encode())
    return admin_secret(owner, spec, secrets.token_urlsafe(PASSWORD_BYTES))
