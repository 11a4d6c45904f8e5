"""`check`: judges DittoServers in manifests as the webhook would, before anything is applied. Writes to no cluster."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import click

from app.cli import takeover
from app.cli.options import Source, defaults_options, option, read_documents, source_options
from app.cli.output import finding_as_json, format_json, print_lines
from app.cluster.errors import ClusterError
from app.cluster.lookup import DEADLINE_SECONDS, gather
from app.cluster.overlay import Overlay
from app.cluster.reader import DITTO_SERVERS, Reader
from app.cluster.snapshot import Snapshot
from app.manifests import Document
from app.storage.change import Change
from app.storage.finding import Finding, one_line, rejections, warnings
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.rules import needs
from app.storage.spec import KIND
from app.storage.strictness import judge_manifest


@click.command()
@click.argument("paths", nargs=-1, metavar="FILE|DIR|- ...", type=click.Path())
@source_options
@option(
    "--from-go",
    is_flag=True,
    help="Report what becomes of the servers of the Go operator, instead of checking manifests.",
)
@option("--namespace", "-n", help="With --from-go: namespace of the servers; by default, all namespaces.")
@option(
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="Output format: text for people, json for programs, github for annotations of GitHub Actions.",
)
@defaults_options
def check(
    paths: tuple[str, ...],
    source: Source,
    output: str,
    namespace: str | None,
    defaults: ObjectDefaults,
    *,
    from_go: bool,
) -> None:
    """Check DittoServer manifests before applying them.

    FILE is a manifest in YAML or JSON, DIR a folder with manifests in it or below it, and - is standard input. Each
    DittoServer is judged by the rules of the admission webhook. What it refers to, such as a StorageClass, is looked up
    in the input, and then in the snapshot or cluster that --snapshot, --kubeconfig or --context names. Without one, you
    are warned about what could not be verified. --context without --kubeconfig reads the kubeconfig of kubectl.

    With --from-go, the DittoServers in the cluster or snapshot are those of the Go operator. The report says for
    each one what is adopted, what restarts, what is lost, and what to do first.

    Exits with 0 if all DittoServers are admitted, with 1 if one is rejected or something has to be done first, and
    with 2 if the input cannot be used.
    """
    if from_go:
        if paths or output == "github":
            raise click.UsageError("--from-go takes neither files nor --output github: it looks at a cluster")
        sys.exit(_report_takeovers(source, namespace, output))
    if not paths:
        raise click.UsageError("Missing argument 'FILE|DIR|- ...'.")
    documents = read_documents(paths)

    async def judge() -> list[Judgement]:
        async with open_reader(source) as reader:
            return await judge_documents(documents, Overlay(documents, reader), defaults)

    judgements = asyncio.run(judge())

    if output == "json":
        print_lines([format_json(map(as_json, judgements))])
    else:
        print_lines(format_github(judgements) if output == "github" else format_text(judgements))

    sys.exit(0 if all(judgement.admitted for judgement in judgements) else 1)


def _report_takeovers(source: Source, namespace: str | None, output: str) -> int:
    """Returns the exit code."""

    async def look() -> takeover.Report:
        async with source.open() as (reader, _, _):
            return await takeover.report(reader, namespace)

    result = asyncio.run(look())
    takeovers = result.takeovers
    lines = [format_json(map(takeover.as_json, takeovers))] if output == "json" else takeover.format_text(takeovers)
    print_lines(lines, result.gaps)
    return 1 if any(server.migration.first for server in takeovers) else 0


@asynccontextmanager
async def open_reader(source: Source) -> AsyncIterator[Reader | None]:
    """Yields what to ask for objects that the input does not contain, or None if they stay unknown."""
    if not source.kubeconfig and not source.context:
        yield Snapshot(source.snapshot) if source.snapshot else None
        return

    async with source.connect() as cluster:
        # If nobody answers in time, the lookups report that.
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await cluster.check_crd()

        yield cluster


@dataclass(frozen=True)
class Judgement:
    """One DittoServer of the input with its findings."""

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


async def judge_documents(
    documents: Iterable[Document], reader: Reader, defaults: ObjectDefaults = NO_DEFAULTS
) -> list[Judgement]:
    """Judges every DittoServer as if it were created, in the order of the input."""
    judgements = []
    for document in documents:
        if document.object.get("kind") != KIND:
            continue

        change = Change.read(document.object)
        if change.added:
            # The volumes of a live server are no surprise. If the lookup fails, the server is judged as a new one.
            with suppress(ClusterError):
                live = await reader.get(DITTO_SERVERS, change.name, change.new.server.metadata.namespace)
                change = replace(change, exists=True, live=live)

        facts = await gather(reader, needs(change, defaults))
        judgements.append(Judgement(document, judge_manifest(document.object, change, facts)))

    return judgements


def format_text(judgements: Sequence[Judgement]) -> Iterator[str]:
    for judgement in judgements:
        document = judgement.document
        file = one_line(document.file)
        verdict = click.style("admitted", fg="green") if judgement.admitted else click.style("rejected", fg="red")
        yield f"{file} document {document.index}: {click.style(judgement.title, bold=True)} {verdict}"

        for finding in judgement.findings:
            label = click.style("error  ", fg="red") if finding.rejects else click.style("warning", fg="yellow")
            yield f"  {label} {file}:{document.line_of(finding.path)} {one_line(finding.path) or 'object'}"
            yield f"          {finding.message}"

    yield _summarize(judgements)


def format_github(judgements: Sequence[Judgement]) -> Iterator[str]:
    """Yields workflow commands, which GitHub shows as annotations of the changed lines."""
    for judgement in judgements:
        document = judgement.document
        file = _escape_property(document.file)

        for finding in judgement.findings:
            title = _escape_property(f"{judgement.title} {one_line(finding.path)}".strip())
            place = f"file={file},line={document.line_of(finding.path)},title={title}"
            yield f"::{finding.severity} {place}::{_escape_data(finding.message)}"

    yield _summarize(judgements)


def _escape_data(message: str) -> str:
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(value: str) -> str:
    return one_line(_escape_data(value).replace(":", "%3A").replace(",", "%2C"))


def _summarize(judgements: Sequence[Judgement]) -> str:
    rejected = sum(not judgement.admitted for judgement in judgements)
    warned = sum(len(warnings(judgement.findings)) for judgement in judgements)
    return f"{len(judgements)} {KIND}s: {len(judgements) - rejected} admitted, {rejected} rejected, {warned} warnings"


def as_json(judgement: Judgement) -> dict[str, Any]:
    document = judgement.document
    return {
        "file": document.file,
        "document": document.index,
        "object": judgement.title,
        "admitted": judgement.admitted,
        "findings": [{**finding_as_json(item), "line": document.line_of(item.path)} for item in judgement.findings],
    }
