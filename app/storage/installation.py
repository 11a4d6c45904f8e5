"""Everything that is known about the operator in a cluster, and the checks of it in their order. Looks nothing up."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.storage.checkup import Check, CheckResult, has_problem
from app.storage.class_checks import class_checks
from app.storage.crd_checks import CRD_NAME, crd_checks
from app.storage.facts import Unknown
from app.storage.next_step import NextStep
from app.storage.operator_checks import OperatorState, operator_checks
from app.storage.operator_pods import LIST_RELEASES, OPERATOR_NAMESPACE
from app.storage.permissions import Answers, command_checks, installation_checks, operator_permission_checks
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from app.storage.webhook_checks import Trial, call_checks, configuration_checks

KUBERNETES, INSTALLATION = "Kubernetes", "installation"
# Match conditions of webhooks are stable from here on, as the chart says as well.
OLDEST_KUBERNETES = (1, 30)

_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True)
class Installation:
    """Holds what is known at one moment: None does not exist, Unknown gave no answer.

    `configurations` are by kind, and only those with a webhook of this operator. `trials` are what the API server did
    with a server to reject and one to accept, and `namespace` is where the permissions of commands were asked about.
    """

    now: datetime
    program: str
    kubernetes: str
    crd: Manifest | Unknown | None = None
    configurations: Mapping[str, Sequence[Manifest] | Unknown] = field(default_factory=dict)
    operators: Sequence[OperatorState] | Unknown = ()
    trials: tuple[Trial, Trial] | None = None
    classes: Sequence[Manifest] | Unknown = ()
    drivers: Collection[str] | Unknown = ()
    namespace: str = "default"
    of_commands: Answers = field(default_factory=dict)
    of_installation: Answers = field(default_factory=dict)
    of_operators: Mapping[str, Answers] = field(default_factory=dict)

    @property
    def is_absent(self) -> bool:
        """Tells whether nothing of the operator is in the cluster, as far as anybody may look."""
        configured = [item for item in self.configurations.values() if isinstance(item, Unknown) or item]
        return self.crd is None and not configured and (isinstance(self.operators, Unknown) or not self.operators)

    @property
    def webhook_address(self) -> str:
        """The Service, or the URL, where the API server calls the webhooks; empty when nobody knows."""
        lists = [item for item in self.configurations.values() if not isinstance(item, Unknown)]
        clients = [webhook["clientConfig"] for items in lists for item in items for webhook in item["webhooks"]]

        for client in clients:
            if url := client.get("url"):
                return str(url)
            if service := client.get("service"):
                return f"{service.get('namespace')}/{service.get('name')}"
        return ""

    @property
    def operator_namespace(self) -> str:
        if not isinstance(self.operators, Unknown) and self.operators:
            return self.operators[0].namespace
        address = self.webhook_address
        return OPERATOR_NAMESPACE if not address or ":" in address else address.partition("/")[0]


def checks(installation: Installation) -> Iterator[Check]:
    """Checks an operator that is installed, and the cluster that it works in."""
    yield _kubernetes_check(installation.kubernetes)
    yield from class_checks(installation.classes, installation.drivers)
    yield from command_checks(installation.of_commands, installation.namespace)
    if installation.is_absent:
        unknown = " as far as you may look" if isinstance(installation.operators, Unknown) else ""
        message = f"nothing of the operator is installed{unknown}"
        step = NextStep(
            "See whether the cluster is ready for it, and install it.", "kubectl dittofs doctor --preflight"
        )
        yield Check(INSTALLATION, CheckResult.PROBLEM, message, step)
        return

    yield from crd_checks(installation.crd, installation.program)
    yield from configuration_checks(installation.configurations, installation.now)
    if installation.trials:
        yield from call_checks(*installation.trials, installation.operator_namespace)
    yield from operator_checks(
        installation.operators, installation.webhook_address, installation.program, installation.now
    )

    for account, answers in installation.of_operators.items():
        yield from operator_permission_checks(account, answers)


def preflight_checks(installation: Installation) -> Iterator[Check]:
    """Checks whether the operator can be installed, or upgraded, by whoever asks."""
    before = [
        _kubernetes_check(installation.kubernetes),
        *class_checks(installation.classes, installation.drivers),
        *installation_checks(installation.of_installation),
    ]
    yield from before

    if has_problem(before):
        message = "this cluster is not ready for the operator, or not for you to install it"
        yield Check(INSTALLATION, CheckResult.PROBLEM, message, NextStep("Solve the problems above first."))
    elif installation.is_absent:
        message = f"the operator is not installed yet, and the cluster is ready for its version {installation.program}"
        yield Check(INSTALLATION, CheckResult.OK, message)
    else:
        yield _upgrade_check(installation)


def _upgrade_check(installation: Installation) -> Check:
    operators = () if isinstance(installation.operators, Unknown) else installation.operators
    if operators:
        titles = ", ".join(f"{operator.title} of image {operator.image}" for operator in operators)
        message = f"the operator is installed already: {titles}"
        step = NextStep("Upgrade it instead of installing another one.", LIST_RELEASES)
        return Check(INSTALLATION, CheckResult.WARNING, message, step)

    if isinstance(installation.crd, dict):
        message = (
            f"the CustomResourceDefinition {CRD_NAME} exists, and no Deployment of this operator: {KIND}s are kept"
        )
        step = NextStep(
            "If the Go operator manages them, see what becomes of them.",
            "dittofs-operator check --from-go --context CONTEXT",
        )
        return Check(INSTALLATION, CheckResult.WARNING, message, step)

    message = "a part of the operator may be installed, and not everything may be looked at"
    return Check(INSTALLATION, CheckResult.UNKNOWN, message, NextStep("Ask an administrator to run this command."))


def _kubernetes_check(version: str) -> Check:
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    match = _VERSION.match(version)
    if match is None:
        step = NextStep("See what answers for the API server.", "kubectl version")
        message = f"the version {version} cannot be read; {oldest} or newer is needed"
        return Check(KUBERNETES, CheckResult.UNKNOWN, message, step)

    if (int(match[1]), int(match[2])) < OLDEST_KUBERNETES:
        step = NextStep(f"Upgrade the cluster to Kubernetes {oldest} or newer.")
        return Check(KUBERNETES, CheckResult.PROBLEM, f"version {version} is older than {oldest}", step)
    return Check(KUBERNETES, CheckResult.OK, f"version {version} is supported")
