"""Checks the operator's Deployment, the Lease of its leader, and the versions of both. Looks nothing up."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.storage.checkup import Check, CheckResult
from app.storage.facts import Unknown
from app.storage.names import image_tag
from app.storage.next_step import NextStep
from app.storage.objects import OPERATOR
from app.storage.operator_health import leaderless_since
from app.storage.operator_pods import HEALTH_PORT, LIST_RELEASES, OPERATOR_NAMESPACE, describe_pods, show_log
from app.storage.unstructured import Manifest, key_of

DEPLOYMENT, LEADER, VERSIONS, CERTIFICATE = "operator", "leader", "versions", "webhook certificate"
_INSTALL = f"helm install {OPERATOR} charts/{OPERATOR} --namespace {OPERATOR_NAMESPACE} --create-namespace --wait"
# What the operator serves at /metrics of its health port.
_EXPIRY = re.compile(
    r'^dittofs_operator_certificate_expiry_timestamp_seconds\{certificate="serving"\} ([-+0-9.e]{1,30})$', re.MULTILINE
)
_BUILD = re.compile(r'^dittofs_operator_build_info\{[^}\n]{0,200}version="([^"\n]{1,40})"\} 1', re.MULTILINE)
# Certificates are renewed after two thirds of their life.
RENEWAL_OVERDUE = timedelta(days=7)


@dataclass(frozen=True)
class OperatorState:
    """A Deployment of the operator with its pods and its Lease, None where it does not exist.

    `metrics` are what each of its pods that is ready serves.
    """

    deployment: Manifest
    pods: Sequence[Manifest] | Unknown
    lease: Manifest | Unknown | None
    metrics: Mapping[str, str | Unknown] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return key_of(self.deployment)[0]

    @property
    def title(self) -> str:
        return f"Deployment {'/'.join(key_of(self.deployment))}"

    @property
    def arguments(self) -> list[str]:
        return [str(argument) for argument in self._container.get("args") or ()]

    @property
    def image(self) -> str:
        return str(self._container.get("image") or "")

    @property
    def account(self) -> str:
        """The ServiceAccount as RBAC names it."""
        name = self.deployment["spec"]["template"]["spec"].get("serviceAccountName") or "default"
        return f"system:serviceaccount:{self.namespace}:{name}"

    @property
    def namespaces(self) -> list[str]:
        """The namespaces whose servers it manages; none stands for all."""
        prefix = "--namespace="
        return [argument.removeprefix(prefix) for argument in self.arguments if argument.startswith(prefix)]

    @property
    def health_port(self) -> int:
        ports = [argument.rpartition(":")[2] for argument in self.arguments if argument.startswith("--health-listen=")]
        return int(ports[-1]) if ports and ports[-1].isdecimal() else HEALTH_PORT

    @property
    def reconciles(self) -> bool:
        return "--no-reconcile" not in self.arguments

    @property
    def elects(self) -> bool:
        return self.reconciles and "--no-leader-elect" not in self.arguments

    @property
    def _container(self) -> Mapping[str, Any]:
        containers = self.deployment["spec"]["template"]["spec"]["containers"]
        named = (container for container in containers if container["name"] == "operator")
        return next(named, containers[0])


def is_operator(deployment: Manifest) -> bool:
    """Tells whether it is this operator's: the Go operator has the same name."""
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/component") == "operator"


def operator_checks(
    operators: Sequence[OperatorState] | Unknown, address: str, program: str, now: datetime
) -> Iterator[Check]:
    """Checks every Deployment; `address` is where the webhooks are called, and `program` the version of this one."""
    if isinstance(operators, Unknown):
        step = NextStep("Name the operator's namespace with --operator-namespace, or ask an administrator.")
        yield Check(DEPLOYMENT, CheckResult.UNKNOWN, f"Deployments are unknown: {operators.why}", step)
    elif not operators:
        yield _missing_check(address)
    elif len(operators) > 1 and not all(operator.namespaces for operator in operators):
        titles = ", ".join(operator.title for operator in operators)
        step = NextStep("Uninstall one, or give each namespaces of its own.", LIST_RELEASES)
        yield Check(DEPLOYMENT, CheckResult.PROBLEM, f"several operators manage the same servers: {titles}", step)

    for operator in () if isinstance(operators, Unknown) else operators:
        yield _deployment_check(operator)
        yield _leader_check(operator, now)
        yield from _certificate_checks(operator, now)
        yield _version_check(operator, program)


def _missing_check(address: str) -> Check:
    if address.startswith("https:"):
        message = f"there is no Deployment of the operator; the webhooks are called at {address}"
        step = NextStep("See whether the operator runs where you have started it.")
        return Check(DEPLOYMENT, CheckResult.WARNING, message, step)

    step = NextStep("Install the operator.", _INSTALL)
    return Check(DEPLOYMENT, CheckResult.PROBLEM, "there is no Deployment of the operator", step)


def _deployment_check(operator: OperatorState) -> Check:
    status, wanted = operator.deployment.get("status") or {}, operator.deployment["spec"].get("replicas", 1)
    available, generation = status.get("availableReplicas") or 0, operator.deployment["metadata"].get("generation", 0)
    is_settled = (status.get("observedGeneration") or 0) >= generation and status.get("updatedReplicas") == wanted

    how = f"{operator.title} has {available} of {wanted} pods available"
    if available == wanted and available and is_settled:
        return Check(DEPLOYMENT, CheckResult.OK, f"{how}, of image {operator.image}")

    why = "; ".join(dict.fromkeys(_pod_problems(operator))) or "the pods do not say why"
    step = NextStep("Remove the cause that the pods report.", describe_pods(operator.namespace))

    if not available:
        return Check(DEPLOYMENT, CheckResult.PROBLEM, f"{how}: {why}", step)

    what = how if available < wanted else f"{how}, and a rollout is not complete"
    return Check(DEPLOYMENT, CheckResult.WARNING, f"{what}: {why}", step)


def _pod_problems(operator: OperatorState) -> Iterator[str]:
    """Yields why pods are not ready, as the kubelet and the scheduler say."""
    if isinstance(operator.pods, Unknown):
        yield f"pods are unknown: {operator.pods.why}"
        return

    for pod in operator.pods:
        status, name = pod.get("status") or {}, pod["metadata"]["name"]
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                yield f"{name} has no node: {condition.get('message') or condition.get('reason')}"

        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                yield f"{name}: {waiting['reason']} {waiting.get('message') or ''}".strip()
            elif (container.get("state") or {}).get("running") and not container.get("ready"):
                yield f"{name} runs and is not ready"

    conditions = (operator.deployment.get("status") or {}).get("conditions") or ()
    failures = [item for item in conditions if item["type"] == "ReplicaFailure" and item["status"] == "True"]
    yield from (str(item.get("message")) for item in failures)


def _leader_check(operator: OperatorState, now: datetime) -> Check:
    if not operator.elects:
        why = "elects no leader" if operator.reconciles else "only answers reviews and reconciles nothing"
        return Check(LEADER, CheckResult.OK, f"{operator.title} {why}, as its arguments say")
    if isinstance(operator.lease, Unknown):
        step = NextStep("Ask an administrator to run this command.")
        return Check(LEADER, CheckResult.UNKNOWN, f"the Lease is unknown: {operator.lease.why}", step)

    step = NextStep("See in the operator's log why none of its pods leads.", show_log(operator.namespace))
    if operator.lease is None:
        message = (
            f"there is no Lease {OPERATOR} in {operator.namespace}: no pod has ever led, and nothing is reconciled"
        )
        return Check(LEADER, CheckResult.PROBLEM, message, step)

    spec = operator.lease.get("spec") or {}
    holder, renewed = str(spec.get("holderIdentity") or ""), spec.get("renewTime")
    if not holder:
        return Check(LEADER, CheckResult.PROBLEM, "nobody holds the Lease: nothing is reconciled", step)

    if leaderless := leaderless_since(operator.lease, now):
        message = f"{holder} was the last to lead, and renewed its Lease at {leaderless}: nothing is reconciled"
        return Check(LEADER, CheckResult.PROBLEM, message, step)

    if renewed is None:
        return Check(LEADER, CheckResult.PROBLEM, f"the Lease of {holder} was never renewed", step)
    return Check(LEADER, CheckResult.OK, f"{holder} leads")


def _certificate_checks(operator: OperatorState, now: datetime) -> Iterator[Check]:
    """Checks the certificate that each pod says it serves."""
    unknown = [metrics.why for metrics in operator.metrics.values() if isinstance(metrics, Unknown)]
    if unknown:
        step = NextStep("Ask an administrator for the permission to get pods/proxy.")
        message = f"the certificates that {len(unknown)} pods serve are unknown: {unknown[0]}"
        yield Check(CERTIFICATE, CheckResult.UNKNOWN, message, step)

    known: dict[str, datetime] = {}
    for pod, metrics in operator.metrics.items():
        match = None if isinstance(metrics, Unknown) else _EXPIRY.search(metrics)
        if match and (end := _time(match[1])):
            known[pod] = end
    if not known:
        return

    pod, end = min(known.items(), key=lambda item: item[1])
    step = NextStep("See in the operator's log what its certificate waits for.", show_log(operator.namespace))
    if end <= now:
        message = f"the certificate that {pod} serves has expired at {end:%FT%TZ}"
        yield Check(CERTIFICATE, CheckResult.PROBLEM, message, step)
    elif end - now < RENEWAL_OVERDUE:
        message = f"the certificate that {pod} serves expires at {end:%FT%TZ}, and should have been renewed"
        yield Check(CERTIFICATE, CheckResult.WARNING, message, step)
    else:
        message = f"the certificates of {len(known)} pods are valid until {end:%FT%TZ}"
        yield Check(CERTIFICATE, CheckResult.OK, message)


def _time(seconds: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _version_check(operator: OperatorState, program: str) -> Check:
    labels = operator.deployment["metadata"].get("labels") or {}
    texts = [text for text in operator.metrics.values() if not isinstance(text, Unknown)]
    running = sorted({match[1] for text in texts for match in _BUILD.finditer(text)})
    if len(running) > 1:
        step = NextStep("Wait until the rollout is complete.", describe_pods(operator.namespace))
        return Check(
            VERSIONS, CheckResult.WARNING, f"pods of versions {', '.join(running)} run beside each other", step
        )

    version = next(iter(running), None) or image_tag(operator.image) or labels.get("app.kubernetes.io/version")
    if version is None:
        step = NextStep("Compare it with the version of this program.", show_log(operator.namespace))
        return Check(VERSIONS, CheckResult.UNKNOWN, f"the image {operator.image} does not say its version", step)
    if version.removeprefix("v") == program:
        return Check(VERSIONS, CheckResult.OK, f"the operator and this program are of version {program}")

    message = f"the operator is of version {version}, and this program of {program}: they may judge differently"
    return Check(VERSIONS, CheckResult.WARNING, message, NextStep("Install the same version of both."))
