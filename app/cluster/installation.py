"""Collects what is known about the operator's installation for a person who asks once. It never writes.

No lookup stops another one: what gives no answer, or none in time, is unknown, and the answer says why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.cluster.client import Cluster
from app.cluster.deadline import Value, answer_within
from app.cluster.errors import ClusterError, Forbidden, NamespaceTerminating, NotFound, NotServed
from app.cluster.reader import (
    ACCESS_REVIEWS,
    CSI_DRIVERS,
    CUSTOM_RESOURCES,
    DEPLOYMENTS,
    DITTO_SERVERS,
    LEASE_NAME,
    LEASES,
    MUTATING_WEBHOOKS,
    OWN_ACCESS_REVIEWS,
    PODS,
    STORAGE_CLASSES,
    VALIDATING_WEBHOOKS,
    Resource,
)
from app.storage.crd_checks import CRD_NAME
from app.storage.facts import Unknown
from app.storage.installation import Installation
from app.storage.operator_checks import OperatorState, is_operator
from app.storage.operator_health import trial_server
from app.storage.operator_pods import DEPLOYMENT_SELECTOR, OPERATOR_NAMESPACE, POD_SELECTOR
from app.storage.permissions import (
    OF_COMMANDS,
    OF_COMMANDS_IN_CLUSTER,
    OF_INSTALLATION,
    OF_INSTALLATION_IN_CLUSTER,
    OF_OPERATOR,
    OF_OPERATOR_IN_CLUSTER,
    Answers,
    Permission,
)
from app.storage.rollout import is_ready
from app.storage.unstructured import Manifest
from app.storage.webhook_checks import (
    Trial,
    namespace_to_try,
    own_configurations,
    unacceptable_server,
)

# As many as an API server that limits requests accepts without delay.
QUESTIONS_AT_ONCE = 10

# The name of the servers that the API server is asked to create without storing them.
TRIAL_NAME = "dittofs-doctor"


@dataclass(frozen=True)
class Patience:
    """Seconds: for an answer, while a person waits, and for a trial, in which the API server waits for webhooks."""

    answer: float = 5.0
    trial: float = 10.0


@dataclass(frozen=True)
class InstallationQuery:
    """A question about the installation: `namespace` is where the webhook and the person's permissions are tried.

    Without `operator_namespace`, the operator is looked for in all namespaces.
    """

    namespace: str
    program: str
    operator_namespace: str | None = None
    preflight: bool = False
    patience: Patience = Patience()


async def inspect_installation(cluster: Cluster, query: InstallationQuery) -> Installation:
    """Collects everything that can be found out. Raises ClusterError when the API server does not answer at all."""
    # If this fails, nothing else has to be asked.
    kubernetes = await cluster.version()
    lookups = _Lookups(cluster, query.patience.answer)

    async with asyncio.TaskGroup() as group:
        crd = group.create_task(lookups.crd())
        configurations = {
            resource.kind: group.create_task(lookups.list(resource))
            for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        }
        classes = group.create_task(lookups.list(STORAGE_CLASSES))
        drivers = group.create_task(lookups.list(CSI_DRIVERS))

    ours = {
        kind: answer if isinstance(answer := task.result(), Unknown) else own_configurations(kind, answer)
        for kind, task in configurations.items()
    }
    installation = Installation(
        now=cluster.now(),
        program=query.program,
        kubernetes=kubernetes,
        crd=crd.result(),
        configurations=ours,
        classes=classes.result(),
        drivers=_names(drivers.result()),
    )
    operators = await lookups.operators(query.operator_namespace, installation.operator_namespace)
    return await _run_trials(cluster, query, replace(installation, operators=operators))


async def _run_trials(cluster: Cluster, query: InstallationQuery, installation: Installation) -> Installation:
    """Asks what the person and the operators may do, and what the webhooks do with a server."""
    reviewer = _AccessReviewer(cluster, query.patience.answer, OWN_ACCESS_REVIEWS)
    if query.preflight:
        namespace = query.operator_namespace or OPERATOR_NAMESPACE
        permissions = [*_within(namespace, OF_INSTALLATION), *_within(None, OF_INSTALLATION_IN_CLUSTER)]
        return replace(installation, of_installation=await reviewer.ask(permissions))

    operators = () if isinstance(installation.operators, Unknown) else installation.operators
    permissions = [*_within(query.namespace, OF_COMMANDS), *_within(None, OF_COMMANDS_IN_CLUSTER)]
    async with asyncio.TaskGroup() as group:
        of_commands = group.create_task(reviewer.ask(permissions))
        of_operators = {
            operator.account: group.create_task(_review_operator(cluster, query.patience.answer, operator))
            for operator in operators
            if operator.reconciles
        }
        trials = group.create_task(_try_webhook(cluster, query, installation)) if installation.crd else None

    return replace(
        installation,
        namespace=query.namespace,
        of_commands=of_commands.result(),
        of_operators={account: task.result() for account, task in of_operators.items()},
        trials=trials.result() if trials else None,
    )


class _Lookups:
    """Looks objects up. What gives no answer within so many seconds is unknown."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self._cluster = cluster
        self._seconds = seconds

    async def list(
        self, resource: Resource, namespace: str | None = None, labels: str = ""
    ) -> Sequence[Manifest] | Unknown:
        listing = await _answer(self._cluster.list(resource, namespace, labels), self._seconds)
        return listing if isinstance(listing, Unknown) else listing.items

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | Unknown | None:
        async def get() -> Manifest | None:
            try:
                return await self._cluster.get(resource, name, namespace)
            except NotFound:
                return None

        return await _answer(get(), self._seconds)

    async def crd(self) -> Manifest | Unknown | None:
        answer = await self.get(CUSTOM_RESOURCES, CRD_NAME)
        if not isinstance(answer, Unknown):
            return answer

        # Most people may not read it, and still see in the list of APIs whether it is there.
        async def is_served() -> bool:
            try:
                await self._cluster.check_crd()
            except NotServed:
                return False
            return True

        return None if await _answer(is_served(), self._seconds) is False else answer

    async def operators(self, named_namespace: str | None, likely_namespace: str) -> Sequence[OperatorState] | Unknown:
        deployments = await self.list(DEPLOYMENTS, named_namespace, DEPLOYMENT_SELECTOR)
        if isinstance(deployments, Unknown) and not named_namespace:
            deployments = await self.list(DEPLOYMENTS, likely_namespace, DEPLOYMENT_SELECTOR)
        if isinstance(deployments, Unknown):
            return deployments

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._state(item)) for item in deployments if is_operator(item)]
        return [task.result() for task in tasks]

    async def _state(self, deployment: Manifest) -> OperatorState:
        metadata = deployment["metadata"]
        instance = (metadata.get("labels") or {}).get("app.kubernetes.io/instance")
        selector = f"{POD_SELECTOR},app.kubernetes.io/instance={instance}" if instance else POD_SELECTOR

        pods = await self.list(PODS, metadata["namespace"], selector)
        state = OperatorState(deployment, pods, await self.get(LEASES, LEASE_NAME, metadata["namespace"]))
        ready = [] if isinstance(pods, Unknown) else [pod["metadata"]["name"] for pod in pods if is_ready(pod)]

        async with asyncio.TaskGroup() as group:
            requests = {pod: self._cluster.metrics(pod, state.namespace, state.health_port) for pod in ready}
            tasks = {pod: group.create_task(_answer(request, self._seconds)) for pod, request in requests.items()}
        return replace(state, metrics={pod: task.result() for pod, task in tasks.items()})


async def _answer(request: Awaitable[Value], seconds: float) -> Value | Unknown:
    try:
        return await answer_within(seconds, request)
    except ClusterError as error:
        return Unknown(str(error))


def _names(answer: Sequence[Manifest] | Unknown) -> Collection[str] | Unknown:
    return answer if isinstance(answer, Unknown) else [item["metadata"]["name"] for item in answer]


# A permission, and the namespace that it is asked about, None for the whole cluster.
_Question = tuple[str | None, Permission]


def _within(namespace: str | None, permissions: Iterable[Permission]) -> list[_Question]:
    return [(namespace, permission) for permission in permissions]


class _AccessReviewer:
    """Asks the API server what somebody may do, which stores nothing; `subject` says who, where it is another one."""

    def __init__(self, cluster: Cluster, seconds: float, reviews: Resource, **subject: Any) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._reviews = reviews
        self._subject = subject
        self._limit = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def ask(self, questions: Sequence[_Question]) -> Answers:
        """Returns the answers; of one permission in several namespaces, the worst."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(*question)) for question in questions]

        answers: dict[Permission, bool | Unknown] = {}
        for (_, permission), task in zip(questions, tasks, strict=True):
            if answers.get(permission, True) is True:
                answers[permission] = task.result()
        return answers

    async def _ask(self, namespace: str | None, permission: Permission) -> bool | Unknown:
        resource, _, subresource = permission.resource.partition("/")
        attributes = {
            "group": permission.group,
            "resource": resource,
            "subresource": subresource,
            "verb": permission.verb,
            "name": permission.name,
            "namespace": namespace or "",
        }
        manifest = {
            "apiVersion": self._reviews.version,
            "kind": self._reviews.kind,
            "metadata": {},
            "spec": {"resourceAttributes": attributes, **self._subject},
        }

        async def ask() -> Manifest:
            async with self._limit:
                return await self._cluster.create(self._reviews, manifest)

        answer = await _answer(ask(), self._seconds)
        return answer if isinstance(answer, Unknown) else (answer.get("status") or {}).get("allowed") is True


async def _review_operator(cluster: Cluster, seconds: float, operator: OperatorState) -> Answers:
    namespaces: Sequence[str | None] = operator.namespaces or [None]
    questions = [question for namespace in namespaces for question in _within(namespace, OF_OPERATOR)]
    if not operator.namespaces:
        questions += _within(None, OF_OPERATOR_IN_CLUSTER)

    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{operator.namespace}"]
    reviewer = _AccessReviewer(cluster, seconds, ACCESS_REVIEWS, user=operator.account, groups=groups)
    return await reviewer.ask(questions)


async def _try_webhook(cluster: Cluster, query: InstallationQuery, installation: Installation) -> tuple[Trial, Trial]:
    lists = [items for items in installation.configurations.values() if not isinstance(items, Unknown)]
    namespace = namespace_to_try([item for items in lists for item in items], query.namespace)

    async def attempt(make: Callable[[str, str], Manifest]) -> Trial:
        request = cluster.create(DITTO_SERVERS, make(namespace, TRIAL_NAME), dry_run=True)
        try:
            return Trial(created=await answer_within(query.patience.trial, request))
        except ClusterError as error:
            is_terminating = isinstance(error, NamespaceTerminating)
            return Trial(
                error=str(error), is_forbidden=isinstance(error, Forbidden), is_namespace_terminating=is_terminating
            )

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(make)) for make in (unacceptable_server, trial_server)]
    unacceptable, acceptable = (task.result() for task in tasks)
    return unacceptable, acceptable
