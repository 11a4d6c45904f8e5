from typing import Any

import pytest

from app.cluster.client import Cluster
from app.cluster.reader import STATEFUL_SETS
from app.storage.core_types import MAX_VIOLATIONS, violations
from app.storage.objects import Owner, stateful_set
from app.storage.reading import read
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import server

KINDS = {
    "resources": "ResourceRequirements",
    "securityContext": "SecurityContext",
    "podSecurityContext": "PodSecurityContext",
}


def messages(section: str, value: Any) -> list[str]:
    return [finding.message for finding in violations({"$ref": KINDS[section]}, value, f"spec.{section}")]


def requests(request: Any, limit: Any, resource: str = "memory") -> dict[str, Any]:
    return {"requests": {resource: request}, "limits": {resource: limit}}


VALID: list[tuple[str, Any]] = [
    ("resources", {}),
    ("resources", {"limits": {}, "requests": {}}),
    ("resources", {"limits": {"memory": "1Gi", "cpu": 1, "ephemeral-storage": "1e9"}, "requests": {"cpu": 0.5}}),
    ("resources", requests(" 1Gi ", "1024Mi")),
    ("resources", requests("1Ki", 1024)),
    ("resources", requests(2, "2", "example.com/gpu")),
    ("resources", {"limits": {"example.com/gpu": 2}}),
    ("resources", {"requests": {"memory": "1Gi"}}),
    ("securityContext", {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}, "privileged": False}),
    ("securityContext", {"windowsOptions": {"runAsUserName": "me"}, "seLinuxOptions": {"level": "s0"}}),
    ("podSecurityContext", {"fsGroup": 1, "supplementalGroups": [1, None], "sysctls": [{"name": "kernel.a"}]}),
    ("podSecurityContext", {"seccompProfile": {"type": "Unconfined"}, "fsGroupChangePolicy": "Always"}),
]
INVALID: list[tuple[str, Any, str]] = [
    (
        "resources",
        {"limit": {"memory": "1Gi"}},
        "resources.limit is not a field of a ResourceRequirements in Kubernetes 1.36; did you mean limits?",
    ),
    ("resources", {"Limits": {}}, "resources.Limits is not a field of a ResourceRequirements"),
    ("resources", {"gpu": 1}, "resources.gpu is not a field of a ResourceRequirements in Kubernetes 1.36"),
    ("resources", {"claims": [{"nam": "a"}]}, "resources.claims[0].nam is not a field of a ResourceClaim"),
    ("resources", {"limits": ["memory"]}, "resources.limits must be an object"),
    ("resources", {"limits": {"memory": "much"}}, "resources.limits[memory] must be a quantity, such as 500m or 2Gi"),
    ("resources", {"limits": {"memory": "1GB"}}, "resources.limits[memory] must be a quantity"),
    ("resources", {"limits": {"memory": ""}}, "resources.limits[memory] must be a quantity"),
    ("resources", {"limits": {"memory": "1Gi\n"}}, "resources.limits[memory] must be a quantity"),
    ("resources", {"requests": {"cpu": True}}, "resources.requests[cpu] must be a quantity"),
    ("resources", {"requests": {"cpu": {}}}, "resources.requests[cpu] must be a quantity"),
    (
        "resources",
        requests("2Gi", "1Gi"),
        "resources.requests has 2Gi of memory, which is above its limit of 1Gi",
    ),
    ("resources", requests("1.5", 1, "cpu"), "resources.requests has 1.5 of cpu, which is above its limit of 1"),
    ("resources", requests(2, 1, "example.com/gpu"), "has 2 of example.com/gpu, which is above its limit of 1"),
    ("resources", requests(1, 2, "example.com/gpu"), "has 1 of example.com/gpu, which has to be its limit of 2"),
    ("resources", {"requests": {"example.com/gpu": 1}}, "resources.limits lacks example.com/gpu"),
    (
        "resources",
        {"limits": {"cpu": 1, "hugepages-2Mi": "4Mi"}, "requests": {"hugepages-2Mi": "2Mi"}},
        "has 2Mi of hugepages-2Mi, which has to be its limit of 4Mi",
    ),
    ("securityContext", {"runAsNonRoot": "yes"}, "securityContext.runAsNonRoot must be true or false"),
    ("securityContext", {"runAsNonRoot": 1}, "securityContext.runAsNonRoot must be true or false"),
    ("securityContext", {"runAsUser": "1000"}, "securityContext.runAsUser must be an integer"),
    ("securityContext", {"runAsUser": True}, "securityContext.runAsUser must be an integer"),
    ("securityContext", {"runAsUser": 1.5}, "securityContext.runAsUser must be an integer"),
    ("securityContext", {"runAsUser": 2**63}, "securityContext.runAsUser must be an integer"),
    ("securityContext", {"runasuser": 1}, "did you mean runAsUser?"),
    ("securityContext", {"fsGroup": 1}, "securityContext.fsGroup is not a field of a SecurityContext"),
    ("securityContext", {"procMount": "None"}, "securityContext.procMount must be 'Default' or 'Unmasked'"),
    ("securityContext", {"capabilities": ["ALL"]}, "securityContext.capabilities must be an object"),
    ("securityContext", {"capabilities": {"drop": "ALL"}}, "securityContext.capabilities.drop must be a list"),
    ("securityContext", {"capabilities": {"add": [1]}}, "securityContext.capabilities.add[0] must be a string"),
    (
        "securityContext",
        {"appArmorProfile": {"type": "On"}},
        "securityContext.appArmorProfile.type must be 'Localhost'",
    ),
    ("securityContext", {"seLinuxOptions": {"lvl": "s0"}}, "did you mean level?"),
    ("securityContext", {"windowsOptions": {"hostProcess": "no"}}, "windowsOptions.hostProcess must be true or false"),
    ("podSecurityContext", {"runAsUsr": 1}, "did you mean runAsUser?"),
    (
        "podSecurityContext",
        {"supplementalGroups": ["a"]},
        "podSecurityContext.supplementalGroups[0] must be an integer",
    ),
    ("podSecurityContext", {"supplementalGroupsPolicy": "All"}, "must be 'Merge' or 'Strict'"),
    ("podSecurityContext", {"fsGroupChangePolicy": "Never"}, "must be 'Always' or 'OnRootMismatch'"),
    ("podSecurityContext", {"seccompProfile": "RuntimeDefault"}, "podSecurityContext.seccompProfile must be an object"),
    ("podSecurityContext", {"seccompProfile": {"type": "Default"}}, "must be 'Localhost' or 'RuntimeDefault'"),
    ("podSecurityContext", {"sysctls": {"a": "b"}}, "podSecurityContext.sysctls must be a list"),
    ("podSecurityContext", {"sysctls": [{"name": "a", "value": 1}]}, "sysctls[0].value must be a string"),
]


@pytest.mark.parametrize(("section", "value"), VALID)
def test_a_valid_section_has_no_violation(section: str, value: Any) -> None:
    assert messages(section, value) == []


@pytest.mark.parametrize(("section", "value", "text"), INVALID)
def test_a_violation_says_what_is_expected(section: str, value: Any, text: str) -> None:
    [message] = messages(section, value)

    assert text in message


@pytest.mark.anyio
async def test_the_api_server_agrees(control_plane: ControlPlane) -> None:
    disagreed = []

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        for section, value in [*VALID, *(row[:2] for row in INVALID)]:
            spec = read(server(**{section: value})).server.spec
            tried = await cluster.dry_run(STATEFUL_SETS, stateful_set(Owner("files", "default"), spec, None))
            if bool(tried.causes) != bool(messages(section, value)):
                disagreed.append((section, value, tried))

    assert disagreed == []


def test_a_violation_has_the_path_of_its_field() -> None:
    value = {"claims": [{}, {"a": 1}], "limits": {"example.com/gpu": "x"}, "b c": 1}

    assert [finding.path for finding in violations({"$ref": "ResourceRequirements"}, value, "spec.resources")] == [
        "spec.resources.claims[1].a",
        "spec.resources.limits[example.com/gpu]",
        "spec.resources.b c",
    ]


def test_a_flood_of_violations_is_cut_off() -> None:
    flood = {f"x{number}": number for number in range(1000)}

    assert len(messages("securityContext", flood)) == MAX_VIOLATIONS
    assert len(messages("resources", {"requests": {f"a.b/{number}": 1 for number in range(1000)}})) == MAX_VIOLATIONS


def test_a_hostile_quantity_is_a_violation() -> None:
    for size in ("9" * 2_000_000 + "Ki", 10**5000, 1e300, "\x00" * 100, "{0.__class__}", "%s"):
        assert messages("resources", requests(size, "1Gi")) == [
            "resources.requests[memory] must be a quantity, such as 500m or 2Gi"
        ]


def test_a_hostile_name_is_cut_short() -> None:
    assert max(map(len, messages("resources", {"x" * 100_000: 1}))) < 400
    assert max(map(len, messages("resources", {"limits": {"x" * 100_000: "?"}}))) < 400
