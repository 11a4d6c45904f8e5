"""Outages are reported with their cause, which the real controllers write into Events."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Harm, Proxy
from tests.harness.nodes import SINCE, node, run_pod_on, set_node, set_pod
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.server_table import server
from tests.harness.wait import until

LIMITS = {"limits": {"memory": "2Gi", "cpu": "1"}, "requests": {"memory": "2Gi", "cpu": "1"}}


def quota(**hard: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}}


def limit_range(kind: str, **maximum: str) -> Manifest:
    limits = [{"type": kind, "max": maximum}]
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "team"}, "spec": {"limits": limits}}


def ready(operated: OperatorNamespace) -> tuple[str, str]:
    condition = operated.condition("files", "Ready") or {}
    return str(condition.get("reason")), str(condition.get("message"))


def enforce(operated: OperatorNamespace, level: str) -> None:
    label = f"pod-security.kubernetes.io/enforce={level}"
    operated.kubectl("label", "namespace", operated.namespace, label, "--overwrite")


@pytest.mark.parametrize(
    ("obstacle", "spec", "reason", "words"),
    [
        (quota(pods="0"), {}, "QuotaExceeded", ["pod files-0", "exceeded quota: team", "pods=0", "raise"]),
        (quota(**{"requests.memory": "1Gi"}), {"resources": LIMITS}, "QuotaExceeded", ["requests.memory=2Gi"]),
        (quota(**{"limits.cpu": "8"}), {}, "ResourcesNotSpecified", ["must specify limits.cpu", "spec.resources"]),
        (
            quota(**{"requests.storage": "1Gi"}),
            {},
            "ClaimNotCreated",
            ["volume claim cache-files-0", "exceeded quota: team", "requests.storage=5Gi", "raise"],
        ),
        (
            limit_range("Container", memory="1Gi", cpu="500m"),
            {"resources": LIMITS},
            "LimitRangeViolation",
            ["maximum cpu usage per Container is 500m", "maximum memory usage per Container is 1Gi"],
        ),
    ],
    ids=["number of pods", "memory", "limits required", "storage", "LimitRange"],
)
def test_a_refused_pod_is_reported_with_its_cause(
    operated: OperatorNamespace, obstacle: Manifest, spec: Manifest, reason: str, words: list[str]
) -> None:
    operated.apply(obstacle)
    # Until the quota's controller has counted, the quota admits nothing and says so.
    until(lambda: obstacle["kind"] != "ResourceQuota" or bool(operated_quota(operated).get("status", {}).get("hard")))

    operated.apply(server("files", **spec))

    # The controllers may report something else first, such as that a quota has not been counted yet.
    until(lambda: ready(operated)[0] == reason and all(word in ready(operated)[1] for word in words))


def operated_quota(operated: OperatorNamespace) -> Any:
    return operated.control_plane.get(f"/api/v1/namespaces/{operated.namespace}/resourcequotas/team") or {}


def test_pod_security_is_named_and_its_end_reported(operated: OperatorNamespace) -> None:
    enforce(operated, "restricted")
    operated.apply(server("files", securityContext={"allowPrivilegeEscalation": True}))

    until(lambda: ready(operated)[0] == "PodSecurityViolation")
    message = ready(operated)[1]

    assert 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in message
    assert "spec.securityContext" in message

    operated.patch("dittoserver", "files", spec={"securityContext": None})
    until(lambda: bool(operated.get("pod", "files-0")))
    until(lambda: ready(operated)[0] != "PodSecurityViolation")


def test_a_repeated_cause_is_written_once(operated: OperatorNamespace) -> None:
    operated.apply(quota(pods="0"))
    until(lambda: bool(operated_quota(operated).get("status", {}).get("hard")))
    operated.apply(server("files"))
    until(lambda: ready(operated)[0] == "QuotaExceeded")
    # Until then the other conditions may still change.
    until(lambda: max(refusals(operated), default=0) >= 3)
    version = operated.get("dittoserver", "files")["metadata"]["resourceVersion"]

    until(lambda: max(refusals(operated), default=0) >= 8)

    assert operated.get("dittoserver", "files")["metadata"]["resourceVersion"] == version


def refusals(operated: OperatorNamespace) -> list[int]:
    return [event["count"] for event in operated.list_all("events") if event["reason"] == "FailedCreate"]


def test_forged_events_change_nothing(operated: OperatorNamespace) -> None:
    operated.apply(server("files"))
    until(lambda: bool(operated.get("pod", "files-0")))
    until(lambda: ready(operated)[0] != "None")

    pod, stateful_set = operated.get("pod", "files-0"), operated.get("statefulset", "files")
    forge(operated, "strangers-uid", "Pod", "files-0", "another-uid", "FailedMount", "forged")
    forge(operated, "strangers-name", "Pod", "other-0", pod["metadata"]["uid"], "FailedMount", "forged")
    forge(operated, "outdated", "StatefulSet", "files", stateful_set["metadata"]["uid"], "FailedCreate", "forged")
    # The effect of these would be visible before that of this last one.
    volume = 'MountVolume.SetUp failed for volume "config" : configmap "files-config" not found'
    forge(operated, "last", "Pod", "files-0", pod["metadata"]["uid"], "FailedMount", volume)

    until(lambda: ready(operated)[0] == "MountFailed")

    assert 'configmap "files-config" not found' in ready(operated)[1]
    assert "forged" not in json.dumps(operated.get("dittoserver", "files")["status"])


def forge(operated: OperatorNamespace, name: str, kind: str, about: str, uid: str, reason: str, message: str) -> None:
    involved = {"kind": kind, "name": about, "uid": uid, "namespace": operated.namespace}
    # An old FailedCreate means nothing once the pod exists.
    time = "2026-01-01T00:00:00Z" if name == "outdated" else "2026-12-31T00:00:00Z"

    operated.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name},
            "involvedObject": involved,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": time,
        }
    )


@pytest.mark.parametrize("confined", [False, True], ids=["whole cluster", "one namespace"])
def test_a_lost_node_is_named_with_the_remedy(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, confined: bool
) -> None:
    with OperatorNamespace(control_plane, namespace, tmp_path, confined=confined) as operated, node(operated) as name:
        operated.apply(server("files"))
        run_pod_on(operated, name)
        until(lambda: ready(operated)[0] == "Available")

        set_node(operated, name, "Unknown")
        set_pod(operated, ready=False)
        expected = "NodeUnknown" if confined else "NodeLost"
        until(lambda: ready(operated)[0] == expected)
        operated.kubectl("delete", "pod", "files-0", "--wait=false", "--grace-period=1")
        end = operated.get("pod", "files-0")["metadata"]["deletionTimestamp"]
        lookups = len(node_lookups(operated))
        until(lambda: len(node_lookups(operated)) > lookups and ready(operated)[0] == expected)

        message = ready(operated)[1]

        if confined:
            assert f"its node {name} may not answer, and cannot be looked up: forbidden" in message
        else:
            assert (
                f"node {name} has not answered since {SINCE}: nobody can tell whether pod files-0 has ended" in message
            )
            assert f"kubectl taint nodes {name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in message
            assert "powered off" in message

        assert end not in message


def test_a_pod_that_does_not_end_is_reported_in_time(operated: OperatorNamespace) -> None:
    """The node is fine: a finalizer keeps the pod, and no Event says when it should have ended."""
    with node(operated) as name:
        operated.apply(server("files"))
        run_pod_on(operated, name)
        operated.patch("pod", "files-0", metadata={"finalizers": ["example.com/backup"]})

        operated.kubectl("delete", "pod", "files-0", "--wait=false", "--grace-period=0", "--force")
        set_pod(operated, ready=False)

        until(lambda: ready(operated)[0] == "PodTerminating")

        assert "its finalizers hold it: example.com/backup" in ready(operated)[1]

        operated.patch("pod", "files-0", metadata={"finalizers": None})
        until(lambda: ready(operated)[0] != "PodTerminating")


def node_lookups(operated: OperatorNamespace) -> list[Request]:
    return [request for request in operated.requests() if request.resource == "nodes"]


@pytest.mark.parametrize("harm", [{"hang": True}, {"answer": 403}, {"answer": 500}], ids=["hang", "forbidden", "down"])
def test_without_events_the_operator_works_as_before(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, harm: Harm
) -> None:
    """The role of an older chart does not allow to watch Events, and the separate etcd of Events may be down."""
    with Proxy(control_plane, tmp_path) as proxy:
        operated = OperatorNamespace(control_plane, namespace, tmp_path, proxy=proxy)
        proxy.fault(lambda request: request.method == "GET" and request.path.endswith("/events"), **harm)

        with operated:
            operated.apply(server("files"))
            until(lambda: bool(operated.get("pod", "files-0")))
            until(lambda: ready(operated)[0] == "ClaimPending")
