"""`plan`: previews what applying DittoServers would do to a cluster. Writes to no cluster."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import click

from app.cli.options import (
    Source,
    defaults_options,
    option,
    output_option,
    paths_argument,
    read_documents,
    source_options,
)
from app.cli.output import finding_as_json, format_json, print_lines
from app.cluster.lookup import gather
from app.cluster.overlay import Overlay
from app.cluster.reader import Reader
from app.cluster.snapshot import objects
from app.cluster.survey import Survey, survey
from app.manifests import Document
from app.storage.change import Change
from app.storage.defaulting import set_defaults
from app.storage.edit import Effect, caveat, creation, edit, held_back
from app.storage.finding import Finding, one_line, rejections
from app.storage.pause import is_paused_after
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.resize import ALLOW_DATA_LOSS, may_lose_data, may_restart
from app.storage.rules import needs
from app.storage.spec import KIND
from app.storage.strictness import judge_manifest
from app.storage.unstructured import DEFAULT_NAMESPACE


@click.command()
@paths_argument
@source_options
@option(
    "--namespace",
    "-n",
    help="Namespace of DittoServers whose manifest names none; by default, the one of the kubeconfig's context.",
)
@defaults_options
@output_option
def plan(paths: tuple[str, ...], source: Source, namespace: str | None, output: str, defaults: ObjectDefaults) -> None:
    """Preview what applying DittoServer manifests would change.

    FILE is a manifest in YAML or JSON, DIR a folder with manifests in it or below it, and - is standard input. For each
    DittoServer, the preview shows which volumes grow, whether the pod restarts, which objects are created, and what
    would be refused. Nothing is written. Without --kubeconfig and --snapshot, the manifests are compared with the
    cluster that kubectl uses.

    Exits with 0 if nothing would be refused, with 1 if something would, and with 2 if the input cannot be used.
    """
    documents = read_documents(paths)

    async def look() -> Preview:
        async with source.open() as (reader, context_namespace, _):
            return await preview(documents, reader, namespace or context_namespace or DEFAULT_NAMESPACE, defaults)

    result = asyncio.run(look())
    outcomes = result.outcomes
    print_lines([format_json(map(as_json, outcomes))] if output == "json" else format_text(outcomes), result.gaps)

    sys.exit(1 if any(outcome.refused for outcome in outcomes) else 0)


@dataclass(frozen=True)
class Outcome:
    """The outcome of applying one DittoServer; without effects, if refused."""

    namespace: str
    name: str
    is_new: bool  # Its name is not in use.
    findings: Sequence[Finding] = ()
    effects: Sequence[Effect] = ()
    caveat: str | None = None
    held: str | None = None  # Why the operator would not end the pod for the change; None when it would, or need not.

    @property
    def refused(self) -> bool:
        return bool(rejections(self.findings))

    @property
    def restarts(self) -> bool:
        return any(effect.restarts for effect in self.effects)


@dataclass(frozen=True)
class Preview:
    """The outcomes in the order of the input; `gaps` say what is unknown about the cluster, and why."""

    outcomes: Sequence[Outcome] = ()
    gaps: Sequence[str] = ()


async def preview(
    documents: Sequence[Document], reader: Reader, namespace: str, defaults: ObjectDefaults = NO_DEFAULTS
) -> Preview:
    """Compares every DittoServer with the live one of its name. Raises ClusterError and UnusableInput.

    Without `defaults`, the operator's settings are taken to be those that the live pod was rendered with.
    """
    servers = [document for document in documents if document.object["kind"] == KIND]
    # This only checks their shape. A status is never applied, so it may have any shape.
    objects(replace(server, object={**server.object, "status": None}) for server in servers)

    overlay = Overlay(documents, reader)
    surveys: dict[str, Survey] = {}
    outcomes = []
    for server in servers:
        # A server of another version, which is refused below, can have any shape.
        metadata = server.object.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        key = metadata.get("namespace") or namespace, str(metadata.get("name") or "")
        manifest = {**server.object, "metadata": {**metadata, "namespace": key[0]}}

        if key[0] not in surveys:
            surveys[key[0]] = await survey(overlay, key[0])
        live_server = surveys[key[0]].servers.get(key)
        new, old = set_defaults(manifest), live_server and set_defaults(live_server)

        change = Change.read(new, old)
        findings = judge_manifest(manifest, change, await gather(overlay, needs(change, defaults)))
        outcome = Outcome(*key, is_new=live_server is None, findings=findings)
        if outcome.refused:
            outcomes.append(outcome)
            continue

        live_state = surveys[key[0]].live_state(key)
        if live_state:
            live_state = replace(live_state, may_restart=may_restart(manifest), may_lose_data=may_lose_data(manifest))
            if defaults != NO_DEFAULTS:
                live_state = replace(live_state, defaults=defaults)

        now = datetime.now(UTC)
        effects = edit(old, new, live_state, now) if old else creation(new, live_state, now)
        outcome = replace(outcome, effects=effects)
        if live_state:
            held = None if is_paused_after(old or {}, new) else held_back(new, effects, live_state)
            outcome = replace(outcome, caveat=caveat(effects, live_state), held=held)
        outcomes.append(outcome)

    return Preview(outcomes, sorted({gap for live in surveys.values() for gap in live.gaps}))


def format_text(outcomes: Sequence[Outcome]) -> Iterator[str]:
    restart_labels = {True: f", {click.style('restarts the pod', fg='yellow')}", False: ", no restart", None: ""}

    for outcome in outcomes:
        title = one_line(f"{KIND} {outcome.namespace}/{outcome.name}")
        if outcome.refused:
            verdict = click.style("refused", fg="red")
        elif outcome.is_new:
            verdict = "new"
        elif not outcome.effects:
            verdict = "nothing changes"
        elif outcome.held:
            verdict = click.style("the restart is held back", fg="red")
        else:
            verdict = click.style("the pod restarts", fg="yellow") if outcome.restarts else "no restart"
        yield f"{click.style(title, bold=True)}: {verdict}"

        for finding in outcome.findings:
            label = click.style("refused", fg="red") if finding.rejects else click.style("warning", fg="yellow")
            yield f"  {label}: {one_line(finding.path) or 'object'}: {finding.message}"

        for effect in outcome.effects:
            yield f"  {one_line(f'{effect.what}: {effect.how}')}{restart_labels[effect.restarts]}"

        if outcome.caveat:
            yield f"  ({one_line(outcome.caveat)})"
        if outcome.held:
            yield f'  ({one_line(outcome.held)}; annotation {ALLOW_DATA_LOSS}: "true" lets it restart anyway)'


def as_json(outcome: Outcome) -> dict[str, Any]:
    effects = [{"what": effect.what, "how": effect.how, "restarts": effect.restarts} for effect in outcome.effects]

    return {
        "namespace": outcome.namespace,
        "server": outcome.name,
        "new": outcome.is_new,
        "refused": outcome.refused,
        "restarts": outcome.restarts,
        "findings": [finding_as_json(finding) for finding in outcome.findings],
        "effects": effects,
        "caveat": outcome.caveat,
        "heldBack": outcome.held,
    }
