"""The permissions that the operator and the commands need, and what goes wrong without them. Asks for none."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.storage.checkup import Check, CheckResult
from app.storage.facts import SNAPSHOT_GROUP, Unknown
from app.storage.next_step import NextStep
from app.storage.spec import GROUP, PLURAL

_ADMISSION = "admissionregistration.k8s.io"
_EXTENSIONS = "apiextensions.k8s.io"
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, order=True)
class Permission:
    """One verb on one resource, whose subresource follows a slash; an empty `name` stands for any object."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


# What RBAC says about each permission; Unknown where nobody could ask.
Answers = Mapping[Permission, bool | Unknown]

# The permissions that the commands need in the namespace of a server, each with what does not work without it.
OF_COMMANDS = {
    Permission(GROUP, PLURAL, "list"): "no command finds a server",
    Permission(GROUP, PLURAL, "create"): "doctor cannot try the webhook",
    Permission(GROUP, PLURAL, "patch"): "pause, resume and restart are refused",
    Permission("", "persistentvolumeclaims", "list"): "status, df and tree show no volumes",
    Permission("apps", "statefulsets", "list"): "tree and df show no StatefulSets",
    Permission("", "pods", "list"): "status and tree show no pods",
    Permission("", "services", "list"): "tree shows no Services",
    Permission("", "events", "list"): "status and events show no Events",
    Permission("", "pods/log", "get"): "logs and report have no logs",
    Permission("", "secrets", "get"): "credentials cannot tell what is wrong with a Secret, and report has no logs",
}
# Those that apply to no namespace.
OF_COMMANDS_IN_CLUSTER = {
    Permission("storage.k8s.io", "storageclasses", "list"): "check and plan cannot verify a StorageClass",
    Permission("", "nodes/proxy", "get"): "status and df do not know how full volumes are",
}

# What `helm install` creates; RBAC also demands that whoever grants a permission has it.
OF_INSTALLATION_IN_CLUSTER = (
    Permission(_EXTENSIONS, "customresourcedefinitions", "create"),
    Permission(_RBAC, "clusterroles", "create"),
    Permission(_RBAC, "clusterrolebindings", "create"),
    Permission(_ADMISSION, "mutatingwebhookconfigurations", "create"),
    Permission(_ADMISSION, "validatingwebhookconfigurations", "create"),
)
OF_INSTALLATION = (
    Permission("apps", "deployments", "create"),
    # Of the hook that waits until admission answers.
    Permission("batch", "jobs", "create"),
    Permission("", "services", "create"),
    Permission("", "serviceaccounts", "create"),
    Permission(_RBAC, "roles", "create"),
    Permission(_RBAC, "rolebindings", "create"),
    Permission("policy", "poddisruptionbudgets", "create"),
    Permission("", "secrets", "create"),
)


def _permissions(group: str, resources: str, verbs: str) -> Iterator[Permission]:
    for resource in resources.split():
        yield from (Permission(group, resource, verb) for verb in verbs.split())


# What the operator needs to reconcile, in its namespaces or in all of them; tests compare it with the chart's roles.
OF_OPERATOR = (
    *_permissions("", "secrets persistentvolumeclaims serviceaccounts", "get"),
    *_permissions(SNAPSHOT_GROUP, "volumesnapshots", "get"),
    *_permissions(GROUP, PLURAL, "list watch patch"),
    *_permissions(GROUP, f"{PLURAL}/status", "patch"),
    *_permissions(GROUP, f"{PLURAL}/finalizers", "update"),
    *_permissions("apps", "statefulsets", "get list watch create update patch delete"),
    *_permissions("", "services configmaps", "get list watch create update patch delete"),
    *_permissions("", "secrets", "list watch create patch delete"),
    *_permissions("", "persistentvolumeclaims", "list watch patch"),
    *_permissions("", "pods", "get list watch patch delete"),
    *_permissions("", "pods/log", "get"),
    *_permissions("", "events", "get list watch create update"),
)
# An operator that is confined to namespaces has none of these, and takes what they are about for unknown.
OF_OPERATOR_IN_CLUSTER = (
    *_permissions("storage.k8s.io", "storageclasses", "list watch"),
    *_permissions("scheduling.k8s.io", "priorityclasses", "get"),
    *_permissions("", "nodes", "get"),
)


def command_checks(answers: Answers, namespace: str) -> Iterator[Check]:
    """Checks what the commands need in this namespace, as far as it was asked."""
    name, purposes = "your permissions", OF_COMMANDS | OF_COMMANDS_IN_CLUSTER
    yield from _unknown_checks(name, answers)

    refused = [permission for permission, answer in answers.items() if answer is False]
    for permission in refused:
        message = f"you may not {permission}: {purposes[permission]}"
        step = NextStep("Ask an administrator for the permission.", _can_i(permission, namespace))
        yield Check(name, CheckResult.WARNING, message, step)

    if answers and all(answer is True for answer in answers.values()):
        yield Check(name, CheckResult.OK, "you have every permission that the commands need")


def installation_checks(answers: Answers) -> Iterator[Check]:
    """Checks what whoever installs the operator needs, as far as it was asked."""
    name = "permissions to install"
    yield from _unknown_checks(name, answers)

    if refused := [str(permission) for permission, answer in answers.items() if answer is False]:
        step = NextStep("Let an administrator of the cluster install the operator.")
        yield Check(name, CheckResult.PROBLEM, f"you may not {', '.join(refused)}", step)
    elif answers and all(answer is True for answer in answers.values()):
        yield Check(name, CheckResult.OK, "you may create everything that the chart installs")


def operator_permission_checks(account: str, answers: Answers) -> Iterator[Check]:
    """Checks what the operator's ServiceAccount, named as RBAC does, needs."""
    name = "operator permissions"
    yield from _unknown_checks(name, answers)

    refused = [permission for permission, answer in answers.items() if answer is False]
    lacking = [str(permission) for permission in refused if permission not in OF_OPERATOR_IN_CLUSTER]
    if lacking:
        step = NextStep("Install the roles of the chart (rbac.create), of the same version as the operator's image.")
        yield Check(name, CheckResult.PROBLEM, f"{account} may not {', '.join(lacking)}", step)
    elif refused:
        step = NextStep("Install the roles of the chart (rbac.create).")
        message = f"{account} may not {', '.join(map(str, refused))}: the operator takes these for unknown"
        yield Check(name, CheckResult.WARNING, message, step)
    elif answers and all(answer is True for answer in answers.values()):
        yield Check(name, CheckResult.OK, f"{account} may do everything that the operator needs")


def _unknown_checks(name: str, answers: Answers) -> Iterator[Check]:
    """Yields one check for all answers that nobody could get, since they have the same cause."""
    reasons = [answer.why for answer in answers.values() if isinstance(answer, Unknown)]
    if reasons:
        step = NextStep("Ask an administrator to run this command.")
        yield Check(name, CheckResult.UNKNOWN, f"{len(reasons)} permissions are unknown: {reasons[0]}", step)


def _can_i(permission: Permission, namespace: str) -> str:
    resource, _, subresource = permission.resource.partition("/")
    kind = f"{resource}.{permission.group}" if permission.group else resource
    within = "" if permission in OF_COMMANDS_IN_CLUSTER else f" -n {shlex.quote(namespace)}"
    suffix = f" --subresource={subresource}" if subresource else ""
    return f"kubectl{within} auth can-i {permission.verb} {kind}{suffix}"
