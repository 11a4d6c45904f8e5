"""The command line `dittofs-operator`: reads arguments and environment, calls one function, says what went wrong.

What only one command needs is imported by it: a check of one file does not wait a second for web server and client.
"""

import asyncio
import gc
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from app import check as checking
from app import df as listing
from app import logs, manifests
from app import plan as planning
from app.admission.review import creation
from app.cluster.errors import ClusterError
from app.cluster.lookup import DEADLINE, Overlay
from app.cluster.reader import Reader
from app.cluster.snapshot import DEFAULT_NAMESPACE, Snapshot
from app.cluster.survey import Stats, Survey, survey
from app.settings import ENVIRONMENT_PREFIX, AddressType, Settings, users_kubeconfig
from app.storage import objects
from app.storage.crd import custom_resource_definition
from app.storage.finding import one_line
from app.storage.live import RESIZE_PATIENCE
from app.storage.reading import read
from app.storage.rules import invalid_findings
from app.storage.spec import KIND
from app.syntax import UnusableInput

if TYPE_CHECKING:
    from app.cluster.client import Cluster

UNUSABLE_INPUT = 2

_PATH = click.Path(path_type=Path)
# A fraction of a day is for those who want to see a renewal; a century is more than any clock has to deal with.
_DAYS = click.FloatRange(0, 36500, min_open=True)


def main() -> None:
    # kubectl runs a program of this name as a command of its own.
    name = "kubectl dittofs" if Path(sys.argv[0]).name == "kubectl-dittofs" else "dittofs-operator"
    try:
        command_line(prog_name=name)
    except (UnusableInput, ClusterError, OSError) as error:
        click.echo(one_line(f"{name}: {error}"), err=True)
        sys.exit(UNUSABLE_INPUT)


def _option(flag: str, *short: str, **settings: Any) -> Callable[[Any], Any]:
    """A flag that can be set in the environment too."""
    variable = ENVIRONMENT_PREFIX + flag.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *short, envvar=variable, show_envvar=True, show_default=True, **settings)


_kubeconfig = _option("--kubeconfig", type=_PATH, help="Look things up in this cluster.")
_context = _option("--context", help="Ask the cluster of this context of the kubeconfig, not of its current one.")
_snapshot = _option("--snapshot", type=_PATH, help="Look things up in these YAML files instead of a cluster.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dittofs-operator")
def command_line() -> None:
    """The storage operator for DittoFS on Kubernetes."""


@command_line.command()
@_kubeconfig
@_snapshot
@_option("--listen", type=AddressType(), default="0.0.0.0:9443", help="Where reviews are answered, over TLS.")
@_option(
    "--tls-cert", type=_PATH, help="Certificate chain in PEM, read again when it changes; without, it makes its own."
)
@_option("--tls-key", type=_PATH, help="Its private key in PEM.")
@_option("--certificate-secret", default="dittofs-operator-tls", help="Where it keeps its own, in its own namespace.")
@_option("--service", default="dittofs-operator", help="The Service that its own is for.")
@_option("--webhook-configuration", default="dittofs-operator", help="Which both get the CA of its own as caBundle.")
@_option("--certificate-days", type=_DAYS, default=90, help="How long its own is valid; renewed at two thirds of it.")
@_option("--ca-days", type=_DAYS, default=365, help="How long the CA of its own is valid; renewed likewise.")
@_option("--reconcile/--no-reconcile", default=True, help="Make what DittoServers describe, or only judge them.")
@_option("--leader-elect/--no-leader-elect", default=True, help="Of several replicas, only one reconciles at a time.")
@_option("--namespace", multiple=True, help="Look after this namespace only; can be given more than once.")
@_option("--workers", type=click.IntRange(1, 64), default=4, help="How many DittoServers are reconciled at once.")
@_option(
    "--resize-patience-seconds",
    type=click.IntRange(1, 86400),
    default=int(RESIZE_PATIENCE.total_seconds()),
    help="How long a file system may take to grow while it is in use, before the pod is restarted for it.",
)
@_option("--health-listen", type=AddressType(), default="0.0.0.0:8081", help="/healthz, /readyz, /metrics, plain.")
def serve(**given: Any) -> None:
    """Answer the API server's admission reviews until told to stop."""
    _one_of(given["kubeconfig"], given["snapshot"])
    _both_or_neither(given["tls_cert"], given["tls_key"], given["snapshot"])
    # What is imported stays: to look through it takes a quarter of the start, and later 80 ms without one answer.
    gc.disable()
    import uvloop

    from app.admission.server import UnusableCertificate
    from app.serve import serve as serve_until_stopped

    gc.freeze()
    gc.enable()
    logs.configure()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_until_stopped(Settings(**given)))
    except UnusableCertificate as error:
        raise click.ClickException(f"{error}; python -m certs makes a pair for development") from error


@command_line.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|- ...", type=click.Path())
@_kubeconfig
@_context
@_snapshot
@_option("--output", type=click.Choice(list(checking.OUTPUTS)), default="text", help="For people, programs or GitHub.")
def check(
    paths: tuple[str, ...], kubeconfig: Path | None, context: str | None, snapshot: Path | None, output: str
) -> None:
    """Judge DittoServers before they are applied.

    With --context and without --kubeconfig, in the cluster that kubectl would ask. Exits with 0 when all are admitted,
    1 when one is rejected, 2 when the input cannot be used.
    """
    source = _source_of(kubeconfig, context, snapshot)
    documents = manifests.read(paths)
    judgements = asyncio.run(_judged(documents, source))
    if not judgements:
        click.echo(f"dittofs-operator: expected a {KIND} among the {len(documents)} documents given", err=True)
        sys.exit(UNUSABLE_INPUT)
    _show(checking.OUTPUTS[output](judgements))
    sys.exit(0 if all(judgement.admitted for judgement in judgements) else 1)


@command_line.command()
@_kubeconfig
@_context
@_snapshot
@_option("--namespace", "-n", help="List this namespace, not that of the kubeconfig's context.")
@_option("--all-namespaces", "-A", is_flag=True, help="List all namespaces.")
@_option("--output", type=click.Choice(list(listing.OUTPUTS)), default="text", help="For people or programs.")
def df(
    kubeconfig: Path | None,
    context: str | None,
    snapshot: Path | None,
    namespace: str | None,
    *,
    all_namespaces: bool,
    output: str,
) -> None:
    """List the volumes of DittoServers: what is asked for, what there is, how full it is.

    Without --kubeconfig and --snapshot, of the cluster that kubectl would ask. Of a snapshot all namespaces are listed.
    """
    source = _source_of(kubeconfig, context, snapshot)
    found = asyncio.run(_surveyed(source, namespace, all_namespaces=all_namespaces))
    _show(listing.OUTPUTS[output](listing.df(found)), found.gaps)


@command_line.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|- ...", type=click.Path())
@_kubeconfig
@_context
@_snapshot
@_option("--namespace", "-n", help="Where a DittoServer belongs that names no namespace.")
@_option("--output", type=click.Choice(list(planning.OUTPUTS)), default="text", help="For people or programs.")
def plan(
    paths: tuple[str, ...],
    kubeconfig: Path | None,
    context: str | None,
    snapshot: Path | None,
    namespace: str | None,
    output: str,
) -> None:
    """Tell what applying DittoServers would do: what grows, what restarts, what is made, what would be refused.

    Without --kubeconfig and --snapshot, in the cluster that kubectl would ask. Exits with 0 when nothing would be
    refused, 1 when something would, 2 when the input cannot be used.
    """
    source = _source_of(kubeconfig, context, snapshot)
    found = asyncio.run(_planned(_documents(paths), source, namespace))
    _show(planning.OUTPUTS[output](found.outcomes), found.gaps)
    sys.exit(1 if any(outcome.refused for outcome in found.outcomes) else 0)


@command_line.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    click.echo(manifests.dump(custom_resource_definition()), nl=False)


@command_line.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|- ...", type=click.Path())
def render(paths: tuple[str, ...]) -> None:
    """Print what is made for DittoServers, without a cluster; pipe it to kubectl diff -f -.

    Secrets are not among it, nor is the annotation of the pod that depends on what they hold.
    """
    servers = _servers(paths)
    for document in servers:
        reading = read(document.object)
        if findings := invalid_findings(reading):
            raise UnusableInput(document.file, document.line_of(findings[0].path), findings[0].message)
        for made in objects.render(reading.server):
            click.echo("---")
            click.echo(manifests.dump(made), nl=False)


@command_line.command()
@click.argument("file", type=click.Path(allow_dash=True))
def review(file: str) -> None:
    """Wrap the first DittoServer of FILE in an AdmissionReview, to post with curl."""
    server = _servers([file])[0].object
    click.echo(orjson.dumps(creation(server, str(uuid.uuid4())), option=orjson.OPT_INDENT_2).decode())


def _show(lines: Iterable[str], gaps: Iterable[str] = ()) -> None:
    """The gaps beside it, where a program that reads the lines does not look."""
    for line in lines:
        click.echo(line)
    for gap in gaps:
        click.echo(one_line(gap), err=True)


def _servers(paths: Sequence[str]) -> list[manifests.Document]:
    return [document for document in _documents(paths) if document.object["kind"] == KIND]


def _documents(paths: Sequence[str]) -> list[manifests.Document]:
    """With a DittoServer among them."""
    found = manifests.read(paths)
    if not any(document.object["kind"] == KIND for document in found):
        raise UnusableInput(", ".join(paths), None, f"expected a {KIND} in it")
    return found


def _one_of(kubeconfig: Path | None, snapshot: Path | None) -> None:
    if kubeconfig and snapshot:
        raise click.UsageError("--kubeconfig and --snapshot exclude each other: look things up in one or the other")


def _both_or_neither(certificate: Path | None, key: Path | None, snapshot: Path | None) -> None:
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key belong together: give both, or neither")
    if snapshot and not certificate:
        raise click.UsageError(
            "--snapshot needs --tls-cert and --tls-key: there is no cluster to keep a certificate in"
        )


@dataclass(frozen=True)
class _Source:
    """Where a person wants things to be looked up; without anything named, where kubectl would look."""

    kubeconfig: Path | None
    context: str | None
    snapshot: Path | None


def _source_of(kubeconfig: Path | None, context: str | None, snapshot: Path | None) -> _Source:
    _one_of(kubeconfig, snapshot)
    if context and snapshot:
        raise click.UsageError("--context and --snapshot exclude each other: a snapshot has no contexts")
    return _Source(kubeconfig, context, snapshot)


async def _judged(documents: list[manifests.Document], source: _Source) -> list[checking.Judgement]:
    async with _fallback(source) as fallback:
        return await checking.check(documents, Overlay(documents, fallback))


async def _surveyed(source: _Source, namespace: str | None, *, all_namespaces: bool) -> Survey:
    async with _opened(source) as (reader, own, stats):
        return await survey(reader, None if all_namespaces else namespace or own, stats)


async def _planned(documents: list[manifests.Document], source: _Source, namespace: str | None) -> planning.Plan:
    async with _opened(source) as (reader, own, _):
        return await planning.plan(documents, reader, namespace or own or DEFAULT_NAMESPACE)


@asynccontextmanager
async def _opened(source: _Source) -> AsyncIterator[tuple[Reader, str | None, Stats | None]]:
    """The cluster that a person means, with the namespace of its context and its kubelets; a snapshot has neither."""
    if source.snapshot:
        yield Snapshot(source.snapshot), None, None
        return
    async with _connected(source) as cluster:
        yield cluster, cluster.namespace, cluster.stats


@asynccontextmanager
async def _connected(source: _Source) -> AsyncIterator["Cluster"]:
    from app.cluster.client import Cluster

    kubeconfig = source.kubeconfig or users_kubeconfig(os.environ, Path.home())
    async with Cluster.connect(kubeconfig, context=source.context or "") as cluster:
        yield cluster


@asynccontextmanager
async def _fallback(source: _Source) -> AsyncIterator[Reader | None]:
    """Where to look for what the input does not hold; None when that stays unknown."""
    if source.kubeconfig or source.context:
        async with _connected(source) as cluster:
            # Where nobody answers in time, the look-ups say so.
            with suppress(TimeoutError):
                async with asyncio.timeout(DEADLINE):
                    await cluster.check_crd()
            yield cluster
    else:
        yield Snapshot(source.snapshot) if source.snapshot else None


if __name__ == "__main__":
    main()
