"""One DittoServer at a time: look, decide by `storage`, make what is wanted, say so in the status and in Events."""

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.cluster.cache import Key, Manifest, key_of
from app.cluster.client import Cluster
from app.cluster.observed import Observed
from app.cluster.reader import (
    CONFIG_MAPS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    Unavailable,
)
from app.cluster.secrets import Known
from app.reconcile.growth import Grown, Growth, Tell
from app.reconcile.writer import NameTaken, NotLeading, Writer
from app.storage import postgres
from app.storage.config import config_hash, config_yaml, consumed
from app.storage.facts import Claim, Secret, Unknown
from app.storage.growth import RESIZE_PATIENCE, Phase, Situation, outlooks, restart_due
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
from app.storage.pod import CONFIG_HASH, pod_name, postgres_secret_name
from app.storage.reading import read
from app.storage.references import (
    JWT_PATH,
    POSTGRES_PATH,
    SecretReference,
    consumed_references,
    generated_references,
    unusable,
)
from app.storage.rollout import blocks
from app.storage.rules import unfit
from app.storage.spec import DittoServer, Spec
from app.storage.status import CLAIM_PATIENCE_SECONDS, SERVICE_MISSING, News, Problem, Seen, conditions, news, status

TOKEN_BYTES = 32
PASSWORD_BYTES = 18  # 24 characters
TAKEN_SECONDS = 30.0
# A class that is made expandable wakes only the servers that name it; a claim may be of another one.
REFUSED_SECONDS = 60.0
WRITE_FAILED = "WriteFailed"

Digests = dict[str, Mapping[str, str]]


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Credentials:
    """What the pod's Secrets hold, by digest; `problem` is why it must not be started with them."""

    digests: Digests
    problem: Problem | None = None
    unknown: bool = False


class Reconciler:
    """Safe to be repeated and to be broken off between any two calls: what there is to do is read from the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        writer: Writer,
        tell: Tell,
        clock: Callable[[], datetime] = _utc,
        resize_patience: timedelta = RESIZE_PATIENCE,
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._writer = writer
        self._tell = tell
        self._clock = clock
        self._growth = Growth(observed, writer, tell, clock, resize_patience)
        # Versions of the Postgres Secret and of what was made of it, when they were last seen to agree.
        self._agreed: dict[Key, tuple[int, int]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """The seconds after which to look again, None when an event will say so. Raises what is worth another try."""
        manifest = self._observed.servers.get(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._agreed.pop(key, None)
            return None
        reading = read(manifest)
        server, rejections = reading.server, unfit(reading)
        if rejections:
            situation = await self._report(server, manifest, Seen(rejections=rejections), Grown())
            return self._look_again(server, situation)
        # Before anything else: a disk that is full waits for nothing, least of all for Secrets or a pod that is ready.
        grown = await self._growth.step(server, manifest, _owner(manifest))
        seen = await self._made(server, _owner(manifest))
        situation = await self._report(server, manifest, seen, grown)
        if grown.again:
            return 0.0
        # No event says when Secrets can be read or a Service may be made, nor when a name that is taken becomes free.
        failure = seen.failure or seen.services or (seen.credentials if seen.credentials_unknown else None)
        if why := failure.message if failure else grown.failure or next(iter(grown.refused.values()), None):
            raise Unavailable(why)
        return TAKEN_SECONDS if seen.taken else self._look_again(server, situation)

    async def _made(self, server: DittoServer, owner: Owner) -> Seen:
        try:
            return await self._make(server, owner)
        except (Conflict, NotLeading):
            raise
        except NameTaken as taken:
            return Seen(taken=Problem("NameTaken", str(taken)))
        except ClusterError as error:
            return Seen(failure=Problem(WRITE_FAILED, str(error)))

    async def _make(self, server: DittoServer, owner: Owner) -> Seen:
        spec = server.spec
        key = owner.namespace, owner.name
        live = self._observed.stateful_sets.get(key)
        await self._writer.ensure(CONFIG_MAPS, config_map(owner, spec), owner)
        lost = await self._generate_secrets(owner, spec, live)
        credentials = await self._credentials(owner, spec)
        if not credentials.problem:
            credentials = await self._with_postgres(owner, spec, credentials)
        if lost:
            credentials = replace(credentials, problem=lost)
        live = await self._make_stateful_set(owner, spec, credentials, live)
        await self._make_way(owner, live)
        refused = await self._make_services(owner, spec)
        await self._remove_unwanted(owner, spec)
        return Seen(credentials=credentials.problem, credentials_unknown=credentials.unknown, services=refused)

    async def _generate_secrets(self, owner: Owner, spec: Spec, live: Manifest | None) -> Problem | None:
        """What is gone while a pod that runs may still need it is not made up anew."""
        for reference in generated_references(owner.name, spec):
            if (owner.namespace, reference.secret or "") in self._observed.secrets_metadata:
                continue
            if (live and reference.secret in consumed_by(live)) or self._orphan_hash(owner):
                advice = "put it back, or delete the StatefulSet to have a new one made"
                return Problem("SecretNotFound", f"generated Secret {reference.secret} is gone: {advice}")
            await self._writer.create_secret(_generated(reference, owner, spec))
        return None

    async def _credentials(self, owner: Owner, spec: Spec) -> Credentials:
        digests: Digests = {}
        for reference in consumed_references(owner.name, spec):
            found = await self._observed.secret((owner.namespace, reference.secret)) if reference.secret else None
            secret: Secret | Unknown | None = found.secret if isinstance(found, Known) else found
            if finding := unusable(reference, secret):
                reasons = {Unknown: "SecretUnreadable", Secret: "SecretIncomplete"}
                reason = reasons.get(type(secret), "SecretNotFound")
                return Credentials({}, Problem(reason, finding.message), unknown=isinstance(secret, Unknown))
            if isinstance(found, Known) and reference.secret:
                digests[reference.secret] = found.digests
        return Credentials(digests)

    async def _with_postgres(self, owner: Owner, spec: Spec, credentials: Credentials) -> Credentials:
        """Keeps the parts of the connection string as the string is."""
        reference = next((each for each in consumed_references(owner.name, spec) if each.path == POSTGRES_PATH), None)
        if reference is None or not reference.secret or reference.secret not in credentials.digests:
            return credentials
        key = owner.namespace, owner.name
        metadata = self._observed.secrets_metadata
        source, target = (owner.namespace, reference.secret), (owner.namespace, postgres_secret_name(owner.name))
        if target in metadata and self._agreed.get(key) == (metadata.version(source), metadata.version(target)):
            return credentials
        [name] = reference.keys
        secret = await self._cluster.get(SECRETS, reference.secret, owner.namespace)
        try:
            fields = postgres.fields(decoded(secret, name.name))
        except ValueError as error:
            problem = Problem("SecretIncomplete", f'Postgres Secret "{reference.secret}" key "{name.name}": {error}')
            return replace(credentials, problem=problem)
        await self._writer.ensure_secret(postgres_secret(owner, fields), owner)
        self._agreed[key] = int(secret["metadata"]["resourceVersion"]), metadata.version(target)
        return credentials

    async def _make_stateful_set(
        self, owner: Owner, spec: Spec, credentials: Credentials, live: Manifest | None
    ) -> Manifest | None:
        if live and live["metadata"].get("deletionTimestamp"):
            return live
        if credentials.problem:
            # The pod that runs is not touched for half of a rotation; to stop it is another matter.
            if live and (spec.replicas or not live["spec"]["replicas"]):
                return live
            digest = live_hash(live) if live else self._orphan_hash(owner)
            if live is None and digest is None:
                return None
        else:
            references = consumed_references(owner.name, spec)
            digest = config_hash(config_yaml(spec), consumed(references, credentials.digests))
        templates = live_claim_templates(live) if live else None
        made = await self._writer.ensure(STATEFUL_SETS, stateful_set(owner, spec, digest, templates), owner)
        if live and live_hash(live) and live_hash(live) != digest:
            message = "the pod restarts: its configuration or the credentials that it consumes have changed"
            self._tell_of(owner, News("Normal", "Restarting", message))
        return made

    def _orphan_hash(self, owner: Owner) -> str | None:
        """What a pod that has lost its StatefulSet was configured with: it must not be alone, and not be restarted."""
        pod = self._observed.pods.get((owner.namespace, pod_name(owner.name)))
        if pod is None or pod["metadata"].get("deletionTimestamp") or controller(pod):
            return None
        return (pod["metadata"].get("annotations") or {}).get(CONFIG_HASH)

    async def _make_way(self, owner: Owner, stateful_set: Manifest | None) -> None:
        """For the pod that is wanted, where a former one that cannot get ready is in its place."""
        pod = self._observed.pods.get((owner.namespace, pod_name(owner.name)))
        if not (pod and stateful_set and blocks(pod, stateful_set)):
            return
        await self._writer.remove(PODS, pod)
        name = pod_name(owner.name)
        message = f"pod {name} was not ready before the last change; it was deleted to make way for the next one"
        self._tell_of(owner, News("Normal", "PodReplaced", message))

    async def _make_services(self, owner: Owner, spec: Spec) -> Problem | None:
        """Last, and each by itself: what keeps one from being made, such as a quota, keeps nothing else."""
        problem = None
        for service in services(owner, spec):
            try:
                await self._writer.ensure(SERVICES, service, owner)
            except (Forbidden, Invalid) as error:
                reason = WRITE_FAILED if key_of(service) in self._observed.services else SERVICE_MISSING
                problem = problem or Problem(reason, str(error))
        return problem

    async def _remove_unwanted(self, owner: Owner, spec: Spec) -> None:
        wanted = {service["metadata"]["name"] for service in services(owner, spec)}
        metrics = service_name(owner.name, "metrics")
        service = self._observed.services.get((owner.namespace, metrics))
        if metrics not in wanted and service and owner.owns(service):
            await self._writer.remove(SERVICES, service)
        secret = self._observed.secrets_metadata.get((owner.namespace, postgres_secret_name(owner.name)))
        if not (spec.database and spec.database.postgres_secret_ref) and secret and owner.owns(secret):
            await self._writer.remove(SECRETS, secret)

    async def _report(self, server: DittoServer, manifest: Manifest, seen: Seen, grown: Grown) -> Situation:
        """Gives what it told of."""
        situation = replace(self._growth.situation(server, manifest), refused=grown.refused)
        growth = Problem(WRITE_FAILED, grown.failure) if grown.failure else None
        overdue = [claim.name for claim in situation.claims.values() if self._patience_left(claim) <= 0]
        seen = replace(seen, growth=growth, situation=situation, overdue=overdue)
        found = status(server, manifest, seen, self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        if found != manifest.get("status"):
            await self._write_status(manifest, found)
        return situation

    async def _write_status(self, manifest: Manifest, found: Manifest) -> None:
        before = conditions(manifest)
        await self._writer.write_status(manifest, found)
        for each in news(before, conditions({"status": found})):
            self._tell(manifest, each)

    def _look_again(self, server: DittoServer, situation: Situation) -> float | None:
        """Only time tells that a claim waits for too long, or a file system for a restart of its pod."""
        left = [self._patience_left(claim) for claim in situation.claims.values() if claim.phase == "Pending"]
        due = restart_due(server, situation)
        delays = [seconds + 1 for seconds in left if seconds > 0]
        if due:
            delays.append(max((due - self._clock()).total_seconds(), 0.0) + 1)
        if any(look.phase == Phase.RESIZE_REFUSED for look in outlooks(server, situation)):
            delays.append(REFUSED_SECONDS)
        return min(delays, default=None)

    def _patience_left(self, claim: Claim) -> float:
        """Seconds until it has had time enough to be bound."""
        created = datetime.fromisoformat(claim.created)
        return (created + timedelta(seconds=CLAIM_PATIENCE_SECONDS) - self._clock()).total_seconds()

    def _tell_of(self, owner: Owner, each: News) -> None:
        manifest = self._observed.servers.get((owner.namespace, owner.name))
        if manifest:
            self._tell(manifest, each)


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
