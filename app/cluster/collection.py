"""Collects what a support ticket about a server or the operator needs, for a person who asks once. It never writes.

Secrets are read so that their values can be found in everything else and masked there. What may not be read, or gives
no answer in time, becomes a gap.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.cluster.client import Cluster
from app.cluster.deadline import Value, answer_within
from app.cluster.errors import ClusterError, NotFound
from app.cluster.reader import (
    CLAIMS,
    CONFIG_MAPS,
    DITTO_SERVERS,
    EVENTS,
    LIMIT_RANGES,
    NODES,
    PODS,
    QUOTAS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    VOLUMES,
    Resource,
)
from app.cluster.survey import Survey
from app.storage.facts import Unknown
from app.storage.operator_checks import OperatorState
from app.storage.pod import config_map_name, pod_name
from app.storage.reading import read
from app.storage.redacted_object import literal_secrets, referenced_secrets
from app.storage.secret_mask import secret_values
from app.storage.secret_references import harmless_keys, pod_secret_names
from app.storage.services import service_names
from app.storage.unstructured import Manifest, ObjectKey
from app.storage.volumes import server_of_claim

ANSWER_SECONDS, LOG_SECONDS = 10.0, 20.0
# Of the end of each log.
LOG_LINES, LOG_BYTES = 2000, 1 << 20


@dataclass(frozen=True)
class Collection:
    """The objects by the name of a file, the logs by pod and container, and the values that nobody may see."""

    objects: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


async def collect_server(cluster: Cluster, live: Survey, key: ObjectKey) -> Collection:
    """Collects everything about a server; the logs of its pod only if the Secrets that they may repeat are known."""
    namespace, name = key
    collector, of_secrets = _Collector(cluster), _Collector(cluster)
    server, pod = live.servers[key], live.pods.get((namespace, pod_name(name)))
    stateful_set = live.stateful_sets.get(key)
    spec = read(server).server.spec
    known = [manifest for manifest in (server, stateful_set, pod) if manifest]
    names = sorted(pod_secret_names(name, spec).union(referenced_secrets(known)))

    async with asyncio.TaskGroup() as group:
        config_map = group.create_task(collector.get(CONFIG_MAPS, config_map_name(name), namespace))
        claims = group.create_task(collector.list(CLAIMS, namespace))
        quotas = group.create_task(collector.list(QUOTAS, namespace))
        limit_ranges = group.create_task(collector.list(LIMIT_RANGES, namespace))
        node_name = ((pod or {}).get("spec") or {}).get("nodeName")
        node = group.create_task(collector.get(NODES, node_name)) if node_name else None
        secrets = group.create_task(of_secrets.secrets(namespace, names))

    own_claims = [claim for claim in claims.result() if server_of_claim(claim["metadata"]["name"]) == name]
    volume_names = [claim["spec"]["volumeName"] for claim in own_claims if claim["spec"].get("volumeName")]
    volumes = [await collector.get(VOLUMES, volume) for volume in volume_names]
    services = [_with_kind(SERVICES, live.services.get((namespace, service))) for service in service_names(name)]

    values = list(literal_secrets(known))
    described = []
    for secret in secrets.result():
        metadata = {field: secret["metadata"].get(field) for field in ("name", "namespace", "creationTimestamp")}
        about = {"kind": SECRETS.kind, "metadata": metadata, "type": secret.get("type")}
        described.append({**about, "keys": sorted(secret.get("data") or {})})
        values += secret_values(secret, harmless_keys(name, spec, metadata["name"]))

    logs = {}
    if pod and not of_secrets.gaps:
        logs = await collector.logs(pod)
    elif pod:
        of_secrets.gaps.append(
            f"the logs of {namespace}/{pod['metadata']['name']} are left out: they may repeat a Secret that may not be "
            "read, and so could not be masked"
        )

    objects: dict[str, Sequence[Manifest | None]] = {
        "dittoserver": [_with_kind(DITTO_SERVERS, server)],
        "statefulset": [_with_kind(STATEFUL_SETS, stateful_set)],
        "pod": [_with_kind(PODS, pod)],
        "configmap": [config_map.result()],
        "services": services,
        "claims": own_claims,
        "volumes": volumes,
        "node": [_trim_node(node.result()) if node else None],
        "quotas-and-limits": [*quotas.result(), *limit_ranges.result()],
        "secrets": described,
    }
    existing = {file: [item for item in items if item] for file, items in objects.items()}
    return Collection(existing, logs, tuple(values), (*collector.gaps, *of_secrets.gaps))


async def collect_operator(cluster: Cluster, operator: OperatorState) -> Collection:
    """Collects everything about an operator. It never logs a secret, and its Secrets are not read."""
    collector, namespace = _Collector(cluster), operator.namespace
    pods = [] if isinstance(operator.pods, Unknown) else operator.pods
    if isinstance(operator.pods, Unknown):
        collector.gaps.append(f"pods of the operator: {operator.pods.why}")
    if isinstance(operator.lease, Unknown):
        collector.gaps.append(f"Lease of the operator: {operator.lease.why}")

    logs: dict[str, str] = {}
    for pod in pods:
        logs |= await collector.logs(pod)
    # Others may work in the namespace as well.
    name = operator.deployment["metadata"]["name"]
    events = [
        event
        for event in await collector.list(EVENTS, namespace)
        if str((event.get("involvedObject") or {}).get("name")).startswith(name)
    ]

    objects = {
        "deployment": [operator.deployment],
        "pods": pods,
        "lease": [] if isinstance(operator.lease, Unknown | None) else [operator.lease],
        "events": events,
    }
    return Collection(objects, logs, tuple(literal_secrets([operator.deployment, *pods])), tuple(collector.gaps))


class _Collector:
    def __init__(self, cluster: Cluster) -> None:
        self.gaps: list[str] = []
        self._cluster = cluster

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | None:
        """Returns None when there is no such object, or it may not be read, which is a gap then."""
        request = self._cluster.get(resource, name, namespace)
        manifest = await self._answer(f"{resource.kind} {name}", request, ANSWER_SECONDS)
        return _with_kind(resource, manifest)

    async def list(self, resource: Resource, namespace: str) -> Sequence[Manifest]:
        listing = await self._answer(resource.plural, self._cluster.list(resource, namespace), ANSWER_SECONDS)
        named = [_with_kind(resource, item) for item in (listing.items if listing else ())]
        return [item for item in named if item]

    async def secrets(self, namespace: str, names: Iterable[str]) -> Sequence[Manifest]:
        secrets = [await self.get(SECRETS, name, namespace) for name in names]
        return [secret for secret in secrets if secret]

    async def logs(self, pod: Manifest) -> dict[str, str]:
        """Returns the logs of every container by names for files, those of earlier runs included."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        logs = {}
        for container, previous in _runs(pod):
            what = f"{name}-{container}{'-previous' if previous else ''}"
            request = self._log(name, namespace, container, previous=previous)
            text = await self._answer(f"log of {namespace}/{what}", request, LOG_SECONDS)
            if text is not None:
                logs[what] = text
        return logs

    async def _log(self, pod: str, namespace: str, container: str, *, previous: bool) -> str:
        options = {
            "container": container,
            "previous": str(previous).lower(),
            "timestamps": "true",
            "tailLines": str(LOG_LINES),
            "limitBytes": str(LOG_BYTES),
        }
        content = b""
        async for chunk in self._cluster.log(pod, namespace, options, LOG_SECONDS):
            content += chunk

        text = content.decode(errors="replace")
        # What was cut off may have been the rest of a secret, which nobody would recognize.
        return text if len(content) < LOG_BYTES else text[: text.rfind("\n") + 1]

    async def _answer(self, what: str, request: Awaitable[Value], seconds: float) -> Value | None:
        try:
            return await answer_within(seconds, request)
        except NotFound:
            return None
        except ClusterError as error:
            self.gaps.append(f"{what}: {error}")
        return None


def _with_kind(resource: Resource, manifest: Manifest | None) -> Manifest | None:
    """Returns the object with its version and kind, which the items of a list lack."""
    about = {"apiVersion": resource.version, "kind": resource.kind}
    return None if manifest is None else {**about, **manifest}


def _trim_node(node: Manifest | None) -> Manifest | None:
    """Keeps the state of the node: what else runs there is nobody's business."""
    if node is None:
        return None
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return {
        "kind": NODES.kind,
        "metadata": {"name": node["metadata"]["name"], "labels": node["metadata"].get("labels") or {}},
        "spec": {name: spec[name] for name in ("taints", "unschedulable") if name in spec},
        "status": {name: status[name] for name in ("allocatable", "conditions", "nodeInfo") if name in status},
    }


def _runs(pod: Manifest) -> Iterator[tuple[str, bool]]:
    """Yields each container with whether the log of an earlier run is meant."""
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    restarted = {item["name"] for item in statuses if item.get("restartCount")}

    for container in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]:
        yield container["name"], False
        if container["name"] in restarted:
            yield container["name"], True
