"""Tells what applying DittoServers would do to a cluster, before it is done. Writes to no cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click
import orjson

from app.cluster.lookup import Overlay, gather
from app.cluster.reader import Reader
from app.cluster.snapshot import objects
from app.cluster.survey import Survey, survey
from app.manifests import Document
from app.storage.defaulting import set_defaults
from app.storage.edit import Effect, caveat, creation, edit, held_back
from app.storage.finding import Finding, one_line, rejections
from app.storage.resize import ALLOW_DATA_LOSS, may_lose_data, may_restart
from app.storage.rules import Change, needs
from app.storage.spec import KIND
from app.storage.strictness import judge_manifest

_LABELS = {True: f", {click.style('restarts the pod', fg='yellow')}", False: ", no restart", None: ""}


@dataclass(frozen=True)
class Outcome:
    """What becomes of one DittoServer; `is_new` says that there is none of its name. Refused, nothing becomes of it.

    `held` is why the operator does not end the pod for it, None when it does or need not.
    """

    namespace: str
    name: str
    is_new: bool
    findings: Sequence[Finding] = ()
    effects: Sequence[Effect] = ()
    caveat: str | None = None
    held: str | None = None

    @property
    def refused(self) -> bool:
        return bool(rejections(self.findings))

    @property
    def restarts(self) -> bool:
        return any(effect.restarts for effect in self.effects)


@dataclass(frozen=True)
class Plan:
    """`gaps` say what is unknown of the cluster, and why."""

    outcomes: Sequence[Outcome] = ()
    gaps: Sequence[str] = field(default=())


async def plan(documents: Sequence[Document], reader: Reader, namespace: str) -> Plan:
    """Each DittoServer as if it replaced the one there is, in the `namespace` if it names none.

    Raises ClusterError and UnusableInput.
    """
    given = [document for document in documents if document.object["kind"] == KIND]
    # Only for their shape: the name counts here, and what is generated is new in any case. A status is never applied.
    objects(replace(document, object=_without_status(document.object)) for document in given)
    servers = [_placed(document.object, namespace) for document in given]
    overlay = Overlay(documents, reader)
    namespaces = sorted({server["metadata"]["namespace"] for server in servers})
    surveys = {each: await survey(overlay, each) for each in namespaces}
    outcomes = [await _outcome(server, overlay, surveys[server["metadata"]["namespace"]]) for server in servers]
    return Plan(outcomes, sorted({gap for found in surveys.values() for gap in found.gaps}))


def text(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """For people; styled, and click takes the style off where the output is no terminal."""
    for outcome in outcomes:
        title = one_line(f"{KIND} {outcome.namespace}/{outcome.name}")
        yield f"{click.style(title, bold=True)}: {_verdict(outcome)}"
        for finding in outcome.findings:
            label = click.style("refused", fg="red") if finding.rejects else click.style("warning", fg="yellow")
            yield f"  {label}: {one_line(finding.path) or 'object'}: {finding.message}"
        for effect in outcome.effects:
            yield f"  {one_line(f'{effect.what}: {effect.how}')}{_LABELS[effect.restarts]}"
        if outcome.caveat:
            yield f"  ({one_line(outcome.caveat)})"
        if outcome.held:
            yield f'  ({one_line(outcome.held)}; annotation {ALLOW_DATA_LOSS}: "true" lets it restart anyway)'


def json(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """For programs: a list with one object a DittoServer."""
    yield orjson.dumps([_plain(outcome) for outcome in outcomes], option=orjson.OPT_INDENT_2).decode()


OUTPUTS = {"text": text, "json": json}


async def _outcome(manifest: Mapping[str, Any], reader: Reader, found: Survey) -> Outcome:
    key = manifest["metadata"]["namespace"], str(manifest["metadata"].get("name") or "")
    live = found.servers.get(key)
    new, old = set_defaults(manifest), live and set_defaults(live)
    change = Change.read(new, old)
    findings = judge_manifest(manifest, change, await gather(reader, needs(change)))
    outcome = Outcome(*key, is_new=live is None, findings=findings)
    if outcome.refused:
        return outcome
    live_state = found.live_state(key)
    if live_state:
        live_state = replace(live_state, may_restart=may_restart(manifest), may_lose_data=may_lose_data(manifest))
    effects = edit(old, new, live_state) if old else creation(new, live_state)
    outcome = replace(outcome, effects=effects)
    if live_state is None:
        return outcome
    return replace(outcome, caveat=caveat(effects, live_state), held=held_back(new, effects, live_state))


def _without_status(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name != "status"}


def _placed(manifest: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return {**manifest, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}


def _verdict(outcome: Outcome) -> str:
    if outcome.refused:
        return click.style("refused", fg="red")
    if outcome.is_new:
        return "new"
    if not outcome.effects:
        return "nothing changes"
    if outcome.held:
        return click.style("the restart is held back", fg="red")
    return click.style("the pod restarts", fg="yellow") if outcome.restarts else "no restart"


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "namespace": outcome.namespace,
        "server": outcome.name,
        "new": outcome.is_new,
        "refused": outcome.refused,
        "restarts": outcome.restarts,
        "findings": [
            {"severity": finding.severity, "path": finding.path, "message": finding.message}
            for finding in outcome.findings
        ],
        "effects": [
            {"what": effect.what, "how": effect.how, "restarts": effect.restarts} for effect in outcome.effects
        ],
        "caveat": outcome.caveat,
        "heldBack": outcome.held,
    }
