"""Reports for `check --from-go` what becomes of servers of the Go operator. It writes to no cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from app.cluster.errors import ClusterError, NotFound
from app.cluster.reader import NETWORK_POLICIES, SECRETS, SERVICES, Reader
from app.cluster.snapshot import Snapshot
from app.cluster.survey import Survey, survey
from app.storage.facts import Secret
from app.storage.finding import one_line
from app.storage.live import LiveState
from app.storage.migration import Migration, plan_migration
from app.storage.reading import read
from app.storage.secret_references import consumed_references, generated_references
from app.storage.spec import KIND
from app.storage.takeover import former_admin_secret_name
from app.storage.unstructured import Manifest, ObjectKey, namespaced_key

_DEFAULT_TYPE = "ClusterIP"
GUIDE = "docs/how-to/migrate-from-the-go-operator.md"


@dataclass(frozen=True)
class Takeover:
    """One server and what becomes of it."""

    namespace: str
    name: str
    migration: Migration


@dataclass(frozen=True)
class Report:
    """Lists all servers by namespace and name; `gaps` say what is unknown about the cluster, and why."""

    takeovers: Sequence[Takeover] = ()
    gaps: Sequence[str] = ()


async def report(reader: Reader, namespace: str | None) -> Report:
    """Looks at every server of a namespace, or of all of them. Raises ClusterError when they cannot be listed."""
    live = await survey(reader, namespace)
    gaps = list(live.gaps)
    others: dict[str, dict[str, str]] = {}
    for resource in (SERVICES, NETWORK_POLICIES):
        try:
            listing = await reader.list(resource, namespace)
        except ClusterError as error:
            gaps.append(f"{resource.plural} are unknown: {error}")
            continue

        for item in listing.items:
            within, name = namespaced_key(item)
            types = others.setdefault(within, {})
            types[f"{resource.kind} {name}"] = str((item.get("spec") or {}).get("type") or _DEFAULT_TYPE)

    takeovers = []
    for key, manifest in sorted(live.servers.items()):
        state, gap = await _with_secrets(reader, key, manifest, live)
        gaps += [gap] if gap else []
        migration = plan_migration(manifest, state, others.get(key[0], {}), knows_secrets=gap is None)
        takeovers.append(Takeover(*key, migration))

    return Report(takeovers, sorted(set(gaps)))


async def _with_secrets(
    reader: Reader, key: ObjectKey, manifest: Manifest, live: Survey
) -> tuple[LiveState, str | None]:
    """Returns the state with the metadata of its Secrets, and why these are unknown. No value is kept."""
    namespace, name = key
    state = live.live_state(key) or LiveState(claims_gap="they may not be listed")
    if isinstance(reader, Snapshot) and not (await reader.list(SECRETS)).items:
        return state, "Secrets are unknown: the snapshot has none"

    former_name = former_admin_secret_name(name)
    references = consumed_references(name, read(manifest).server.spec)
    manifests = {}
    for secret in (*(reference.secret for reference in references if reference.secret), former_name):
        try:
            manifests[secret] = await reader.get(SECRETS, secret, namespace)
        except NotFound:
            continue
        except ClusterError as error:
            return state, f"Secrets are unknown: {error}"

    generated = {reference.secret or "" for reference in generated_references(name, read(manifest).server.spec)}
    metadata = {secret: {"metadata": content["metadata"]} for secret, content in manifests.items()}
    state = replace(
        state,
        secrets={secret: Secret.read(content) for secret, content in manifests.items()},
        generated_secrets={secret: about for secret, about in metadata.items() if secret in generated},
        former_admin_secret=metadata.get(former_name),
    )
    return state, None


def format_text(takeovers: Sequence[Takeover]) -> Iterator[str]:
    if not takeovers:
        yield f"no {KIND}s found"
        return

    for takeover in takeovers:
        migration = takeover.migration
        title = click.style(one_line(f"{KIND} {takeover.namespace}/{takeover.name}"), bold=True)
        if migration.first:
            verdict = click.style("not yet: something has to be done first", fg="red")
        elif migration.is_done:
            verdict = click.style("taken over already", fg="green")
        else:
            verdict = click.style("can be taken over", fg="green")
        yield f"{title}: {verdict}"

        yield from (f"  {click.style('first', fg='red')}    {one_line(what)}" for what in migration.first)
        yield f"  {click.style('restart', fg='yellow') if migration.restarts else 'restart'}  {migration.restart}"
        yield from (f"  adopted  {one_line(what)}" for what in migration.adopted)
        for path, consequence in (migration.ignored or {}).items():
            yield f"  {click.style('lost', fg='yellow')}     {one_line(path)}: {consequence}"

    blocked = sum(bool(takeover.migration.first) for takeover in takeovers)
    restarts = sum(takeover.migration.restarts for takeover in takeovers)
    yield f"{len(takeovers)} {KIND}s: {blocked} need something done first, {restarts} pods restart once; see {GUIDE}"


def as_json(takeover: Takeover) -> dict[str, Any]:
    migration = takeover.migration
    return {
        "namespace": takeover.namespace,
        "server": takeover.name,
        "ready": not migration.first,
        "done": migration.is_done,
        "first": list(migration.first),
        "restarts": migration.restarts,
        "restart": migration.restart,
        "adopted": list(migration.adopted),
        "ignoredFields": [{"path": path, "consequence": text} for path, text in (migration.ignored or {}).items()],
    }
