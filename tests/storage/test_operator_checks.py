from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.checkup import Check, CheckResult
from app.storage.facts import Unknown
from app.storage.operator_checks import OperatorState, is_operator, operator_checks
from app.storage.unstructured import Manifest

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
[DEPLOYMENT] = [
    manifest
    for manifest in yaml.load_all((ROOT / "manifests/install.yaml").read_text(), yaml.CSafeLoader)
    if manifest["kind"] == "Deployment"
]
TITLE = "Deployment dittofs-system/dittofs-operator"


def operator(*arguments: str, available: int = 2, namespace: str = "", image: str = "", **parts: Any) -> OperatorState:
    metadata = {**DEPLOYMENT["metadata"], "generation": 1}
    if namespace:
        metadata["namespace"] = namespace
    [container] = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    container = {**container, "args": [*container["args"], *arguments], "image": image or container["image"]}
    pod = {**DEPLOYMENT["spec"]["template"]["spec"], "containers": [{"name": "proxy"}, container]}
    spec = {**DEPLOYMENT["spec"], "template": {**DEPLOYMENT["spec"]["template"], "spec": pod}}
    status = {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": available}
    return OperatorState({"metadata": metadata, "spec": spec, "status": status}, **{"pods": (), "lease": None, **parts})


def lease(holder: str = "pod_1", ago: float = 1, **spec: Any) -> Manifest:
    renewed = (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed, **spec}}


def check(state: OperatorState, name: str) -> Check:
    [only] = [check for check in operator_checks([state], "", "0.1.0", NOW) if check.name == name]
    assert (only.step is None) == (only.result == CheckResult.OK)
    return only


def verdict(state: OperatorState, name: str) -> tuple[CheckResult, str]:
    only = check(state, name)
    return only.result, only.message


def test_a_deployment_that_is_available_is_fine() -> None:
    assert verdict(operator(), "operator") == (
        CheckResult.OK,
        f"{TITLE} has 2 of 2 pods available, of image localhost/dittofs-operator:0.1.0",
    )


def test_no_pod_is_a_problem_with_its_cause() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    pods = [{"metadata": {"name": "operator-1"}, "status": {"containerStatuses": [waiting]}}]
    only = check(operator(available=0, pods=pods), "operator")

    assert only.result == CheckResult.PROBLEM
    assert only.message == f"{TITLE} has 0 of 2 pods available: operator-1: ImagePullBackOff not found"
    assert only.step
    assert only.step.command
    assert only.step.command.startswith("kubectl -n dittofs-system describe pods")


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
            "p has no node: 0/3 nodes are available",
        ),
        ({"containerStatuses": [{"state": {"running": {}}}]}, "the pods do not say why"),
        ({"containerStatuses": [{"state": {"running": {"startedAt": "x"}}}]}, "p runs and is not ready"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]}, "the pods do not say why"),
    ],
)
def test_one_pod_is_a_warning_with_its_cause(status: Manifest, cause: str) -> None:
    state = operator(available=1, pods=[{"metadata": {"name": "p"}, "status": status}])
    assert verdict(state, "operator") == (CheckResult.WARNING, f"{TITLE} has 1 of 2 pods available: {cause}")


def test_what_keeps_pods_from_being_created_is_quoted() -> None:
    state = operator(available=0, pods=Unknown("forbidden"))
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    state.deployment["status"]["conditions"] = [failure]

    assert verdict(state, "operator")[1].endswith("pods are unknown: forbidden")
    assert verdict(OperatorState(state.deployment, (), None), "operator")[1].endswith("exceeded quota")


def test_a_rollout_that_is_not_complete_is_a_warning() -> None:
    state = operator()
    state.deployment["metadata"]["generation"] = 2
    assert verdict(state, "operator")[0] == CheckResult.WARNING


def test_a_fresh_lease_names_the_leader() -> None:
    assert verdict(operator(lease=lease()), "leader") == (CheckResult.OK, "pod_1 leads")


@pytest.mark.parametrize(
    ("live", "message"),
    [
        (None, "there is no Lease dittofs-operator in dittofs-system: no pod has ever led, and nothing is reconciled"),
        (lease(""), "nobody holds the Lease: nothing is reconciled"),
        (
            lease(ago=60),
            "pod_1 was the last to lead, and renewed its Lease at 2026-02-01T11:59:00Z: nothing is reconciled",
        ),
        ({"spec": {"holderIdentity": "a"}}, "the Lease of a was never renewed"),
    ],
)
def test_a_lease_that_nobody_renews_is_a_problem(live: Manifest | None, message: str) -> None:
    assert verdict(operator(lease=live), "leader") == (CheckResult.PROBLEM, message)


def test_a_lease_that_may_not_be_read_is_unknown() -> None:
    assert verdict(operator(lease=Unknown("forbidden")), "leader")[0] == CheckResult.UNKNOWN


@pytest.mark.parametrize("argument", ["--no-leader-elect", "--no-reconcile"])
def test_who_elects_nobody_needs_no_lease(argument: str) -> None:
    assert verdict(operator(argument), "leader")[0] == CheckResult.OK


@pytest.mark.parametrize(
    ("image", "result"),
    [
        ("registry.example.com/dittofs-operator:v0.1.0", CheckResult.OK),
        ("registry.example.com/dittofs-operator:0.2.0", CheckResult.WARNING),
        # The label of the Deployment says it.
        (f"registry.example.com/dittofs-operator@sha256:{'a' * 64}", CheckResult.OK),
    ],
)
def test_versions_are_compared(image: str, result: CheckResult) -> None:
    assert verdict(operator(image=image), "versions")[0] == result


def test_an_image_without_a_version_is_unknown() -> None:
    state = operator(image="dittofs-operator")
    state.deployment["metadata"]["labels"] = {}
    assert verdict(state, "versions")[0] == CheckResult.UNKNOWN


def metrics(version: str = "0.1.0", days: float = 60) -> str:
    end = NOW.timestamp() + days * 86400
    return f"""\
# HELP dittofs_operator_build_info 1, with the versions of the operator and of Python.
dittofs_operator_build_info{{python="3.13.1",version="{version}"}} 1.0
dittofs_operator_certificate_expiry_timestamp_seconds{{certificate="ca"}} 1.0
dittofs_operator_certificate_expiry_timestamp_seconds{{certificate="serving"}} {end:g}
"""


@pytest.mark.parametrize(
    ("days", "result", "text"),
    [
        (60, CheckResult.OK, "the certificates of 2 pods are valid until 2026-"),
        (3, CheckResult.WARNING, "the certificate that b serves expires at 2026-02-0"),
        (-1, CheckResult.PROBLEM, "the certificate that b serves has expired at 2026-01-3"),
    ],
)
def test_the_certificate_that_ends_first_counts(days: float, result: CheckResult, text: str) -> None:
    state = operator(metrics={"a": metrics(), "b": metrics(days=days)})
    live, message = verdict(state, "webhook certificate")

    assert (live, message[: len(text)]) == (result, text)


def test_metrics_that_cannot_be_read_are_unknown() -> None:
    state = operator(metrics={"a": Unknown("forbidden"), "b": Unknown("forbidden")})
    assert verdict(state, "webhook certificate") == (
        CheckResult.UNKNOWN,
        "the certificates that 2 pods serve are unknown: forbidden",
    )


@pytest.mark.parametrize("text", ["", "nonsense", metrics().replace("serving", "x"), metrics(days=1e9)])
def test_metrics_without_a_time_say_nothing(text: str) -> None:
    state = operator(metrics={"a": text})
    assert [item for item in operator_checks([state], "", "0.1.0", NOW) if item.name == "webhook certificate"] == []


def test_the_version_is_that_of_the_pods() -> None:
    newer = operator(metrics={"a": metrics("0.2.0")})
    both = operator(metrics={"a": metrics("0.2.0"), "b": metrics("0.1.0")})

    assert verdict(newer, "versions")[1].startswith("the operator is of version 0.2.0, and this program of 0.1.0")
    assert verdict(both, "versions") == (
        CheckResult.WARNING,
        "pods of versions 0.1.0, 0.2.0 run beside each other",
    )


def test_the_port_of_metrics_is_that_of_the_arguments() -> None:
    assert operator().health_port == 8081
    assert operator("--health-listen=0.0.0.0:9000").health_port == 9000
    assert operator("--health-listen=odd").health_port == 8081


def test_a_missing_deployment_depends_on_the_webhook() -> None:
    [inside] = operator_checks([], "dittofs-system/dittofs-operator", "0.1.0", NOW)
    [outside] = operator_checks([], "https://operator.example.com/validate", "0.1.0", NOW)

    assert (inside.result, outside.result) == (CheckResult.PROBLEM, CheckResult.WARNING)
    assert "the webhooks are called at https://operator.example.com/validate" in outside.message


def test_deployments_that_may_not_be_listed_are_unknown() -> None:
    [only] = operator_checks(Unknown("forbidden"), "", "0.1.0", NOW)
    assert (only.result, only.message) == (CheckResult.UNKNOWN, "Deployments are unknown: forbidden")


def test_two_operators_for_the_same_servers_are_a_problem() -> None:
    two = [operator(lease=lease()), operator(lease=lease(), namespace="other")]
    [problem] = [item for item in operator_checks(two, "", "0.1.0", NOW) if item.result == CheckResult.PROBLEM]
    assert problem.message == (f"several operators manage the same servers: {TITLE}, Deployment other/dittofs-operator")

    confined = [
        operator("--namespace=a", lease=lease()),
        operator("--namespace=b", lease=lease(), namespace="other"),
    ]
    assert [state.namespaces for state in confined] == [["a"], ["b"]]
    assert {item.result for item in operator_checks(confined, "", "0.1.0", NOW)} == {CheckResult.OK}


def test_the_go_operator_is_another_one() -> None:
    assert is_operator(DEPLOYMENT)
    assert not is_operator({"spec": {"template": {"metadata": {"labels": {"app": "dittofs-operator"}}}}})
