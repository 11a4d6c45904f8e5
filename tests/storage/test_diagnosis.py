from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from app.storage.diagnosis import (
    ends_at,
    keep_message,
    node_in_question,
    waits_for_claims,
    why_no_volume,
    why_not_ended,
    why_not_running,
)
from app.storage.evidence import Case, Node, NodeState, WarningEvent
from app.storage.problem import Problem
from app.storage.unstructured import Manifest
from tests.harness.warning_events import event, warning

NOW = datetime(2026, 11, 27, 4, 0, tzinfo=UTC)
SINCE = "2026-11-27T03:10:00Z"
CREATING = {"containerStatuses": [{"name": "dittofs", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
LOST = Node("n1", NodeState.UNREACHABLE, SINCE, "Kubelet stopped posting node status.")


def pod(status: Manifest | None = None, node: str = "n1", **metadata: Any) -> Manifest:
    return {"metadata": {"name": "files-0", **metadata}, "spec": {"nodeName": node}, "status": status or {}}


def ending(seconds_ago: float, **metadata: Any) -> Manifest:
    deletion = (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    crashed = {"name": "dittofs", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    return pod({"containerStatuses": [crashed]}, deletionTimestamp=deletion, **metadata)


def refused(why: str, claim: str = "") -> WarningEvent:
    what = f"Claim {claim} for Pod files-0" if claim else "Pod files-0"
    return warning(f"Create {what} in StatefulSet files failed error: {why}", "FailedCreate", "StatefulSet", "files")


def diagnosed(*warnings: WarningEvent, pod: Manifest | None = None, node: Node | None = None) -> tuple[str, str]:
    problem = why_not_running(Case("files", pod, NOW, warnings, node))
    return (problem.reason, problem.message) if problem else ("", "")


FORBIDDEN = 'pods "files-0" is forbidden: '


@pytest.mark.parametrize(
    ("why", "reason", "message"),
    [
        (
            f"{FORBIDDEN}exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2",
            "QuotaExceeded",
            "pod files-0 cannot be created: exceeded quota: team, requested: pods=1, limited: pods=2; raise "
            "ResourceQuota team, or free some of it",
        ),
        (
            f"{FORBIDDEN}failed quota: team: must specify limits.cpu for: dittofs; requests.cpu for: dittofs",
            "ResourcesNotSpecified",
            "must specify limits.cpu for: dittofs; requests.cpu for: dittofs; ResourceQuota team requires it: set "
            "it in spec.resources",
        ),
        (
            f"{FORBIDDEN}[maximum memory usage per Container is 6Gi, but limit is 8Gi, maximum cpu usage per Pod is 4, "
            "but limit is 9700m]",
            "LimitRangeViolation",
            "maximum cpu usage per Pod is 4, but limit is 9700m, maximum memory usage per Container is 6Gi, but "
            "limit is 8Gi; change spec.resources, or the LimitRange of the namespace",
        ),
        (
            f'{FORBIDDEN}violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container '
            '"dittofs" must set securityContext.allowPrivilegeEscalation=false)',
            "PodSecurityViolation",
            "pod-security.kubernetes.io/enforce (restricted)",
        ),
        (
            f'{FORBIDDEN}unable to validate against any security context constraint: [provider "anyuid": Forbidden]',
            "PodSecurityViolation",
            "grant another SCC",
        ),
        (
            f'{FORBIDDEN}error looking up service account here/default: serviceaccount "default" not found',
            "ServiceAccountNotFound",
            "create ServiceAccount default in the namespace",
        ),
        (
            'admission webhook "policy.example.com" denied the request: no label team',
            "PodNotCreated",
            'pod files-0 cannot be created: admission webhook "policy.example.com" denied the request: no label team',
        ),
        (
            'Internal error occurred: failed calling webhook "mesh.example.com": failed to call webhook: Post '
            '"https://mesh.istio.svc:443/inject?timeout=10s": dial tcp 10.96.0.7:443: connect: connection refused',
            "PodNotCreated",
            'failed calling webhook "mesh.example.com"',
        ),
        ('namespaces "here" is forbidden: it is being terminated', "PodNotCreated", "it is being terminated"),
    ],
)
def test_a_pod_that_was_refused_says_why(why: str, reason: str, message: str) -> None:
    assert diagnosed(refused(why))[0] == reason
    assert message in diagnosed(refused(why))[1]


def test_a_refused_claim_comes_before_the_pod() -> None:
    why = 'persistentvolumeclaims "cache-files-0" is forbidden: exceeded quota: team, requested: requests.storage=5Gi'
    limit = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 10Gi"
    both = [
        refused(f"{FORBIDDEN}exceeded quota: team"),
        refused(why, "cache-files-0"),
        refused(limit, "metadata-files-0"),
    ]

    expected = (
        "ClaimNotCreated",
        "volume claim cache-files-0 cannot be created: exceeded quota: team, requested: requests.storage=5Gi; raise "
        "ResourceQuota team, or free some of it",
    )

    assert {diagnosed(*order) for order in permutations(both)} == {expected}
    assert "change the size in spec.storage" in diagnosed(both[2])[1]


def test_a_refusal_is_over_once_there_is_a_pod() -> None:
    assert diagnosed(refused(f"{FORBIDDEN}exceeded quota: team"), pod=pod(CREATING)) == ("", "")


# Its node.


def test_a_lost_node_says_when_its_taint_is_safe() -> None:
    reason, message = diagnosed(pod=ending(60), node=LOST)

    assert reason == "NodeLost"
    assert f"node n1 has not answered since {SINCE}" in message
    assert "Only if its machine is surely powered off, or cut off from the storage" in message
    assert "kubectl taint nodes n1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in message
    assert message.endswith("remove the taint once the node is back")


@pytest.mark.parametrize(
    ("node", "reason", "message"),
    [
        (Node("n1", NodeState.DELETED), "NodeLost", "node n1 of pod files-0 is deleted"),
        (Node("n1", NodeState.UNREACHABLE, SINCE, out_of_service=True), "NodeLost", "marked as out of service"),
        (
            Node("n1", NodeState.NOT_READY, SINCE, "container runtime is down"),
            "NodeNotReady",
            f"NotReady since {SINCE}: container runtime is down; repair it",
        ),
        (
            Node("n1", NodeState.NOT_LOOKED_UP, message="forbidden: nodes"),
            "NodeUnknown",
            "its node n1 may not answer, and cannot be looked up: forbidden: nodes",
        ),
        (
            Node("n1", NodeState.READY, SINCE),
            "PodTerminating",
            "pod files-0 should have ended by 2026-11-27T03:59:00Z although its node n1 is Ready",
        ),
    ],
)
def test_each_state_of_a_node_has_its_own_advice(node: Node, reason: str, message: str) -> None:
    diagnosis = diagnosed(pod=ending(60), node=node)

    assert diagnosis[0] == reason
    assert message in diagnosis[1]
    # Nobody is sent to force anything while a machine may still write.
    assert "kubectl taint" not in diagnosis[1]


def test_a_finalizer_that_holds_the_pod_is_named() -> None:
    held = ending(60, finalizers=["example.com/backup"])

    assert "its finalizers hold it: example.com/backup" in diagnosed(pod=held, node=Node("n1", NodeState.READY))[1]
    assert "its finalizers hold it" in diagnosed(pod=held)[1]


def test_a_pod_that_ends_in_time_is_no_problem() -> None:
    """Its container has ended with an error, as February's server always does."""
    for seconds in (-60, 0, 5):
        assert diagnosed(pod=ending(seconds)) == ("", "")
        assert node_in_question(ending(seconds), NOW) is None

    assert node_in_question(ending(11), NOW) == "n1"
    assert ends_at(pod()) is None
    assert why_not_ended(Case("files", pod(), NOW)) is None


RUNNING = {"name": "dittofs", "ready": True, "started": True, "state": {"running": {"startedAt": SINCE}}}


def unready(reason: str | None = None, **container: Any) -> Manifest:
    ready = {"type": "Ready", "status": "False", "reason": reason}
    return pod({"phase": "Running", "conditions": [ready], "containerStatuses": [{**RUNNING, **container}]})


def test_a_pod_cut_off_with_its_node_says_so() -> None:
    assert node_in_question(unready(), NOW) == "n1"
    assert diagnosed(pod=unready(), node=LOST) == diagnosed(pod=ending(60), node=LOST)
    assert diagnosed(pod=unready(), node=Node("n1", NodeState.READY)) == ("", "")
    assert (
        "is not ready, although its containers were"
        in diagnosed(pod=unready(), node=Node("n1", NodeState.NOT_LOOKED_UP))[1]
    )


@pytest.mark.parametrize(
    "fine",
    [
        None,
        pod(),
        pod(CREATING),
        unready("ReadinessGatesNotReady"),
        unready("ContainersNotReady", ready=False),
        pod({"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [RUNNING]}),
    ],
)
def test_no_node_is_asked_for_without_need(fine: Manifest | None) -> None:
    assert node_in_question(fine, NOW) is None


# Its volumes and its network.

PV = "pvc-0b6f3a52-6a5f-4a3b-9d2e-0f1f2a3b4c5d"
HELD = (
    f'Multi-Attach error for volume "{PV}" Volume is already exclusively attached to one node and can\'t be attached '
    "to another"
)
NO_CONFIG = 'MountVolume.SetUp failed for volume "config" : configmap "files-config" not found'
NO_DRIVER = (
    f'MountVolume.MountDevice failed for volume "{PV}" : kubernetes.io/csi: attacher.MountDevice failed to create '
    "newCsiDriverClient: driver name ebs.csi.aws.com not found in the list of registered CSI drivers"
)
SUMMARY = (
    "Unable to attach or mount volumes: unmounted volumes=[metadata], unattached volumes=[], failed to process "
    "volumes=[]: timed out waiting for the condition"
)


@pytest.mark.parametrize(
    ("events", "reason", "messages"),
    [
        ([("FailedMount", NO_CONFIG)], "MountFailed", [NO_CONFIG]),
        ([("FailedMount", NO_DRIVER)], "MountFailed", ["driver name ebs.csi.aws.com not found"]),
        ([("FailedMount", SUMMARY)], "MountFailed", ["unmounted volumes=[metadata]"]),
        ([("FailedMount", SUMMARY), ("FailedMount", NO_CONFIG)], "MountFailed", [NO_CONFIG]),
        ([("FailedMapVolume", NO_DRIVER.replace("Mount", "Map"))], "MountFailed", ["ebs.csi.aws.com"]),
        (
            [("FailedMount", SUMMARY), ("FailedAttachVolume", HELD)],
            "VolumeAttachFailed",
            [HELD, f"kubectl get volumeattachments shows which node still holds {PV}", "only if its machine is surely"],
        ),
        ([("FailedAttachVolume", HELD), ("FailedMount", NO_CONFIG)], "VolumeAttachFailed", [HELD, NO_CONFIG]),
        (
            [
                (
                    "FailedAttachVolume",
                    f'AttachVolume.Attach failed for volume "{PV}" : rpc error: code = Internal desc = x',
                )
            ],
            "VolumeAttachFailed",
            [f'AttachVolume.Attach failed for volume "{PV}" : x'],
        ),
        (
            [
                (
                    "FailedCreatePodSandBox",
                    f'Failed to create pod sandbox: plugin type="calico" for "{"0a" * 32}": no address',
                )
            ],
            "PodSandboxFailed",
            ['plugin type="calico" for "…": no address', "check the node's network plugin"],
        ),
        (
            [("NetworkNotReady", "network is not ready: cni config uninitialized")],
            "PodSandboxFailed",
            ["uninitialized"],
        ),
    ],
)
def test_a_pod_without_volumes_or_network_says_why(
    events: list[tuple[str, str]], reason: str, messages: list[str]
) -> None:
    warnings = [warning(message, reason) for reason, message in events]
    answers = {diagnosed(*order, pod=pod(CREATING)) for order in permutations(warnings)}
    [(actual, text)] = answers

    assert actual == reason
    assert [message for message in messages if message not in text] == []


def test_volumes_are_not_blamed_after_a_first_start() -> None:
    assert diagnosed(warning(NO_CONFIG, "FailedMount"), pod=unready("ContainersNotReady", ready=False)) == ("", "")


def test_a_server_that_stops_answering_says_so() -> None:
    refused = 'Readiness probe failed: Get "http://10.244.0.5:8080/health": context deadline exceeded'
    about = {**event()["involvedObject"], "fieldPath": "spec.containers{dittofs}"}
    unhealthy = warning(refused, "Unhealthy", involvedObject=about)
    silent = unready("ContainersNotReady", ready=False)

    assert diagnosed(unhealthy, pod=silent) == (
        "Unhealthy",
        f"container dittofs runs and does not answer: {refused}",
    )
    assert diagnosed(unhealthy, pod=unready("ReadinessGatesNotReady")) == ("", "")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi.",
            },
            ("Evicted", "pod files-0 was ended by its node: The node was low on resource: memory"),
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]},
            ("Unschedulable", "no node: 0/3"),
        ),
    ],
)
def test_a_pod_without_a_node_says_why(status: Manifest, expected: tuple[str, str]) -> None:
    assert diagnosed(pod=pod(status)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no node: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", True),
        ('no node: 0/1 nodes are available: persistentvolumeclaim "cache-files-0" not found', True),
        ("no node: 0/1 nodes are available: 1 Insufficient memory", False),
    ],
)
def test_the_scheduler_may_only_wait_for_claims(message: str, expected: bool) -> None:
    assert waits_for_claims(Problem("Unschedulable", message)) is expected


def test_a_claim_quotes_its_provisioner() -> None:
    full = 'failed to provision volume with StorageClass "fast": rpc error: code = ResourceExhausted desc = disk full'
    provisioning = warning(full, "ProvisioningFailed", "PersistentVolumeClaim", "cache-files-0")
    quota = refused('persistentvolumeclaims "metadata-files-0" is forbidden: exceeded quota: team', "metadata-files-0")

    warnings = [provisioning, quota, refused(FORBIDDEN)]

    assert why_no_volume("cache-files-0", warnings) == 'failed to provision volume with StorageClass "fast": disk full'
    assert why_no_volume("metadata-files-0", warnings) == "it cannot be created: exceeded quota: team"
    assert why_no_volume("content-files-0", warnings) is None


# The same cause, in the same words.


@pytest.mark.parametrize(
    ("reason", "earlier", "new", "expected"),
    [
        ("Unschedulable", "no node: 0/3 nodes", "no node: 0/4 nodes", "no node: 0/3 nodes"),
        (
            "ImagePullBackOff",
            "image i cannot be pulled: 401",
            "image i cannot be pulled",
            "image i cannot be pulled: 401",
        ),
        (
            "ImagePullBackOff",
            "image i cannot be pulled",
            "image i cannot be pulled: 401",
            "image i cannot be pulled: 401",
        ),
        ("ImagePullBackOff", "image i cannot be pulled: 401", "image j cannot be pulled", "image j cannot be pulled"),
        ("QuotaExceeded", "limited: pods=0", "limited: pods=1", "limited: pods=1"),
        ("CrashLoopBackOff", "exit code 1", "exit code 137", "exit code 137"),
    ],
)
def test_a_message_stays_while_it_says_the_same(reason: str, earlier: str, new: str, expected: str) -> None:
    before = {"type": "Ready", "status": "False", "reason": reason, "message": earlier}

    assert keep_message(Problem(reason, new), before) == Problem(reason, expected)
    assert keep_message(Problem(reason, new), {**before, "reason": "PodStarting"}) == Problem(reason, new)
    assert keep_message(Problem(reason, new), None) == Problem(reason, new)
    assert keep_message(None, before) is None
