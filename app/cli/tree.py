"""`tree`: shows DittoServers and their objects as a tree, each with its state. Writes to no cluster."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from app.cli.options import Target, report_option, target_options
from app.cli.output import print_report
from app.cli.server_report import ServerReport, report
from app.cluster.reader import SERVICES, STATEFUL_SETS
from app.cluster.survey import Survey, survey
from app.storage.evidence import CLAIM, POD, STATEFUL_SET
from app.storage.finding import one_line
from app.storage.objects import Owner
from app.storage.pod import pod_name
from app.storage.services import services
from app.storage.spec import KIND
from app.storage.unstructured import Manifest, is_terminating
from app.storage.volume_states import VolumeState

MISSING, UNKNOWN = "does not exist", "unknown"


@click.command()
@target_options
@report_option
def tree(target: Target, output: str) -> None:
    """Show DittoServers and their objects as a tree, each with its state.

    These are the StatefulSet, its pod, the volume claims with their volumes, and the Services. Without a NAME, all
    DittoServers of the namespace are shown. With --snapshot, all of its namespaces are searched unless you choose one.
    """

    async def look() -> Survey:
        async with target.open() as (reader, scope, _):
            return await survey(reader, scope.namespace, names=scope.names, labels=scope.labels)

    live, now = asyncio.run(look()), datetime.now(UTC)
    trees = [build_tree(live, report(live, key, now)) for key in sorted(live.servers)]
    lines = [line for item in trees for line in format_tree(item)] or [f"no {KIND}s found"]
    print_report(output, map(one_line, lines), map(as_json, trees), live.gaps)


@dataclass(frozen=True)
class TreeObject:
    """An object with those that it owns or that belong to it."""

    kind: str
    name: str
    state: str
    children: tuple["TreeObject", ...] = ()


def build_tree(live: Survey, shown: ServerReport) -> TreeObject:
    (namespace, name), pod = shown.key, shown.pod
    if pod:
        where = f"on node {pod.node}" if pod.node else "on no node"
        state = f"{pod.phase}, {'ready' if pod.ready else 'not ready'}, {where}"
    else:
        state = MISSING if shown.is_pod_known else UNKNOWN
    pod_object = TreeObject(POD, pod_name(name), state)

    stateful_set = live.stateful_sets.get(shown.key)
    state = _describe_set(stateful_set, is_unknown=STATEFUL_SETS in live.unknown)
    children = [TreeObject(STATEFUL_SET, name, state, (pod_object,))]
    children += [_claim(live, state) for state, _ in shown.volumes]

    for service in services(Owner(name, namespace), shown.server.spec):
        service_name = service["metadata"]["name"]
        live_service = live.services.get((namespace, service_name))
        state = _describe_service(live_service, is_unknown=SERVICES in live.unknown)
        children.append(TreeObject("Service", service_name, state))

    concern = shown.concern
    return TreeObject(KIND, shown.title, f"{concern.state}, {concern.reason}", tuple(children))


def format_tree(item: TreeObject, depth: int = 0) -> Iterator[str]:
    """Yields a line for each object, those below another being indented."""
    yield f"{'  ' * depth}{item.kind} {item.name}{': ' if item.state else ''}{item.state}"
    for child in item.children:
        yield from format_tree(child, depth + 1)


def as_json(item: TreeObject) -> Manifest:
    children = {"children": list(map(as_json, item.children))} if item.children else {}
    return {"kind": item.kind, "name": item.name, "state": item.state or None, **children}


def _claim(live: Survey, state: VolumeState) -> TreeObject:
    if state.claim is None and live.claims is not None:
        return TreeObject(CLAIM, state.claim_name, MISSING)

    volume = state.claim and state.claim.volume
    children = (TreeObject("PersistentVolume", volume, ""),) if volume else ()
    size = state.capacity or "no volume yet"
    return TreeObject(CLAIM, state.claim_name, f"{state.phase}, {size}, class {state.storage_class or '-'}", children)


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
