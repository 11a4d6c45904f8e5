from dataclasses import replace

import pytest

from app.storage.evidence import Node, NodeState
from app.storage.facts import Claim, StorageClasses
from app.storage.finding import rejection
from app.storage.problem import Problem, Stage
from app.storage.provisioning import Contents
from app.storage.remote_store import RemoteStore
from app.storage.rollout import REVISION
from app.storage.shares import ShareState
from app.storage.status import Observation, conditions, invalid_spec
from app.storage.status_schema import ServerStatus
from app.storage.unstructured import Manifest
from tests.harness.observations import (
    BOTH_CLASSES,
    CLASSES,
    ENDPOINT,
    GROWING,
    INVALID_SPEC,
    LARGER_CACHE,
    LATER,
    NAME_TAKEN,
    NOON,
    PENDING,
    READY,
    READY_POD,
    SECRET_NOT_FOUND,
    SERVICE,
    SERVICE_OUTDATED,
    WAITING_CLASSES,
    WRITE_FAILED,
    altered,
    bound,
    condition,
    dittoserver,
    events_of,
    growing,
    of_class,
    pod,
    reasons,
    running,
    starting,
    stateful_set,
    status_of,
    waiting,
)
from tests.harness.server_table import storage


def test_a_server_that_runs_says_where() -> None:
    status = status_of(running())

    assert (status["observedGeneration"], status["availableReplicas"], status["phase"]) == (3, 1, "Running")
    assert status["nfsEndpoint"] == ENDPOINT
    assert reasons(running()) == {
        "Ready": ("True", "Available"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
        "StorageReady": ("True", "Bound"),
        "CredentialsReady": ("True", "Found"),
        "StoresReady": ("Unknown", "NotRunning"),
        "EndpointsReady": ("True", "Assigned"),
    }
    assert {condition["observedGeneration"] for condition in status["conditions"]} == {3}


def test_the_first_status_lasts_while_no_node_fits() -> None:
    first = status_of(
        altered(
            Observation(), services=starting().live.services, classes=CLASSES, stateful_set=stateful_set(), is_new=True
        )
    )
    claims = {name: Claim(name, "fast") for name in ("metadata-files-0", "cache-files-0")}

    assert status_of(starting(claims=claims, pod={"status": {}}), dittoserver(first), LATER) == first


def test_a_condition_keeps_its_transition_time() -> None:
    before = status_of(starting())
    crashed = status_of(starting(pod=pod(**waiting("CrashLoopBackOff"))), dittoserver(before), LATER)
    after = status_of(running(), dittoserver(before), LATER)

    assert conditions({"status": crashed})["Ready"]["lastTransitionTime"] == NOON
    assert conditions({"status": after})["Ready"]["lastTransitionTime"] == LATER
    assert conditions({"status": after})["StorageReady"]["lastTransitionTime"] == NOON


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({}, "PodStarting", "the pod is not ready yet"),
        ({"pod": {"status": READY}}, "PodStarting", "the pod is not ready yet"),
        ({"pod": pod(**waiting("ContainerCreating"))}, "PodStarting", "the pod is not ready yet"),
        (
            {"pod": {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}}},
            "Unschedulable",
            "no node: 0/3 nodes",
        ),
        (
            {
                "pod": {
                    "status": {
                        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Gated", "message": "m"}]
                    }
                }
            },
            "Gated",
            "no node: m",
        ),
        ({"pod": pod(**waiting("ErrImagePull"))}, "ImagePullBackOff", "image dittofs:1 cannot be pulled"),
        ({"pod": pod(**waiting("ImagePullBackOff"))}, "ImagePullBackOff", "image dittofs:1 cannot be pulled"),
        (
            {
                "pod": pod(
                    **waiting("CrashLoopBackOff"), lastState={"terminated": {"exitCode": 2, "reason": "OOMKilled"}}
                )
            },
            "CrashLoopBackOff",
            "the server ended with exit code 2 (OOMKilled); kubectl logs -p says why",
        ),
        (
            {"pod": pod(state={"terminated": {"exitCode": 1, "reason": "Error"}})},
            "CrashLoopBackOff",
            "the server ended with exit code 1 (Error); kubectl logs -p says why",
        ),
        (
            {"pod": pod(**waiting("CreateContainerConfigError", message='secret "s3" not found'))},
            "CreateContainerConfigError",
            'secret "s3" not found',
        ),
        ({"pod": pod(**waiting("CreateContainerError"))}, "CreateContainerError", "CreateContainerError"),
        ({"claims": {}}, "ClaimPending", "volume claim metadata-files-0 is Pending: it waits for example.com/fast"),
        (
            {"stateful_set": None, "problems": [Problem("SecretNotFound", 'Secret "s3" not found', Stage.CREDENTIALS)]},
            "SecretNotFound",
            'Secret "s3" not found',
        ),
        ({"stateful_set": None, "problems": [WRITE_FAILED]}, "WriteFailed", "no answer"),
        (
            {"stateful_set": stateful_set(), "problems": [WRITE_FAILED]},
            "PodStarting",
            "the pod is not ready yet",
        ),
        (
            {
                "stateful_set": stateful_set(1),
                "pod": READY_POD,
                "problems": [Problem("ServiceMissing", "exceeded quota", Stage.SERVICES)],
            },
            "ServiceMissing",
            "exceeded quota",
        ),
        (
            {"problems": [Problem("NameTaken", "Service files-file exists", Stage.NAME, stalls=True)]},
            "NameTaken",
            "Service files-file exists",
        ),
        ({"problems": [invalid_spec([rejection("a", "one"), rejection("b", "two")])]}, "InvalidSpec", "one; two"),
    ],
)
def test_a_server_that_is_not_ready_says_why(changes: Manifest, reason: str, message: str) -> None:
    ready = condition("Ready", starting(**changes))

    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert message in ready["message"]


def test_a_service_unlike_the_spec_is_reported() -> None:
    """It may be open to more clients than it should be, or not where the spec says."""
    by_type = reasons(running(problems=[SERVICE_OUTDATED]))

    assert by_type["Ready"] == ("False", "ServiceOutdated")
    assert by_type["CredentialsReady"] == ("True", "Found")


def test_a_pending_load_balancer_is_no_reason_not_to_be_ready() -> None:
    balanced = {**SERVICE, "spec": {**SERVICE["spec"], "type": "LoadBalancer"}}
    observation = running(services={**running().live.services, "files-file": balanced})
    before = status_of(observation)

    assert reasons(observation)["EndpointsReady"] == ("False", "LoadBalancerPending")
    assert reasons(observation)["Ready"] == ("True", "Available")
    assert reasons(observation)["Reconciling"] == ("False", "Reconciled")
    # The message has the time since when it waits, so that nothing is written while time passes.
    assert NOON in condition("EndpointsReady", observation)["message"]
    assert status_of(observation, dittoserver(before), LATER) == before


def test_endpoints_are_named_in_the_domain_of_the_cluster() -> None:
    observation = running(cluster_domain="example.org")

    assert status_of(observation)["nfsEndpoint"] == "files-file.here.svc.example.org:2049"
    assert {entry["host"].partition(".svc.")[2] for entry in status_of(observation)["endpoints"]} == {"example.org"}
    assert condition("Ready", observation)["message"].endswith("svc.example.org:2049")


def test_the_endpoint_is_that_of_the_live_service() -> None:
    moved = {**SERVICE, "spec": {**SERVICE["spec"], "ports": [{"name": "nfs", "port": 2050}]}}

    observation = running(services={"files-file": moved})

    assert status_of(observation)["nfsEndpoint"] == "files-file.here.svc.cluster.local:2050"
    assert condition("Ready", observation)["message"].endswith(":2050")

    for services in ({}, {"files-file": {**SERVICE, "spec": {}}}):
        assert "nfsEndpoint" not in status_of(running(services=services))


@pytest.mark.parametrize(
    ("changes", "status", "reason", "message"),
    [
        ({"claims": bound("metadata"), "is_new": False}, "False", "ClaimMissing", "cache-files-0 does not exist"),
        ({"claims": {}, "claims_gap": "forbidden: no"}, "Unknown", "ClaimUnknown", "is unknown: forbidden: no"),
        (
            {
                "claims": {
                    **bound("metadata"),
                    "cache-files-0": Claim("cache-files-0", "fast", "5Gi", "Bound", terminating=True),
                }
            },
            "False",
            "ClaimTerminating",
            "cache-files-0 is being deleted",
        ),
    ],
)
def test_a_claim_that_is_not_there_is_reported(changes: Manifest, status: str, reason: str, message: str) -> None:
    """A pod that runs goes on, with the data that it still has."""
    observation = running(**changes)
    storage_ready = condition("StorageReady", observation)

    assert (storage_ready["status"], storage_ready["reason"]) == (status, reason)
    assert message in storage_ready["message"]
    assert condition("Ready", observation)["status"] == "True"
    assert ("Warning", reason) in {(event.type, event.reason) for event in events_of(status_of(running()), observation)}
    assert events_of(status_of(observation), observation) == []


def test_a_restart_that_is_held_back_is_stalled() -> None:
    observation = running(
        problems=[Problem("RestartHeldBack", "volume claim x is being deleted", Stage.VOLUMES, stalls=True)]
    )

    assert reasons(observation)["Stalled"] == ("True", "RestartHeldBack")
    assert reasons(observation)["Ready"] == ("True", "Available")
    assert [event.reason for event in events_of(status_of(running()), observation)] == ["RestartHeldBack"]


def test_a_repeated_crash_keeps_the_status_unchanged() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "panic at 12:00"}}
    backed_off = pod(**waiting("CrashLoopBackOff", message="back-off 20s"), lastState=ended, restartCount=2)
    again = pod(state={"running": {}}, lastState=ended, restartCount=3)

    assert status_of(starting(pod=backed_off)) == status_of(starting(pod=again))


@pytest.mark.parametrize(
    ("observation", "spec", "phase"),
    [
        (starting(), {}, "Pending"),
        (running(), {}, "Running"),
        (starting(pod=pod(**waiting("CrashLoopBackOff"))), {}, "Failed"),
        (running(problems=[NAME_TAKEN]), {}, "Failed"),
        (running(problems=[INVALID_SPEC]), {}, "Failed"),
        (running(), {"replicas": 0}, "Stopped"),
        (Observation(), {}, "Pending"),
    ],
)
def test_the_phase_is_one_word(observation: Observation, spec: Manifest, phase: str) -> None:
    assert status_of(observation, dittoserver(**spec))["phase"] == phase


def test_a_stopped_server_is_ready_once_its_pod_ended() -> None:
    stopped = dittoserver(replicas=0)

    assert reasons(starting(), stopped)["Ready"] == ("False", "Stopping")

    ended = starting(stateful_set=stateful_set(replicas=0))

    assert reasons(ended, stopped)["Ready"] == ("True", "Stopped")
    assert reasons(altered(ended, problems=[WRITE_FAILED]), stopped)["Ready"] == ("False", "WriteFailed")


@pytest.mark.parametrize(
    ("observation", "reconciling", "stalled"),
    [
        (running(problems=[WRITE_FAILED]), ("True", "WriteFailed"), ("False", "Reconciled")),
        (running(problems=[SERVICE_OUTDATED]), ("True", "ServiceOutdated"), ("False", "Reconciled")),
        (running(problems=[SECRET_NOT_FOUND]), ("True", "SecretNotFound"), ("False", "Reconciled")),
        (starting(), ("True", "PodStarting"), ("False", "Reconciled")),
        (
            altered(running(), stateful_set=stateful_set(1, observedGeneration=4)),
            ("True", "RollingOut"),
            ("False", "Reconciled"),
        ),
        (
            altered(running(), stateful_set=stateful_set(1, updateRevision="b")),
            ("True", "RollingOut"),
            ("False", "Reconciled"),
        ),
        (running(problems=[NAME_TAKEN]), ("False", "Reconciled"), ("True", "NameTaken")),
        (running(problems=[INVALID_SPEC]), ("False", "Reconciled"), ("True", "InvalidSpec")),
    ],
)
def test_a_server_is_reconciling_or_stalled_not_both(
    observation: Observation, reconciling: tuple[str, str], stalled: tuple[str, str]
) -> None:
    by_type = reasons(observation)

    assert (by_type["Reconciling"], by_type["Stalled"]) == (reconciling, stalled)


def test_a_rotation_of_credentials_leaves_ready_true() -> None:
    by_type = reasons(running(problems=[Problem("SecretIncomplete", "x", Stage.CREDENTIALS)]))

    assert by_type["Ready"] == ("True", "Available")
    assert by_type["CredentialsReady"] == ("False", "SecretIncomplete")


def test_credentials_that_are_unreadable_are_unknown() -> None:
    observation = running(problems=[Problem("SecretUnreadable", "forbidden", Stage.CREDENTIALS)])

    assert reasons(observation)["CredentialsReady"] == ("Unknown", "SecretUnreadable")


def test_credentials_not_looked_at_keep_their_status() -> None:
    failed = running(problems=[WRITE_FAILED])

    assert reasons(failed)["CredentialsReady"] == ("Unknown", "NotRead")
    assert [event.reason for event in events_of(None, starting(problems=failed.problems))] == ["WriteFailed"]

    before = status_of(running(problems=[Problem("SecretIncomplete", "x", Stage.CREDENTIALS)]))

    assert reasons(failed, dittoserver(before))["CredentialsReady"] == ("False", "SecretIncomplete")
    assert [event.reason for event in events_of(before, failed, dittoserver(before))] == ["WriteFailed"]


DIFFERS = (
    'volume claim metadata-files-0 is of StorageClass "slow", not "fast" as the spec asks; '
    "volumes cannot move; for another class, copy the data to a DittoServer of another name"
)


def test_a_claim_of_another_class_is_reported() -> None:
    ready = condition("StorageReady", of_class("slow"))
    metadata, cache = status_of(of_class("slow"))["volumes"]

    assert (ready["status"], ready["reason"], ready["message"]) == ("True", "StorageClassDiffers", DIFFERS)
    assert (metadata["storageClass"], metadata["message"]) == ("slow", DIFFERS)
    assert "message" not in cache
    assert reasons(of_class("slow"))["Ready"] == ("True", "Available")


@pytest.mark.parametrize(
    ("wanted", "claimed", "reason"),
    [
        ("fast", "fast", "Bound"),
        ("fast", None, "StorageClassDiffers"),
        ("", "slow", "StorageClassDiffers"),
        ("", "", "Bound"),
        ("", None, "Bound"),
        (None, "slow", "Bound"),
        (None, None, "Bound"),
    ],
)
def test_a_class_differs_only_from_one_asked_for(wanted: str | None, claimed: str | None, reason: str) -> None:
    observation = altered(of_class(claimed), claims={claim.name: claim for claim in claims_of(claimed)})

    assert condition("StorageReady", observation, dittoserver(**storage(storageClassName=wanted)))["reason"] == reason


def claims_of(storage_class: str | None) -> list[Claim]:
    return [replace(claim, storage_class=storage_class) for claim in bound("metadata", "cache").values()]


def test_a_claim_can_be_larger_and_of_another_class() -> None:
    claim = Claim("cache-files-0", "slow", "20Gi", "Bound", "20Gi")
    observation = running(claims={**bound("metadata"), claim.name: claim}, classes=BOTH_CLASSES)

    ready, volume = condition("StorageReady", observation), status_of(observation)["volumes"][1]

    assert ready["reason"] == "StorageClassDiffers"

    for message in (ready["message"], volume["message"]):
        assert 'is of StorageClass "slow", not "fast"' in message
        assert "asks for 20Gi, more than storage.cacheSize 5Gi" in message


@pytest.mark.parametrize(
    ("pod", "expected"),
    [(None, "PodStarting"), ("before", "RollingOut"), ("a", "Reconciled")],
    ids=["no pod", "former revision", "current revision"],
)
def test_a_rollout_ends_with_the_pod(pod: str | None, expected: str) -> None:
    """A StatefulSet that was recreated with another template takes that for the current revision at once."""
    labelled = pod and {**READY_POD, "metadata": {"name": "files-0", "labels": {REVISION: pod}}}

    assert reasons(altered(running(), pod=labelled))["Reconciling"][1] == expected


def test_a_database_that_is_not_mounted_is_reported() -> None:
    mount = {"name": "metadata", "mountPath": "/data/controlplane", "subPath": "controlplane"}
    live = running().live.stateful_set
    assert live
    container = {"name": "dittofs", "volumeMounts": [mount]}
    live = {**live, "spec": {**live["spec"], "template": {"spec": {"containers": [container]}}}}

    ready = condition(
        "StorageReady",
        altered(running(), claims=bound("metadata", "cache", "controlplane"), stateful_set=live),
    )

    assert (ready["status"], ready["reason"]) == ("True", "DatabaseClaimNotMounted")
    assert "delete StatefulSet files" in ready["message"]


UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available",
}


@pytest.mark.parametrize(
    ("classes", "reason"),
    [(CLASSES, "ClaimPending"), (StorageClasses(), "StorageClassNotFound"), (WAITING_CLASSES, "Unschedulable")],
)
def test_a_claim_that_holds_up_scheduling_is_blamed(classes: StorageClasses, reason: str) -> None:
    """The scheduler waits for a claim, unless the claim's class waits for the scheduler."""
    claims = {**bound("cache"), PENDING.name: PENDING}

    observation = starting(claims=claims, classes=classes, pod={"status": {"conditions": [UNSCHEDULED]}})

    assert condition("Ready", observation)["reason"] == reason


def test_a_claim_that_is_bound_is_no_cause() -> None:
    observation = starting(pod={"status": {"conditions": [UNSCHEDULED]}})

    assert condition("Ready", observation)["reason"] == "Unschedulable"


def test_the_claim_is_blamed_before_the_scheduler() -> None:
    unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unbound}
    observation = starting(
        claims={**bound("cache"), PENDING.name: PENDING}, pod={"status": {"conditions": [scheduled]}}
    )

    assert reasons(observation)["Ready"] == ("False", "ClaimPending")
    assert reasons(altered(observation, claims=bound("metadata", "cache")))["Ready"] == ("False", "Unschedulable")


def test_a_server_stops_only_when_its_node_answers() -> None:
    lost = Node("n1", NodeState.UNREACHABLE, NOON)
    pod = {"metadata": {"deletionTimestamp": "2026-02-01T11:00:00Z"}, "spec": {"nodeName": "n1"}}

    assert reasons(starting(pod=pod, node=lost), dittoserver(replicas=0))["Ready"] == ("False", "NodeLost")


def test_a_cause_keeps_its_message() -> None:
    """An older kubelet gives the registry's answer once, and then only that it waits."""
    answer = "failed to resolve reference: 401 Unauthorized"
    first = status_of(starting(pod=pod(**waiting("ErrImagePull", message=answer))))
    then = starting(pod=pod(**waiting("ImagePullBackOff", message='Back-off pulling image "dittofs:1"')))

    assert status_of(then, dittoserver(first), LATER) == first
    assert "401 Unauthorized" in conditions({"status": first})["Ready"]["message"]


def test_a_server_without_a_class_gets_the_default_one() -> None:
    nameless = dittoserver(storage={"metadataSize": "10Gi"})

    assert status_of(altered(Observation(), classes=CLASSES), nameless)["volumes"][0]["storageClass"] == "fast"
    assert reasons(Observation(), nameless)["StorageReady"] == ("False", "NoDefaultStorageClass")

    unknown = condition("StorageReady", altered(Observation(), classes=StorageClasses(gap="forbidden")), nameless)

    assert unknown["reason"] == "ClaimPending"


def test_each_volume_of_the_spec_has_a_status() -> None:
    assert [volume["name"] for volume in status_of(starting())["volumes"]] == ["metadata", "cache"]

    claims = {**bound("metadata"), "content-files-0": Claim("content-files-0", "slow", phase="Lost")}
    metadata, content, cache = status_of(starting(claims=claims), dittoserver(**storage(contentSize="20Gi")))["volumes"]

    assert metadata == {
        "name": "metadata",
        "claim": "metadata-files-0",
        "storageClass": "fast",
        "requested": "10Gi",
        "capacity": "10Gi",
        "phase": "Bound",
    }
    assert (content["storageClass"], content["phase"]) == ("slow", "Lost")
    assert "has lost its volume" in content["message"]
    assert (cache["requested"], cache["phase"], "capacity" in cache) == ("5Gi", "Pending", False)


def test_an_expansion_leaves_the_server_ready() -> None:
    by_type = reasons(growing(), dittoserver(**LARGER_CACHE))

    assert by_type["StorageReady"] == ("False", "Resizing")
    assert by_type["Ready"] == ("True", "Available")
    assert by_type["Reconciling"] == ("True", "Resizing")
    assert by_type["Stalled"] == ("False", "Reconciled")

    volume = status_of(growing(), dittoserver(**LARGER_CACHE))["volumes"][1]

    assert (volume["requested"], volume["capacity"], volume["phase"]) == ("10Gi", "5Gi", "Resizing")
    assert volume["message"] == "volume claim cache-files-0 grows from 5Gi to 10Gi"


def test_a_rejected_expansion_stalls_a_ready_server() -> None:
    refused = growing(infeasible_size="10Gi", resize_error="at most 8Gi")
    by_type = reasons(refused, dittoserver(**LARGER_CACHE))

    assert by_type["Stalled"] == ("True", "ResizeRefused")
    assert by_type["StorageReady"] == ("False", "ResizeRefused")
    assert by_type["Ready"] == ("True", "Available")
    assert by_type["Reconciling"] == ("False", "Reconciled")
    assert status_of(refused, dittoserver(**LARGER_CACHE))["phase"] == "Running"
    assert "at most 8Gi" in condition("Stalled", refused, dittoserver(**LARGER_CACHE))["message"]


def test_a_rejected_expansion_comes_first() -> None:
    metadata = Claim("metadata-files-0", "fast", "5Gi", "Bound", "10Gi")
    both = running(claims={metadata.name: metadata, GROWING.name: replace(GROWING, infeasible_size="10Gi")})

    assert reasons(both, dittoserver(**LARGER_CACHE))["StorageReady"] == ("False", "ResizeRefused")


def test_a_larger_claim_is_only_a_warning() -> None:
    larger = growing(capacity="20Gi", requested="20Gi")

    assert reasons(larger, dittoserver(**LARGER_CACHE))["StorageReady"] == ("True", "ClaimLarger")

    [warning] = events_of(status_of(running()), larger, dittoserver(**LARGER_CACHE))

    assert (warning.type, warning.reason) == ("Warning", "ClaimLarger")


def test_an_expansion_that_cannot_be_written_goes_on() -> None:
    reconciling = condition("Reconciling", growing(), dittoserver(**LARGER_CACHE))
    failed = altered(running(), problems=[Problem("WriteFailed", "no answer", Stage.VOLUMES)])

    assert reconciling["status"] == "True"
    assert condition("Reconciling", failed)["message"] == "no answer"


@pytest.mark.parametrize("between", [None, {"metadata": {"generation": 1, "uid": "s"}}])
def test_without_counts_the_pod_itself_is_asked(between: Manifest | None) -> None:
    ready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}

    assert condition("Ready", starting(stateful_set=between, pod=ready))["status"] == "True"

    unready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}

    assert condition("Ready", starting(stateful_set=between, pod=unready))["status"] == "False"


def test_without_a_statefulset_work_remains() -> None:
    leaving = {**stateful_set(1), "metadata": {"generation": 5, "deletionTimestamp": NOON}}

    assert reasons(running(), dittoserver())["Reconciling"] == ("False", "Reconciled")
    assert reasons(altered(running(), stateful_set=leaving))["Reconciling"] == ("True", "StatefulSetTerminating")


def test_the_first_claim_to_appear_is_not_blamed_first() -> None:
    """All of them wait for the same provisioner, and the status is not written again for the next one."""
    cache = {"cache-files-0": Claim("cache-files-0", "fast", phase="Pending")}
    metadata = {"metadata-files-0": Claim("metadata-files-0", "fast", phase="Pending")}

    statuses = [status_of(starting(claims=claims))["conditions"] for claims in ({}, cache, {**cache, **metadata})]

    assert statuses[0] == statuses[1] == statuses[2]


HELD_POD: Manifest = {
    "metadata": {"name": "files-0", "ownerReferences": [{"uid": "u"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    "between",
    [
        {"metadata": {"generation": 5, "deletionTimestamp": NOON}},
        {"metadata": {"generation": 5, "uid": "s"}},
    ],
    ids=["the previous one is terminating", "the next one has not adopted it"],
)
def test_a_pod_between_two_statefulsets_is_available(between: Manifest) -> None:
    """Its controller counts no pod that it does not own, and the pod serves all the while."""
    orphaned = {**stateful_set(0), **between}

    recreating = starting(stateful_set=orphaned, pod=HELD_POD)

    assert reasons(recreating)["Ready"] == ("True", "Available")
    assert status_of(recreating)["availableReplicas"] == 1

    unready = {**HELD_POD, "status": {}}

    assert reasons(starting(stateful_set=orphaned, pod=unready))["Ready"][0] == "False"


def test_a_pod_without_owners_is_not_available() -> None:
    """No Service leads to it, as when it lost its labels."""
    released = {**HELD_POD, "metadata": {"name": "files-0"}}

    assert reasons(starting(pod=released))["Ready"][0] == "False"


@pytest.mark.parametrize("next_pod", [None, pod(**waiting("ContainerCreating"))], ids=["not created yet", "starting"])
def test_a_pod_that_was_replaced_is_not_available(next_pod: Manifest | None) -> None:
    """For a moment, its controller still counts the pod that was there before."""
    replaced = starting(stateful_set=stateful_set(1), pod=next_pod)

    assert reasons(replaced)["Ready"][0] == "False"
    assert reasons(replaced)["Reconciling"][0] == "True"
    assert status_of(replaced)["availableReplicas"] == 0


class TestWhatIsInsideTheServer:
    CONTENTS = Contents(RemoteStore("dittofs-operator", "a" * 64), (ShareState("media", "Ready"),))

    def test_is_in_the_status(self) -> None:
        status = status_of(running(contents=self.CONTENTS))

        assert status["remoteStore"] == {"name": "dittofs-operator", "configHash": "a" * 64}
        assert status["shares"] == [{"name": "media", "path": "/media", "phase": "Ready"}]

    def test_stays_in_it_while_nobody_decides(self) -> None:
        live = {"remote_store": self.CONTENTS.remote_store, "shares": self.CONTENTS.shares}

        status = status_of(running(problems=[INVALID_SPEC], **live))

        assert (status["remoteStore"]["name"], status["shares"][0]["name"]) == ("dittofs-operator", "media")

    @pytest.mark.parametrize(
        ("reason", "holds"),
        [("CredentialsRejected", "False"), ("AdminLoginFailed", "False"), ("ServerUnreachable", "Unknown")],
    )
    def test_decides_whether_credentials_are_ready(self, reason: str, holds: str) -> None:
        observation = running(problems=[Problem(reason, "x", Stage.CREDENTIALS)], contents=self.CONTENTS)

        assert reasons(observation)["CredentialsReady"] == (holds, reason)
        assert reasons(observation)["Ready"] == ("True", "Available")

    def test_may_be_kept_by_the_server(self) -> None:
        kept = Problem("KeptByServer", "run this command", Stage.CREDENTIALS)
        observation = running(contents=replace(self.CONTENTS, kept=kept))

        assert reasons(observation)["CredentialsReady"] == ("True", "KeptByServer")
        assert reasons(observation)["Reconciling"] == ("False", "Reconciled")

    def test_holds_until_the_server_was_asked_again(self) -> None:
        rejected = running(problems=[Problem("CredentialsRejected", "x", Stage.CREDENTIALS)], contents=self.CONTENTS)
        before = dittoserver(status_of(rejected))
        waiting = running(contents=replace(self.CONTENTS, awaits_server=True))

        assert reasons(waiting, before)["CredentialsReady"] == ("False", "CredentialsRejected")
        assert reasons(running(contents=self.CONTENTS), before)["CredentialsReady"] == ("True", "Found")
        assert reasons(waiting)["CredentialsReady"] == ("True", "Found")


IMAGE_ID = f"docker.io/dittofs@sha256:{'a' * 64}"
KNOWN = {"image": "dittofs:1", "imageID": IMAGE_ID}


def test_a_failed_migration_waits_for_a_person() -> None:
    container = {"name": "dittofs", **waiting("CrashLoopBackOff"), "lastState": {"terminated": {"exitCode": 1}}}
    server = ServerStatus.model_validate(KNOWN)
    failed = starting(pod=pod(**container), migration_failed=True, server=server)
    unknown = starting(pod=pod(**container), server=server)

    assert reasons(failed)["Ready"] == ("False", "DatabaseMigrationFailed")
    assert reasons(failed)["Stalled"] == ("True", "DatabaseMigrationFailed")
    assert reasons(failed)["Reconciling"][0] == "False"
    assert status_of(failed)["phase"] == "Failed"
    assert IMAGE_ID in condition("Ready", failed)["message"]
    assert [event.reason for event in events_of(status_of(running()), failed)] == ["DatabaseMigrationFailed"]
    assert reasons(unknown)["Ready"] == ("False", "CrashLoopBackOff")


def test_the_status_has_the_image_that_was_ready_last() -> None:
    container = {"name": "dittofs", "ready": True, "imageID": IMAGE_ID, "image": "dittofs:1", "state": {"running": {}}}
    ready = running()
    conditions_of_pod = [{"type": "Ready", "status": "True"}]
    observed = altered(ready, pod={"status": {"conditions": conditions_of_pod, "containerStatuses": [container]}})

    assert status_of(observed)["server"] == KNOWN
    assert "server" not in status_of(ready)
    assert status_of(altered(ready, server=ServerStatus.model_validate(KNOWN)))["server"] == KNOWN


def test_a_paused_server_reconciles_until_it_is_resumed() -> None:
    assert reasons(running(is_paused=True)) == {
        **reasons(running()),
        "Reconciling": ("True", "Paused"),
        "Stalled": ("False", "Reconciled"),
    }
    assert (
        "kubectl annotate dittoserver files --namespace here dittofs.io/paused-"
        in (condition("Reconciling", running(is_paused=True))["message"])
    )


def test_a_paused_server_is_not_stalled_by_what_is_wrong() -> None:
    """A tool that waits for a server would give it up."""
    broken = starting(is_paused=True, pod=pod(**waiting("CrashLoopBackOff")), problems=[INVALID_SPEC])

    assert reasons(broken)["Stalled"] == ("False", "Reconciled")
    assert reasons(broken)["Reconciling"] == ("True", "Paused")
    assert reasons(broken)["Ready"] == ("False", "InvalidSpec")


def test_a_paused_server_is_judged_by_the_pod_that_runs() -> None:
    stopped = dittoserver(replicas=0)

    assert reasons(running(is_paused=True), stopped)["Ready"] == ("True", "Available")
    assert status_of(running(is_paused=True), stopped)["phase"] == "Running"


def test_a_paused_server_that_lost_its_service_is_not_ready() -> None:
    assert reasons(running(is_paused=True, services={}))["Ready"] == ("False", "ServiceMissing")


def test_a_paused_server_that_was_never_created_says_so() -> None:
    assert reasons(starting(is_paused=True, stateful_set=None))["Ready"] == ("False", "Paused")
