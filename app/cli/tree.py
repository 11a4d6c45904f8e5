"""`tree`: shows the objects of DittoServers below them, each with its state. Writes to no cluster."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from app.cli.options import Source, names_argument, option, source_options
from app.cli.output import print_lines
from app.cli.server_report import ServerReport, report
from app.cluster.reader import SERVICES, STATEFUL_SETS, Resource
from app.cluster.survey import Survey, survey
from app.storage.evidence import CLAIM, POD, STATEFUL_SET
from app.storage.finding import one_line
from app.storage.objects import Owner
from app.storage.pod import pod_name
from app.storage.services import services
from app.storage.spec import KIND
from app.storage.unstructured import Manifest, is_terminating

MISSING, UNKNOWN = "does not exist", "unknown"


@click.command()
@names_argument
@source_options
@option("--namespace", "-n", help="Namespace of the server; by default, the one of the kubeconfig's context.")
def tree(names: tuple[str, ...], source: Source, namespace: str | None) -> None:
    """Show the objects of DittoServers below them, each with its state.

    These are the StatefulSet, its pod, the volume claims with their volumes, and the Services. With --snapshot, all of
    its namespaces are searched unless you choose one.
    """

    async def look() -> Survey:
        async with source.open() as (reader, context_namespace, _):
            return await survey(reader, namespace or context_namespace, names=names)

    live, now = asyncio.run(look()), datetime.now(UTC)
    lines = [line for key in live.servers for line in format_tree(live, report(live, key, now))]
    print_lines(map(one_line, lines), live.gaps)


def format_tree(live: Survey, shown: ServerReport) -> Iterator[str]:
    """Yields a line for each object, those that others own being indented below them."""
    (namespace, name), pod = shown.key, shown.pod
    concern = shown.concern
    yield f"{KIND} {shown.title}: {concern.state}, {concern.reason}"

    stateful_set = live.stateful_sets.get(shown.key)
    yield f"  {STATEFUL_SET} {name}: {_describe_set(stateful_set, is_unknown=_is_unknown(live, STATEFUL_SETS))}"
    if pod:
        where = f"on node {pod.node}" if pod.node else "on no node"
        yield f"    {POD} {pod.name}: {pod.phase}, {'ready' if pod.ready else 'not ready'}, {where}"
    else:
        yield f"    {POD} {pod_name(name)}: {MISSING if shown.is_pod_known else UNKNOWN}"

    for state, _ in shown.volumes:
        if state.claim is None and live.claims is not None:
            yield f"  {CLAIM} {state.claim_name}: {MISSING}"
            continue

        size = state.capacity or "no volume yet"
        yield f"  {CLAIM} {state.claim_name}: {state.phase}, {size}, class {state.storage_class or '-'}"
        if state.claim and state.claim.volume:
            yield f"    PersistentVolume {state.claim.volume}"

    for service in services(Owner(name, namespace), shown.server.spec):
        service_name = service["metadata"]["name"]
        live_service = live.services.get((namespace, service_name))
        how = _describe_service(live_service, is_unknown=_is_unknown(live, SERVICES))
        yield f"  Service {service_name}: {how}"


def _is_unknown(live: Survey, resource: Resource) -> bool:
    """Tells whether there may be more of these objects than the survey has."""
    return any(gap.startswith(f"{resource.plural} are unknown") for gap in live.gaps)


def _describe_set(stateful_set: Manifest | None, *, is_unknown: bool) -> str:
    if stateful_set is None:
        return UNKNOWN if is_unknown else MISSING

    status, wanted = stateful_set.get("status") or {}, (stateful_set.get("spec") or {}).get("replicas", 1)
    leaving = ", is being deleted" if is_terminating(stateful_set) else ""
    return f"{status.get('readyReplicas') or 0} of {wanted} ready{leaving}"


def _describe_service(service: Manifest | None, *, is_unknown: bool) -> str:
    if service is None:
        return UNKNOWN if is_unknown else MISSING

    spec = service.get("spec") or {}
    ports = ", ".join(f"{port.get('name')} {port.get('port')}" for port in spec.get("ports") or [])
    leaving = ", is being deleted" if is_terminating(service) else ""
    return f"{spec.get('type') or 'ClusterIP'} {spec.get('clusterIP') or '-'}, {ports or 'no ports'}{leaving}"
