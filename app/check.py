"""Judges DittoServers in manifests, as the webhook would, before anything is applied. Writes to no cluster."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import orjson

from app.cluster.errors import ClusterError
from app.cluster.lookup import gather
from app.cluster.reader import DITTO_SERVERS, Reader
from app.manifests import Document
from app.storage.finding import Finding, one_line, rejections, warnings
from app.storage.rules import Change, needs
from app.storage.spec import KIND
from app.storage.strictness import judge_manifest


@dataclass(frozen=True)
class Judgement:
    """One DittoServer of the input and everything that was found about it."""

    document: Document
    findings: Sequence[Finding]

    @property
    def admitted(self) -> bool:
        return not rejections(self.findings)

    @property
    def title(self) -> str:
        metadata = self.document.object.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        name = metadata.get("name") or f"{metadata.get('generateName', '')}*"
        return one_line(f"{KIND} {metadata.get('namespace') or 'default'}/{name}")


async def check(documents: Iterable[Document], reader: Reader) -> list[Judgement]:
    """Each DittoServer as if it were created; the order is that of the input."""
    servers = [document for document in documents if document.object.get("kind") == KIND]
    return [Judgement(document, await _findings(document, reader)) for document in servers]


def text(judgements: Sequence[Judgement]) -> Iterator[str]:
    """For people; styled, and click takes the style off where the output is no terminal."""
    for judgement in judgements:
        verdict = _styled("admitted", "green") if judgement.admitted else _styled("rejected", "red")
        document = judgement.document
        file = one_line(document.file)
        yield f"{file} document {document.index}: {click.style(judgement.title, bold=True)} {verdict}"
        for finding in judgement.findings:
            label = _styled("error  ", "red") if finding.rejects else _styled("warning", "yellow")
            yield f"  {label} {file}:{document.line_of(finding.path)} {one_line(finding.path) or 'object'}"
            yield f"          {finding.message}"
    yield _summary(judgements)


def json(judgements: Sequence[Judgement]) -> Iterator[str]:
    """For programs: a list with one object a DittoServer."""
    yield orjson.dumps([_plain(judgement) for judgement in judgements], option=orjson.OPT_INDENT_2).decode()


def github(judgements: Sequence[Judgement]) -> Iterator[str]:
    """Workflow commands that GitHub shows as annotations of the changed lines."""
    for judgement in judgements:
        document = judgement.document
        for finding in judgement.findings:
            place = f"file={_property(document.file)},line={document.line_of(finding.path)}"
            title = _property(f"{judgement.title} {one_line(finding.path)}".strip())
            yield f"::{finding.severity} {place},title={title}::{_data(finding.message)}"
    yield _summary(judgements)


OUTPUTS = {"text": text, "json": json, "github": github}


async def _findings(document: Document, reader: Reader) -> list[Finding]:
    change = Change.read(document.object)
    if await _exists(change, reader):
        # The volumes that it has are no surprise.
        change = replace(change, exists=True)
    return judge_manifest(document.object, change, await gather(reader, needs(change)))


async def _exists(change: Change, reader: Reader) -> bool:
    """Where that cannot be found out, the server is judged as a new one in this, too."""
    if not change.added:
        return False
    try:
        await reader.get(DITTO_SERVERS, change.name, change.new.server.metadata.namespace)
    except ClusterError:
        return False
    return True


def _summary(judgements: Sequence[Judgement]) -> str:
    rejected = sum(not judgement.admitted for judgement in judgements)
    warned = sum(len(warnings(judgement.findings)) for judgement in judgements)
    return f"{len(judgements)} {KIND}s: {len(judgements) - rejected} admitted, {rejected} rejected, {warned} warnings"


def _plain(judgement: Judgement) -> dict[str, Any]:
    document = judgement.document
    return {
        "file": document.file,
        "document": document.index,
        "object": judgement.title,
        "admitted": judgement.admitted,
        "findings": [
            {
                "severity": finding.severity,
                "path": finding.path,
                "line": document.line_of(finding.path),
                "message": finding.message,
            }
            for finding in judgement.findings
        ],
    }


def _styled(word: str, colour: str) -> str:
    return click.style(word, fg=colour)


def _data(message: str) -> str:
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    escaped = _data(value).replace(":", "%3A").replace(",", "%2C")
    return one_line(escaped)
