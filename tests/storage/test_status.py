from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.storage.evidence import Node, NodeState
from app.storage.facts import Claim, StorageClass, StorageClasses
from app.storage.finding import Problem, rejection
from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.schema import structural
from app.storage.status import Event, Observation, Status, conditions, status, transition_events
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage
from tests.harness.warning_events import warning

NOON, LATER = "2026-02-01T12:00:00Z", "2026-02-01T13:00:00Z"
FAST = StorageClass("fast", is_default=True, provisioner="example.com/fast")
CLASSES = StorageClasses((FAST,))
ENDPOINT = "files-file.here.svc.cluster.local:2049"
READY = {"conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [{"state": {"running": {}}}]}


SERVICE: Manifest = {
    "metadata": {"name": "files-file", "namespace": "here"},
    "spec": {"ports": [{"name": "smb", "port": 445}, {"name": "nfs", "port": 2049}]},
}


def live(former: Manifest | None = None, generation: int = 3, **spec: Any) -> Manifest:
    manifest = server(**spec)
    metadata = {"name": "files", "namespace": "here", "generation": generation}
    return {**manifest, "metadata": metadata, "status": former}


def stateful_set(available: int = 0, **found: Any) -> Manifest:
    settled = {"observedGeneration": 5, "replicas": 1, "currentRevision": "a", "updateRevision": "a"}
    status = {**settled, "availableReplicas": available, **found}
    templates = [{"metadata": {"name": name}} for name in ("metadata", "cache")]
    return {"metadata": {"generation": 5}, "spec": {"replicas": 1, "volumeClaimTemplates": templates}, "status": status}


def bound(*names: str) -> dict[str, Claim]:
    return {f"{name}-files-0": Claim(f"{name}-files-0", "fast", "10Gi", "Bound") for name in names}


CLAIMS = bound("metadata", "cache")


def but(observation: Observation, **found: Any) -> Observation:
    """The same with something else found, be it in the situation or not."""
    live_state = {name: value for name, value in found.items() if name in LiveState.__dataclass_fields__}
    rest = {name: value for name, value in found.items() if name not in live_state}
    return replace(observation, live_state=replace(observation.live_state, **live_state), **rest)


def starting(**found: Any) -> Observation:
    """Everything is made, and nothing stands in the way of the pod but what `found` says."""
    live_state = LiveState(CLAIMS, CLASSES, stateful_set=stateful_set(), is_new=True)
    return but(Observation(live_state=live_state, file_service=SERVICE), **found)


def running(**found: Any) -> Observation:
    return starting(stateful_set=stateful_set(1), pod={"status": READY}, **found)


def pod(**container: Any) -> Manifest:
    return {"status": {"containerStatuses": [{"image": "dittofs:1", **container}]}}


def waiting(reason: str, **more: Any) -> Manifest:
    return {"state": {"waiting": {"reason": reason, **more}}}


def said(observation: Observation, manifest: Manifest | None = None, now: str = NOON) -> Manifest:
    manifest = manifest or live()
    return status(read(manifest).server, manifest, observation, now)


def condition(kind: str, observation: Observation, manifest: Manifest | None = None) -> Mapping[str, Any]:
    return conditions({"status": said(observation, manifest)})[kind]


def reasons(observation: Observation, manifest: Manifest | None = None) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    found = conditions({"status": said(observation, manifest)})
    return {kind: (each["status"], each["reason"]) for kind, each in found.items()}


def told(before: Manifest | None, observation: Observation, manifest: Manifest | None = None) -> list[Event]:
    return list(transition_events(conditions({"status": before}), conditions({"status": said(observation, manifest)})))


def test_conditions_and_volumes_are_maps_for_server_side_apply() -> None:
    fields = structural(Status)["properties"]
    assert fields["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert fields["volumes"]["x-kubernetes-list-map-keys"] == ["name"]


def test_a_condition_is_one_of_meta_v1() -> None:
    condition = structural(Status)["properties"]["conditions"]["items"]
    assert condition["required"] == ["type", "status", "lastTransitionTime", "reason"]
    assert condition["properties"]["lastTransitionTime"]["format"] == "date-time"


def test_whatever_is_said_is_what_the_schema_knows() -> None:
    Status.model_validate(said(running()))


def test_a_server_that_runs_says_where() -> None:
    found = said(running())

    assert (found["observedGeneration"], found["availableReplicas"], found["phase"]) == (3, 1, "Running")
    assert found["nfsEndpoint"] == ENDPOINT
    assert reasons(running()) == {
        "Ready": ("True", "Available"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
        "StorageReady": ("True", "Bound"),
        "CredentialsReady": ("True", "Found"),
    }
    assert {each["observedGeneration"] for each in found["conditions"]} == {3}


def test_the_first_status_is_the_settled_one_while_no_node_takes_the_pod() -> None:
    first = said(but(Observation(file_service=SERVICE), classes=CLASSES, stateful_set=stateful_set(), is_new=True))
    claims = {name: Claim(name, "fast") for name in ("metadata-files-0", "cache-files-0")}
    assert said(starting(claims=claims, pod={"status": {}}), live(first), LATER) == first


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    before = said(starting())
    crashed = said(starting(pod=pod(**waiting("CrashLoopBackOff"))), live(before), LATER)
    after = said(running(), live(before), LATER)

    assert conditions({"status": crashed})["Ready"]["lastTransitionTime"] == NOON
    assert conditions({"status": after})["Ready"]["lastTransitionTime"] == LATER
    assert conditions({"status": after})["StorageReady"]["lastTransitionTime"] == NOON


@pytest.mark.parametrize(
    ("found", "reason", "message"),
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
            {"stateful_set": None, "credentials": Problem("SecretNotFound", 'Secret "s3" not found')},
            "SecretNotFound",
            'Secret "s3" not found',
        ),
        ({"stateful_set": None, "failure": Problem("WriteFailed", "no answer")}, "WriteFailed", "no answer"),
        (
            {"stateful_set": stateful_set(), "failure": Problem("WriteFailed", "no answer")},
            "PodStarting",
            "the pod is not ready yet",
        ),
        (
            {"stateful_set": stateful_set(1), "services": Problem("ServiceMissing", "exceeded quota")},
            "ServiceMissing",
            "exceeded quota",
        ),
        ({"taken": Problem("NameTaken", "Service files-file exists")}, "NameTaken", "Service files-file exists"),
        ({"rejections": [rejection("a", "one"), rejection("b", "two")]}, "InvalidSpec", "one; two"),
    ],
)
def test_what_is_not_ready_says_why(found: Manifest, reason: str, message: str) -> None:
    ready = condition("Ready", starting(**found))
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert message in ready["message"]


def test_a_service_unlike_the_spec_is_reported() -> None:
    """It may be open to more clients than it should be, or not where the spec says."""
    found = reasons(running(services=Problem("ServiceOutdated", "x")))

    assert found["Ready"] == ("False", "ServiceOutdated")
    assert found["CredentialsReady"] == ("True", "Found")


def test_the_endpoint_is_that_of_the_live_service() -> None:
    moved = {**SERVICE, "spec": {"ports": [{"name": "nfs", "port": 2050}]}}

    assert said(running(file_service=moved))["nfsEndpoint"] == "files-file.here.svc.cluster.local:2050"
    assert condition("Ready", running(file_service=moved))["message"].endswith(":2050")

    for service in (None, {**SERVICE, "spec": {}}):
        assert "nfsEndpoint" not in said(running(file_service=service))


@pytest.mark.parametrize(
    ("found", "status", "reason", "message"),
    [
        ({"claims": bound("metadata"), "is_new": False}, "False", "ClaimMissing", "cache-files-0 does not exist"),
        ({"claims": {}, "claims_gap": "forbidden: no"}, "Unknown", "ClaimUnknown", "is unknown: forbidden: no"),
        (
            {"claims": {**CLAIMS, "cache-files-0": Claim("cache-files-0", "fast", "5Gi", "Bound", terminating=True)}},
            "False",
            "ClaimTerminating",
            "cache-files-0 is being deleted",
        ),
    ],
)
def test_a_claim_that_is_not_there_is_reported(found: Manifest, status: str, reason: str, message: str) -> None:
    """A pod that runs goes on, with the data that it still has."""
    observation = running(**found)
    storage_ready = condition("StorageReady", observation)

    assert (storage_ready["status"], storage_ready["reason"]) == (status, reason)
    assert message in storage_ready["message"]
    assert condition("Ready", observation)["status"] == "True"
    assert ("Warning", reason) in {(event.type, event.reason) for event in told(said(running()), observation)}
    assert told(said(observation), observation) == []


def test_a_restart_that_is_held_back_is_stalled() -> None:
    observation = running(held=Problem("RestartHeldBack", "volume claim x is being deleted"))

    assert reasons(observation)["Stalled"] == ("True", "RestartHeldBack")
    assert reasons(observation)["Ready"] == ("True", "Available")
    assert [event.reason for event in told(said(running()), observation)] == ["RestartHeldBack"]


def test_the_same_crash_is_told_in_the_same_words_from_one_attempt_to_the_next() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "panic at 12:00"}}
    backed_off = pod(**waiting("CrashLoopBackOff", message="back-off 20s"), lastState=ended, restartCount=2)
    again = pod(state={"running": {}}, lastState=ended, restartCount=3)
    assert said(starting(pod=backed_off)) == said(starting(pod=again))


@pytest.mark.parametrize(
    ("seen", "spec", "phase"),
    [
        (starting(), {}, "Pending"),
        (running(), {}, "Running"),
        (starting(pod=pod(**waiting("CrashLoopBackOff"))), {}, "Failed"),
        (running(taken=Problem("NameTaken", "x")), {}, "Failed"),
        (running(rejections=[rejection("a", "x")]), {}, "Failed"),
        (running(), {"replicas": 0}, "Stopped"),
        (Observation(), {}, "Pending"),
    ],
)
def test_the_phase_is_one_word_for_it(observation: Observation, spec: Manifest, phase: str) -> None:
    assert said(observation, live(**spec))["phase"] == phase


def test_a_server_that_is_stopped_is_as_it_should_be_once_its_pod_has_ended() -> None:
    stopped = live(replicas=0)

    assert reasons(starting(), stopped)["Ready"] == ("False", "Stopping")

    ended = starting(stateful_set=stateful_set(replicas=0))

    assert reasons(ended, stopped)["Ready"] == ("True", "Stopped")
    assert reasons(but(ended, failure=Problem("WriteFailed", "x")), stopped)["Ready"] == ("False", "WriteFailed")


@pytest.mark.parametrize(
    ("seen", "reconciling", "stalled"),
    [
        (running(failure=Problem("WriteFailed", "x")), ("True", "WriteFailed"), ("False", "Reconciled")),
        (running(services=Problem("ServiceOutdated", "x")), ("True", "ServiceOutdated"), ("False", "Reconciled")),
        (running(credentials=Problem("SecretNotFound", "x")), ("True", "SecretNotFound"), ("False", "Reconciled")),
        (starting(), ("True", "PodStarting"), ("False", "Reconciled")),
        (
            but(running(), stateful_set=stateful_set(1, observedGeneration=4)),
            ("True", "RollingOut"),
            ("False", "Reconciled"),
        ),
        (
            but(running(), stateful_set=stateful_set(1, updateRevision="b")),
            ("True", "RollingOut"),
            ("False", "Reconciled"),
        ),
        (running(taken=Problem("NameTaken", "x")), ("False", "Reconciled"), ("True", "NameTaken")),
        (running(rejections=[rejection("a", "x")]), ("False", "Reconciled"), ("True", "InvalidSpec")),
    ],
)
def test_a_server_is_worked_on_or_stalled_but_never_both(
    observation: Observation, reconciling: tuple[str, str], stalled: tuple[str, str]
) -> None:
    found = reasons(observation)
    assert (found["Reconciling"], found["Stalled"]) == (reconciling, stalled)


def test_a_server_that_serves_is_ready_while_its_credentials_are_being_rotated() -> None:
    found = reasons(running(credentials=Problem("SecretIncomplete", "x")))
    assert found["Ready"] == ("True", "Available")
    assert found["CredentialsReady"] == ("False", "SecretIncomplete")


def test_credentials_that_could_not_be_looked_up_are_unknown() -> None:
    observation = running(credentials=Problem("SecretUnreadable", "forbidden"), credentials_unknown=True)
    assert reasons(observation)["CredentialsReady"] == ("Unknown", "SecretUnreadable")


def test_credentials_that_were_not_looked_at_stay_as_they_were() -> None:
    failed = running(failure=Problem("WriteFailed", "no answer"))

    assert reasons(failed)["CredentialsReady"] == ("Unknown", "NotRead")
    assert told(None, starting(failure=failed.failure)) == []

    found = said(running(credentials=Problem("SecretIncomplete", "x")))

    assert reasons(failed, live(found))["CredentialsReady"] == ("False", "SecretIncomplete")
    assert told(found, failed, live(found)) == []


PENDING = Claim("metadata-files-0", "fast")
WAITS = StorageClasses((StorageClass("fast", waits_for_pod=True),))


@pytest.mark.parametrize(
    ("claim", "found", "reason", "message"),
    [
        (PENDING, {}, "ClaimPending", 'is Pending: it waits for example.com/fast of StorageClass "fast"'),
        (PENDING, {"classes": WAITS}, "ClaimPending", 'StorageClass "fast" waits until the pod has a node'),
        (PENDING, {"classes": StorageClasses(gap="forbidden")}, "ClaimPending", "it waits for a volume"),
        (
            PENDING,
            {"overdue": [PENDING.name]},
            "ClaimOverdue",
            "is Pending for more than five minutes: it waits for example.com",
        ),
        (PENDING, {"overdue": ["cache-files-0"]}, "ClaimPending", "is Pending: it waits for example.com/fast"),
        (None, {}, "ClaimPending", "is Pending: it waits for example.com/fast"),
        (replace(PENDING, storage_class=""), {}, "ClaimPending", "a volume that somebody makes by hand"),
        (replace(PENDING, phase="Lost"), {}, "ClaimLost", "has lost its volume; restore it, or remove the claim"),
        (
            PENDING,
            {"classes": StorageClasses()},
            "StorageClassNotFound",
            'volume claim metadata-files-0 stays Pending: StorageClass "fast" does not exist in cluster',
        ),
    ],
)
def test_a_claim_without_a_volume_says_what_it_waits_for(
    claim: Claim | None, found: Manifest, reason: str, message: str
) -> None:
    claims = {**bound("cache"), **({claim.name: claim} if claim else {})}
    ready = condition("StorageReady", starting(claims=claims, **found))
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert message in ready["message"]


SLOW = StorageClass("slow", provisioner="example.com/slow")
BOTH = StorageClasses((FAST, SLOW))
DIFFERS = (
    'volume claim metadata-files-0 is of StorageClass "slow", not "fast" as the spec asks; '
    "volumes cannot move; for another class, copy the data to a DittoServer of another name"
)


def of_class(storage_class: str | None, **found: Any) -> Observation:
    """It runs, and the claim of its metadata is of this class."""
    metadata = replace(bound("metadata")["metadata-files-0"], storage_class=storage_class)
    return running(claims={**bound("cache"), metadata.name: metadata}, classes=BOTH, **found)


def test_a_claim_of_another_class_is_reported() -> None:
    ready = condition("StorageReady", of_class("slow"))
    metadata, cache = said(of_class("slow"))["volumes"]

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
    observation = but(of_class(claimed), claims={claim.name: claim for claim in claims_of(claimed)})

    assert condition("StorageReady", observation, live(**storage(storageClassName=wanted)))["reason"] == reason


def claims_of(storage_class: str | None) -> list[Claim]:
    return [replace(claim, storage_class=storage_class) for claim in bound("metadata", "cache").values()]


def test_a_claim_can_be_larger_and_of_another_class() -> None:
    claim = Claim("cache-files-0", "slow", "20Gi", "Bound", "20Gi")
    observation = running(claims={**bound("metadata"), claim.name: claim}, classes=BOTH)

    ready, volume = condition("StorageReady", observation), said(observation)["volumes"][1]

    assert ready["reason"] == "StorageClassDiffers"

    for message in (ready["message"], volume["message"]):
        assert 'is of StorageClass "slow", not "fast"' in message
        assert "asks for 20Gi, more than storage.cacheSize 5Gi" in message


def test_another_class_is_told_once() -> None:
    assert [each.reason for each in told(said(running()), of_class("slow"))] == ["StorageClassDiffers"]
    assert told(said(of_class("slow")), of_class("slow")) == []


OLD = replace(PENDING, created="2026-01-01T00:00:00Z")
BEFORE = "volume claim metadata-files-0, created 2026-01-01T00:00:00Z before this server,"
DELETE = "delete the claim and pod files-0 to have both made again, unless the claim is about to be bound"


@pytest.mark.parametrize(
    ("claim", "found", "reason", "message"),
    [
        (
            OLD,
            {},
            "ClaimPending",
            f'{BEFORE} was never bound: it waits for example.com/fast of StorageClass "fast"; {DELETE}',
        ),
        (
            OLD,
            {"overdue": [OLD.name]},
            "ClaimOverdue",
            f'{BEFORE} was never bound: it waits for example.com/fast of StorageClass "fast"; {DELETE}',
        ),
        (
            replace(OLD, storage_class="slow"),
            {},
            "ClaimPending",
            f'{BEFORE} is of StorageClass "slow", not "fast", and was never bound: it waits for example.com/slow '
            f'of StorageClass "slow"; {DELETE}',
        ),
        (
            replace(OLD, storage_class="gone"),
            {},
            "StorageClassNotFound",
            f'{BEFORE} is of StorageClass "gone", not "fast", and was never bound: '
            f'StorageClass "gone" does not exist in cluster; {DELETE}',
        ),
        (
            replace(OLD, storage_class=""),
            {},
            "ClaimPending",
            f'{BEFORE} is without a StorageClass, not "fast", and was never bound: '
            f"it waits for a volume that somebody makes by hand; {DELETE}",
        ),
        (
            OLD,
            {"classes": WAITS},
            "ClaimPending",
            f'{BEFORE} was never bound: StorageClass "fast" waits until the pod has a node',
        ),
    ],
)
def test_a_claim_older_than_its_server_is_the_cause(claim: Claim, found: Manifest, reason: str, message: str) -> None:
    claims = {**bound("cache"), claim.name: claim}
    observation = starting(**{"claims": claims, "classes": BOTH, "leftovers": [claim.name], **found})

    ready = condition("StorageReady", observation)

    assert (ready["status"], ready["reason"], ready["message"]) == ("False", reason, message)
    assert said(observation)["volumes"][0]["message"] == message


LATER_CLASS = StorageClass("later", waits_for_pod=True)


@pytest.mark.parametrize(
    ("metadata", "cache", "named"),
    [
        # The pod gets no node for the cache's claim, and the metadata's claim waits for just that.
        (replace(PENDING, storage_class="later"), Claim("cache-files-0", "fast"), "cache"),
        (replace(PENDING, storage_class="later"), Claim("cache-files-0", "gone"), "cache"),
        (replace(PENDING, storage_class="later"), Claim("cache-files-0", "fast", phase="Lost"), "cache"),
        (replace(PENDING, storage_class="later"), Claim("cache-files-0", "fast", "5Gi", "Bound"), "metadata"),
        (PENDING, Claim("cache-files-0", "fast"), "metadata"),
        (PENDING, Claim("cache-files-0", "later"), "metadata"),
        # A driver is at work on the metadata's claim, and was not on the cache's.
        (PENDING, Claim("cache-files-0", "fast", created="2026-01-01T00:00:00Z"), "cache"),
        (PENDING, Claim("cache-files-0", "later", created="2026-01-01T00:00:00Z"), "metadata"),
        (None, Claim("cache-files-0", "fast", created="2026-01-01T00:00:00Z"), "cache"),
    ],
)
def test_of_two_claims_the_one_that_blocks_is_named(metadata: Claim | None, cache: Claim, named: str) -> None:
    claims = {claim.name: claim for claim in (metadata, cache) if claim}
    leftovers = [claim.name for claim in claims.values() if claim.created]

    observation = starting(claims=claims, classes=StorageClasses((FAST, LATER_CLASS)), leftovers=leftovers)

    assert condition("StorageReady", observation)["message"].startswith(f"volume claim {named}-files-0")


UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available",
}


@pytest.mark.parametrize(
    ("classes", "reason"),
    [(CLASSES, "ClaimPending"), (StorageClasses(), "StorageClassNotFound"), (WAITS, "Unschedulable")],
)
def test_a_claim_that_keeps_the_pod_from_a_node_is_the_cause(classes: StorageClasses, reason: str) -> None:
    """The scheduler waits for a claim, unless the claim's class waits for the scheduler."""
    claims = {**bound("cache"), PENDING.name: PENDING}

    observation = starting(claims=claims, classes=classes, pod={"status": {"conditions": [UNSCHEDULED]}})

    assert condition("Ready", observation)["reason"] == reason


def test_a_claim_that_is_bound_is_no_cause() -> None:
    observation = starting(pod={"status": {"conditions": [UNSCHEDULED]}})

    assert condition("Ready", observation)["reason"] == "Unschedulable"


def test_a_pending_claim_quotes_its_provisioner() -> None:
    words = 'failed to provision volume with StorageClass "fast": rpc error: code = Internal desc = disk full'
    event = warning(words, "ProvisioningFailed", "PersistentVolumeClaim", PENDING.name)
    observation = starting(claims={**bound("cache"), PENDING.name: PENDING}, warnings=[event])
    message = f'volume claim {PENDING.name} is Pending: failed to provision volume with StorageClass "fast": disk full'

    assert condition("StorageReady", observation)["message"] == message
    assert said(observation)["volumes"][0]["message"] == message


def test_the_claim_is_blamed_rather_than_the_scheduler() -> None:
    unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unbound}
    observation = starting(
        claims={**bound("cache"), PENDING.name: PENDING}, pod={"status": {"conditions": [scheduled]}}
    )

    assert reasons(observation)["Ready"] == ("False", "ClaimPending")
    assert reasons(but(observation, claims=bound("metadata", "cache")))["Ready"] == ("False", "Unschedulable")


def test_a_server_stops_only_when_its_node_answers() -> None:
    lost = Node("n1", NodeState.UNREACHABLE, NOON)
    pod = {"metadata": {"deletionTimestamp": "2026-02-01T11:00:00Z"}, "spec": {"nodeName": "n1"}}
    assert reasons(starting(pod=pod, node=lost), live(replicas=0))["Ready"] == ("False", "NodeLost")


def test_a_cause_keeps_its_words_between_two_reports() -> None:
    """An older kubelet gives the registry's answer once, and then only that it waits."""
    answer = "failed to resolve reference: 401 Unauthorized"
    first = said(starting(pod=pod(**waiting("ErrImagePull", message=answer))))
    then = starting(pod=pod(**waiting("ImagePullBackOff", message='Back-off pulling image "dittofs:1"')))

    assert said(then, live(first), LATER) == first
    assert "401 Unauthorized" in conditions({"status": first})["Ready"]["message"]


def test_a_server_that_names_no_class_gets_the_default_one_or_is_told_that_there_is_none() -> None:
    nameless = live(storage={"metadataSize": "10Gi"})

    assert said(but(Observation(), classes=CLASSES), nameless)["volumes"][0]["storageClass"] == "fast"
    assert reasons(Observation(), nameless)["StorageReady"] == ("False", "NoDefaultStorageClass")

    unknown = condition("StorageReady", but(Observation(), classes=StorageClasses(gap="forbidden")), nameless)

    assert unknown["reason"] == "ClaimPending"


def test_each_volume_that_is_asked_for_is_shown_with_what_it_has() -> None:
    assert [each["name"] for each in said(starting())["volumes"]] == ["metadata", "cache"]

    claims = {**bound("metadata"), "content-files-0": Claim("content-files-0", "slow", phase="Lost")}
    metadata, content, cache = said(starting(claims=claims), live(**storage(contentSize="20Gi")))["volumes"]

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


def test_what_becomes_true_is_told_once() -> None:
    available = Event("Normal", "Available", f"NFS is served at {ENDPOINT}")

    assert told(None, running()) == [available]
    assert told(said(starting()), running()) == [available]
    assert told(said(running()), running()) == []
    assert told(None, starting(claims={})) == []


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"taken": Problem("NameTaken", "x")}, "NameTaken"),
        ({"rejections": [rejection("a", "x")]}, "InvalidSpec"),
        ({"credentials": Problem("SecretNotFound", "x")}, "SecretNotFound"),
        ({"credentials": Problem("SecretUnreadable", "x"), "credentials_unknown": True}, "SecretUnreadable"),
        ({"claims": {"metadata-files-0": PENDING}, "overdue": [PENDING.name]}, "ClaimOverdue"),
        ({"claims": {"metadata-files-0": replace(PENDING, phase="Lost")}}, "ClaimLost"),
        ({"classes": StorageClasses(), "claims": {}}, "StorageClassNotFound"),
    ],
)
def test_what_goes_wrong_is_told_once_for_each_cause(found: Manifest, reason: str) -> None:
    observation = starting(**found)
    assert [(each.type, each.reason) for each in told(said(starting()), observation)] == [("Warning", reason)]
    assert told(said(observation), observation) == []


def test_another_cause_of_the_same_trouble_is_news() -> None:
    one, other = (starting(credentials=Problem("SecretNotFound", message)) for message in ("one", "other"))
    assert [each.message for each in told(said(one), other)] == ["other"]


GROWING = Claim("cache-files-0", "fast", "5Gi", "Bound", "10Gi")


def growing(**found: Any) -> Observation:
    """It runs, and its cache is to grow to 10Gi."""
    return running(claims={**bound("metadata"), "cache-files-0": replace(GROWING, **found)})


TEN: Manifest = storage(cacheSize="10Gi")


def test_a_volume_that_grows_is_not_ready_and_the_server_is() -> None:
    found = reasons(growing(), live(**TEN))

    assert found["StorageReady"] == ("False", "Resizing")
    assert found["Ready"] == ("True", "Available")
    assert found["Reconciling"] == ("True", "Resizing")
    assert found["Stalled"] == ("False", "Reconciled")

    volume = said(growing(), live(**TEN))["volumes"][1]

    assert (volume["requested"], volume["capacity"], volume["phase"]) == ("10Gi", "5Gi", "Resizing")
    assert volume["message"] == "volume claim cache-files-0 grows from 5Gi to 10Gi"


def test_a_growth_that_is_refused_is_stalled_and_the_server_serves() -> None:
    refused = growing(infeasible_size="10Gi", resize_error="at most 8Gi")
    found = reasons(refused, live(**TEN))

    assert found["Stalled"] == ("True", "ResizeRefused")
    assert found["StorageReady"] == ("False", "ResizeRefused")
    assert found["Ready"] == ("True", "Available")
    assert found["Reconciling"] == ("False", "Reconciled")
    assert said(refused, live(**TEN))["phase"] == "Running"
    assert "at most 8Gi" in condition("Stalled", refused, live(**TEN))["message"]


def test_what_is_refused_is_told_before_what_goes_on() -> None:
    metadata = Claim("metadata-files-0", "fast", "5Gi", "Bound", "10Gi")
    both = running(claims={metadata.name: metadata, GROWING.name: replace(GROWING, infeasible_size="10Gi")})
    assert reasons(both, live(**TEN))["StorageReady"] == ("False", "ResizeRefused")


def test_a_refused_growth_is_told_once_and_one_that_goes_on_is_no_news() -> None:
    refused = growing(infeasible_size="10Gi", resize_error="at most 8Gi")
    before = said(growing(), live(**TEN))
    assert [each.reason for each in told(before, refused, live(**TEN))] == ["ResizeRefused"]
    assert told(said(running()), growing(), live(**TEN)) == []


def test_a_volume_that_has_grown_is_told_of() -> None:
    resize_result = growing(capacity="10Gi")
    before = said(growing(), live(**TEN))

    assert Event("Normal", "Resized", "every volume has the size that the spec asks for") in told(
        before, resize_result, live(**TEN)
    )


def test_a_claim_that_is_larger_than_it_should_be_is_a_warning_and_no_problem() -> None:
    larger = growing(capacity="20Gi", requested="20Gi")
    assert reasons(larger, live(**TEN))["StorageReady"] == ("True", "ClaimLarger")
    [warning] = told(said(running()), larger, live(**TEN))
    assert (warning.type, warning.reason) == ("Warning", "ClaimLarger")


def test_a_growth_that_could_not_be_asked_for_is_yet_to_be_done() -> None:
    found = condition("Reconciling", growing(), live(**TEN))
    failed = but(running(), growth=Problem("WriteFailed", "no answer"))
    assert found["status"] == "True"
    assert condition("Reconciling", failed)["message"] == "no answer"


@pytest.mark.parametrize("found", [None, {"metadata": {"generation": 1, "uid": "s"}}])
def test_a_pod_whose_statefulset_is_just_made_again_is_asked_itself(found: Manifest | None) -> None:
    ready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert condition("Ready", starting(stateful_set=found, pod=ready))["status"] == "True"
    unready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert condition("Ready", starting(stateful_set=found, pod=unready))["status"] == "False"


def test_without_a_statefulset_there_is_something_to_do() -> None:
    leaving = {**stateful_set(1), "metadata": {"generation": 5, "deletionTimestamp": NOON}}
    assert reasons(running(), live())["Reconciling"] == ("False", "Reconciled")
    assert reasons(but(running(), stateful_set=leaving))["Reconciling"] == ("True", "StatefulSetTerminating")


def test_a_claim_that_is_heard_first_is_not_blamed_first() -> None:
    """All of them wait for the same provisioner, and the status is not written again for the next one."""
    cache = {"cache-files-0": Claim("cache-files-0", "fast", phase="Pending")}
    metadata = {"metadata-files-0": Claim("metadata-files-0", "fast", phase="Pending")}

    statuses = [said(starting(claims=claims))["conditions"] for claims in ({}, cache, {**cache, **metadata})]

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
    ids=["the former is leaving", "the next one has yet to adopt it"],
)
def test_a_pod_between_two_statefulsets_is_available(between: Manifest) -> None:
    """Its controller counts no pod that it does not own, and the pod serves all the while."""
    orphaned = {**stateful_set(0), **between}

    recreating = starting(stateful_set=orphaned, pod=HELD_POD)

    assert reasons(recreating)["Ready"] == ("True", "Available")
    assert said(recreating)["availableReplicas"] == 1

    unready = {**HELD_POD, "status": {}}

    assert reasons(starting(stateful_set=orphaned, pod=unready))["Ready"][0] == "False"


def test_a_pod_without_owners_is_not_counted_as_available() -> None:
    """As one that lost its labels: no Service leads to it."""
    released = {**HELD_POD, "metadata": {"name": "files-0"}}

    assert reasons(starting(pod=released))["Ready"][0] == "False"
