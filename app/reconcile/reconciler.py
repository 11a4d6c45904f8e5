"""Reconciles one DittoServer at a time: reads, asks `storage.desired` what to do, applies that, and reports it.

It decides nothing about storage itself, and is safe to repeat and to interrupt between any two requests: what is left
to do follows from what the cluster has.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

from app import logs
from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, Conflict, NamespaceTerminating, Unreachable
from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, CONFIG_MAPS, PODS, SECRETS, SERVICES, STATEFUL_SETS
from app.reconcile.announcer import Announcer
from app.reconcile.handover import Handover
from app.reconcile.journal import Decisions, collect_writes, record_status, record_write
from app.reconcile.live_reader import LiveReader, ReportSource
from app.reconcile.provisioner import Provisioner
from app.reconcile.resizer import Resizer, ResizeResult
from app.reconcile.writer import LateDiscovery, NameTaken, NotLeading, ObjectTerminating, Writer
from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN
from app.storage.desired import Plan, Write, desired, recheck_seconds
from app.storage.events import EventSink
from app.storage.facts import DryRun, Unknown
from app.storage.finding import Finding
from app.storage.held_back import held_back
from app.storage.live import RESIZE_PATIENCE, LiveState
from app.storage.object_defaults import with_defaults
from app.storage.objects import Owner, admin_secret, jwt_secret
from app.storage.problem import (
    SERVICE_MISSING,
    SERVICE_OUTDATED,
    SERVICE_TERMINATING,
    UNREADABLE,
    Problem,
    Stage,
    first,
)
from app.storage.reading import read
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.rules import invalid_findings
from app.storage.secret_references import JWT_PATH, PASSWORD_KEY
from app.storage.sections import changed_sections, section_findings, stateful_set_for_dry_run
from app.storage.spec import DittoServer, Spec
from app.storage.status import Observation, invalid_spec, status
from app.storage.unstructured import Manifest, ObjectKey, is_terminating, key_of
from app.storage.workload import SECTION_REJECTED, pending_rollout

TOKEN_BYTES = 32
PASSWORD_BYTES = 18  # 24 characters
WRITE_FAILED = "WriteFailed"
CLAIM_METADATA_REJECTED = "ClaimMetadataRejected"
TAKEN_RECHECK_SECONDS = 30.0
# A webhook of others may have caused what the API server rejects, and may be repaired without an event for us.
REJECTED_RECHECK_SECONDS = 300.0

# What concerns every other object as well, so that there is no point in trying these.
CONCERNS_EVERY_OBJECT = (Unreachable, Conflict, NotLeading, NamespaceTerminating)

UTC_CLOCK = partial(datetime.now, UTC)

# UID and generation of a server, what the API server rejects of its sections, and when it is asked again.
_Rejection = tuple[tuple[str, int], Sequence[Finding], datetime]

_RESOURCES = {resource.kind: resource for resource in (CONFIG_MAPS, PODS, SECRETS, SERVICES, STATEFUL_SETS)}


@dataclass(frozen=True)
class Result:
    """The result of a reconcile: requeue after some seconds, or retry with backoff for a reason.

    Where neither is set, an event of an informer will wake the server.
    """

    requeue_after: float | None = None
    retry: str = ""


class ApplyResult:
    """The result of applying a Plan. Every object is written by itself, so that there may be several problems.

    `decide_again` says that something became known on which the Plan did not count.
    """

    def __init__(self) -> None:
        self.resize = ResizeResult()
        self.problems: list[Problem] = []
        self.decide_again = False

    async def attempt(self, write: Awaitable[object], reason: str = WRITE_FAILED, stage: Stage = Stage.APPLY) -> bool:
        """Returns whether the write has worked. Raises what concerns every other object, too."""
        try:
            await write
        except CONCERNS_EVERY_OBJECT:
            raise
        except NameTaken as error:
            self.problems.append(Problem("NameTaken", str(error), Stage.NAME, stalls=True))
        except ObjectTerminating as error:
            self.problems.append(Problem(error.reason, str(error), Stage.NAME))
        except ClusterError as error:
            self.problems.append(Problem(reason, str(error), stage))
        else:
            return True
        return False


class Reconciler:
    """Reconciles servers by their keys; `record_event` takes Events about them.

    `restart_handlers` are called with each server whose pod it restarts, and with the cause.
    """

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        writer: Writer,
        record_event: EventSink,
        clock: Callable[[], datetime] = UTC_CLOCK,
        resize_patience: timedelta = RESIZE_PATIENCE,
        report_of: ReportSource = lambda _: None,
        provisioner: Provisioner | None = None,
        defaults: ObjectDefaults = NO_DEFAULTS,
        cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
    ) -> None:
        self._cluster = cluster
        self._informers = informers
        self._writer = writer
        writer.write_handlers.append(record_write)
        self._announcer = Announcer(informers, record_event)
        self.restart_handlers = self._announcer.restart_handlers
        self._clock = clock
        self._defaults = defaults
        self._cluster_domain = cluster_domain

        self._reader = LiveReader(cluster, informers, clock, resize_patience, report_of)
        self._handover = Handover(informers, self._reader, writer, record_event)
        self._resizer = Resizer(informers, writer, self._announcer, clock)
        self._provisioner = provisioner
        self._decisions = Decisions()

        self._rejected: dict[ObjectKey, _Rejection] = {}
        # UIDs of servers in namespaces that are being deleted, which lasts until the servers are gone.
        self._in_terminating_namespaces: dict[ObjectKey, str] = {}

        def forget_if_gone(key: ObjectKey, manifest: Manifest) -> None:
            if key not in informers.servers:
                self._forget(key)
                if writer.may_write():
                    self._announcer.announce_deletion(manifest)

        informers.servers.event_handlers.append(forget_if_gone)
        informers.servers.rewind_handlers.append(self._rejected.clear)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Reads what the cluster has of a server, decides what to do, applies that, and reports it."""
        manifest = self._informers.servers.get(key)
        generation = manifest["metadata"].get("generation") if manifest else None
        try:
            with logs.correlate(generation=generation):
                return await self._process(key, manifest)
        finally:
            # No event follows that of its deletion, and what was remembered since would stay.
            if key not in self._informers.servers:
                self._forget(key)

    async def _process(self, key: ObjectKey, manifest: Manifest | None) -> Result:
        if manifest is None or is_terminating(manifest):
            try:
                await self._handover.release(key)
            except ClusterError as error:
                return Result(retry=str(error))
            self._forget(key)
            return Result()

        if self._in_terminating_namespaces.get(key) == manifest["metadata"]["uid"]:
            return Result()

        self._handover.report_ignored_fields(manifest)
        reading = read(manifest)
        try:
            if rejections := invalid_findings(reading):
                live = await self._report(reading.server, manifest, Observation([invalid_spec(rejections)]))
                result = Result(self._recheck_seconds(reading.server, key, live))
            else:
                result = await self._reconcile(reading.server, manifest)
            await self._handover.release(key)
        except NamespaceTerminating:
            # Report that, and leave the server alone from now on.
            message = f"namespace {key[0]} is being deleted: nothing can be created in it, and the operator leaves it"
            problem = Problem("NamespaceTerminating", message, Stage.NAME, stalls=True)
            try:
                await self._report(reading.server, manifest, Observation([problem]))
            except ClusterError as error:
                return Result(retry=str(error))

            self._in_terminating_namespaces[key] = manifest["metadata"]["uid"]
            if self._provisioner:
                self._provisioner.forget(key)
            return Result()
        except ClusterError as error:
            return Result(retry=str(error))
        else:
            return result

    async def _reconcile(self, server: DittoServer, manifest: Manifest) -> Result:
        result = ApplyResult()
        with self._announcer.announce_writes(manifest):
            while True:
                live = self._with_memory(await self._reader.read(server, manifest), manifest, result.resize)
                plan = desired(server, live, self._clock())
                if live.is_paused:
                    break
                result = await self._apply(plan, server, manifest, live)
                if not result.decide_again:
                    break

        self._announcer.announce_held_back(manifest, plan.held_back)

        # What a person has to see to comes first, then a Service that clients cannot reach.
        result.problems.sort(key=lambda problem: (not problem.stalls, problem.reason != SERVICE_TERMINATING))
        problems = [*result.problems, *plan.problems]
        if result.resize.failure:
            problems.append(Problem(WRITE_FAILED, result.resize.failure, Stage.VOLUMES))
        pending = pending_rollout(plan.baseline, live.defaults)
        observation = Observation(problems, pending_rollout=pending, contents=plan.contents)
        if self._provisioner:
            # Before the status, which may not be writable: the StatefulSet can wait for this.
            self._provisioner.want(key_of(manifest), plan.provisioning)
        live = await self._report(server, manifest, observation, result.resize)

        # No event says when Secrets can be read, or when a name becomes free.
        if result.resize.again:
            return Result(0.0)
        unreadable = next((problem for problem in problems if problem.reason == UNREADABLE), None)
        problem = first(problems, Stage.APPLY, Stage.SERVICES, Stage.CLAIMS) or unreadable
        refusal = next(iter(result.resize.refused.values()), "")
        if retry := problem.message if problem else result.resize.failure or refusal:
            return Result(retry=retry)
        if first(problems, Stage.NAME):
            return Result(TAKEN_RECHECK_SECONDS)

        recheck = self._recheck_seconds(server, key_of(manifest), live)
        if any(problem.reason == SECTION_REJECTED for problem in problems):
            return Result(min(recheck or REJECTED_RECHECK_SECONDS, REJECTED_RECHECK_SECONDS))
        return Result(recheck)

    def _with_memory(self, live: LiveState, manifest: Manifest, resize: ResizeResult) -> LiveState:
        """Adds what only this process knows: its settings, what it removed, what was rejected, and what it did."""
        key = key_of(manifest)
        version, findings, until = self._rejected.get(key, (None, (), self._clock()))
        if version != _version(manifest) or until <= self._clock():
            self._rejected.pop(key, None)
            findings = ()

        return replace(
            live,
            defaults=self._defaults,
            removed=self._resizer.removed(key),
            refused=resize.refused,
            rejected=findings,
            provisioned=self._provisioner.result(key) if self._provisioner else None,
        )

    async def _apply(self, plan: Plan, server: DittoServer, manifest: Manifest, live: LiveState) -> ApplyResult:
        """Carries out the Plan; what the API server rejects of one object keeps no other from being written."""
        owner, result = _owner(manifest), ApplyResult()

        # Before anything else: a full disk waits for nothing, least of all for Secrets or a pod that is ready.
        with collect_writes():
            # What a step writes has Events of its own.
            result.resize = await self._resizer.carry_out(plan.resize, manifest, owner, live)
        if result.resize.decide_again:
            result.decide_again = True
            return result

        try:
            for section, writes in (
                ("annotations", plan.annotate),
                ("ownerReferences", plan.disown),
                ("labels", plan.label),
            ):
                for write in writes:
                    change = {f"/metadata/{section}": write.manifest["metadata"][section]}
                    if await result.attempt(self._writer.patch(_RESOURCES[write.kind], write.manifest, change)):
                        self._announcer.announce_write(manifest, write)

            # With a new Secret the pod can be configured, which the Plan did not know.
            for reference in plan.generate:
                if reference.path == JWT_PATH:
                    # In hex: the server takes the value as text.
                    secret = jwt_secret(owner, secrets.token_hex(TOKEN_BYTES).encode())
                    creation = self._writer.create_secret(with_defaults(secret, self._defaults))
                else:
                    creation = self._create_admin_secret(owner, plan.password_from)
                result.decide_again |= await result.attempt(creation)

            if not result.decide_again:
                await self._apply_objects(plan, result, server.spec, manifest, live)
        except Unreachable as error:
            # Nobody would answer to the other objects either, and each would have to wait for that.
            result.problems.append(Problem(WRITE_FAILED, str(error), Stage.APPLY))
        return result

    async def _create_admin_secret(self, owner: Owner, source: str | None) -> None:
        """Creates the Secret with a random password, or with the one in the source, which the database knows."""
        password = ""
        if source:
            encoded = (await self._cluster.get(SECRETS, source, owner.namespace)).get("data") or {}
            # What is no text has never reached the server.
            with suppress(UnicodeDecodeError):
                password = base64.b64decode(encoded.get(PASSWORD_KEY) or "").decode()
        secret = admin_secret(owner, password or secrets.token_urlsafe(PASSWORD_BYTES))
        await self._writer.create_secret(with_defaults(secret, self._defaults))

    async def _apply_objects(
        self, plan: Plan, result: ApplyResult, spec: Spec, manifest: Manifest, live: LiveState
    ) -> None:
        is_pod_configured = True
        for write in plan.apply:
            reason, stage = WRITE_FAILED, Stage.APPLY
            if write.kind == SERVICES.kind:
                exists = key_of(write.manifest) in self._informers.services
                reason, stage = SERVICE_OUTDATED if exists else SERVICE_MISSING, Stage.SERVICES
            elif write.kind == STATEFUL_SETS.kind and not is_pod_configured:
                # The pod would start with the configuration or the connection string of before.
                continue

            is_applied = await result.attempt(self._ensure(write, result, spec, manifest, live), reason, stage)
            if result.decide_again:
                return
            if is_applied:
                self._announcer.announce_write(manifest, write)
            elif write.kind in (CONFIG_MAPS.kind, SECRETS.kind):
                is_pod_configured = False
            if write.kind == SECRETS.kind and not is_applied:
                result.problems.append(replace(result.problems[-1], stage=Stage.CREDENTIALS, stalls=False))

        # Nor may a stuck pod make way for one that is not configured.
        deletions = [write for write in plan.delete if is_pod_configured or write.kind != PODS.kind]
        for write in deletions:
            if await result.attempt(self._writer.delete(_RESOURCES[write.kind], write.manifest)):
                self._announcer.announce_write(manifest, write)

        await self._patch_claims(plan.claims, result)

    async def _patch_claims(self, writes: Sequence[Write], result: ApplyResult) -> None:
        for write in writes:
            claim = self._informers.claims.get(key_of(write.manifest))
            if claim is None:
                continue

            attempt = self._writer.merge(CLAIMS, claim, write.manifest)
            if not await result.attempt(attempt, CLAIM_METADATA_REJECTED, Stage.CLAIMS):
                what = f"volume claim {write.manifest['metadata']['name']} lacks changes of its labels and annotations"
                problem = result.problems[-1]
                result.problems[-1] = replace(problem, message=f"{what}: {problem.message}")

    async def _ensure(self, write: Write, result: ApplyResult, spec: Spec, manifest: Manifest, live: LiveState) -> None:
        owner, resource = _owner(manifest), _RESOURCES[write.kind]
        if resource == SECRETS:
            await self._writer.ensure_secret(write.manifest, owner)
            if live.postgres_source:
                self._reader.agree(key_of(manifest), live.postgres_source)
            return

        try:
            await self._writer.ensure(resource, write.manifest, owner)
        except CONCERNS_EVERY_OBJECT:
            raise
        except LateDiscovery:
            result.decide_again = True
        except ClusterError:
            sections = changed_sections(spec, None)
            if resource != STATEFUL_SETS or live.rejected or not sections:
                raise

            dry_run: DryRun | Unknown
            try:
                dry_run = await self._cluster.dry_run(
                    STATEFUL_SETS, stateful_set_for_dry_run(owner, spec, sections, self._defaults)
                )
            except ClusterError as error:
                # A webhook of others may not know dry runs; the types of core/v1 have to do then.
                dry_run = Unknown(str(error))
            findings = [finding for finding in section_findings(spec, sections, dry_run) if finding.rejects]
            if not findings:
                # Another part of the object is at fault.
                raise

            until = self._clock() + timedelta(seconds=REJECTED_RECHECK_SECONDS)
            self._rejected[key_of(manifest)] = _version(manifest), findings, until
            result.decide_again = True

    async def _report(
        self, server: DittoServer, manifest: Manifest, observation: Observation, resize: ResizeResult | None = None
    ) -> LiveState:
        """Writes the status where it differs, and records the Events of its changes. Returns what it reported on."""
        live = self._with_memory(self._reader.observe(server, manifest), manifest, resize or ResizeResult())
        observation = replace(
            observation,
            live=live,
            cluster_domain=self._cluster_domain,
            warnings=self._informers.warnings.about(key_of(manifest)),
            node=await self._reader.read_node(live),
            migration_failed=await self._reader.read_migration(live),
        )

        self._decisions.record(key_of(manifest), held_back(server, observation))

        new_status = status(server, manifest, observation, self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        if new_status != manifest.get("status"):
            started, before = monotonic(), manifest.get("status") or {}
            await self._writer.write_status(manifest, new_status)
            record_status(before, new_status, monotonic() - started)
            self._announcer.announce_status(server, manifest, new_status)
        return live

    def _recheck_seconds(self, server: DittoServer, key: ObjectKey, live: LiveState) -> float | None:
        delays = recheck_seconds(server, live, self._clock()), self._reader.recheck_seconds(key)
        return min((delay for delay in delays if delay is not None), default=None)

    def _forget(self, key: ObjectKey) -> None:
        self._rejected.pop(key, None)
        self._in_terminating_namespaces.pop(key, None)
        self._decisions.forget(key)
        self._announcer.forget(key)
        self._handover.forget(key)
        self._resizer.forget(key)
        self._reader.forget(key)
        if self._provisioner:
            self._provisioner.forget(key)


def _owner(manifest: Manifest) -> Owner:
    metadata = manifest["metadata"]
    return Owner(metadata["name"], metadata["namespace"], metadata["uid"])


def _version(manifest: Manifest) -> tuple[str, int]:
    return manifest["metadata"]["uid"], manifest["metadata"]["generation"]
