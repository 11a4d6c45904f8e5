from pathlib import Path

import yaml

from app.storage.checkup import CheckResult
from app.storage.facts import Unknown
from app.storage.permissions import (
    OF_COMMANDS,
    OF_COMMANDS_IN_CLUSTER,
    OF_INSTALLATION,
    OF_INSTALLATION_IN_CLUSTER,
    OF_OPERATOR,
    OF_OPERATOR_IN_CLUSTER,
    Permission,
    command_checks,
    installation_checks,
    operator_permission_checks,
)

ROOT = Path(__file__).parent.parent.parent
ACCOUNT = "system:serviceaccount:dittofs-system:dittofs-operator"
INSTALLED = list(yaml.load_all((ROOT / "manifests/install.yaml").read_text(), yaml.CSafeLoader))


def test_the_operator_is_asked_about_all_that_the_chart_grants() -> None:
    [rules] = [
        manifest["rules"]
        for manifest in INSTALLED
        if (manifest["kind"], manifest["metadata"]["name"]) == ("ClusterRole", "dittofs-operator")
    ]
    granted = {
        Permission(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert {*OF_OPERATOR, *OF_OPERATOR_IN_CLUSTER} == granted


def test_whoever_installs_is_asked_about_all_kinds_of_the_chart() -> None:
    asked = {permission.resource for permission in (*OF_INSTALLATION, *OF_INSTALLATION_IN_CLUSTER)}
    kinds = {f"{manifest['kind'].lower()}s" for manifest in INSTALLED} - {"namespaces"}

    # Helm stores a release in a Secret, and runs the Job that waits until admission answers.
    assert asked == kinds | {"secrets", "jobs"}


def test_all_permissions_are_one_line() -> None:
    [check] = command_checks(dict.fromkeys([*OF_COMMANDS, *OF_COMMANDS_IN_CLUSTER], True), "media")
    assert (check.result, check.step) == (CheckResult.OK, None)


def test_each_command_that_lacks_a_permission_is_named() -> None:
    log, node = Permission("", "pods/log", "get"), Permission("", "nodes/proxy", "get")
    checks = list(command_checks({log: False, node: False, Permission("", "events", "list"): True}, "media"))

    assert [check.result for check in checks] == [CheckResult.WARNING] * 2
    assert checks[0].message == "you may not get pods/log: logs and report have no logs"
    assert checks[0].step
    assert checks[0].step.command == "kubectl -n media auth can-i get pods --subresource=log"


def test_who_cannot_be_asked_is_unknown() -> None:
    answers = dict.fromkeys(OF_OPERATOR, Unknown("forbidden: subjectaccessreviews"))
    [check] = operator_permission_checks(ACCOUNT, answers)

    assert check.result == CheckResult.UNKNOWN
    assert check.message == f"{len(OF_OPERATOR)} permissions are unknown: forbidden: subjectaccessreviews"


def test_an_operator_without_a_permission_is_a_problem() -> None:
    granted = dict.fromkeys([*OF_OPERATOR, *OF_OPERATOR_IN_CLUSTER], True)
    [check] = operator_permission_checks(ACCOUNT, {**granted, Permission("apps", "statefulsets", "patch"): False})

    assert (check.result, check.message) == (CheckResult.PROBLEM, f"{ACCOUNT} may not patch statefulsets")


def test_an_operator_can_do_without_the_cluster() -> None:
    answers = dict.fromkeys(OF_OPERATOR, True) | dict.fromkeys(OF_OPERATOR_IN_CLUSTER, False)
    [check] = operator_permission_checks(ACCOUNT, answers)

    assert check.result == CheckResult.WARNING


def test_who_may_not_install_is_a_problem() -> None:
    [check] = installation_checks({Permission("apps", "deployments", "create"): False})
    assert (check.result, check.message) == (CheckResult.PROBLEM, "you may not create deployments")


def test_nobody_is_told_about_what_was_not_asked() -> None:
    assert [*command_checks({}, "media"), *installation_checks({}), *operator_permission_checks(ACCOUNT, {})] == []
