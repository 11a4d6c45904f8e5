from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.storage.claims import claim_seconds_left
from app.storage.facts import Claim, ObjectReference, StorageClass, StorageClasses
from app.storage.problem import Problem
from app.storage.unstructured import Manifest
from tests.harness.observations import (
    BOTH_CLASSES,
    FAST,
    HOUR_AGO,
    INVALID_SPEC,
    MINUTE_AGO,
    NAME_TAKEN,
    PENDING,
    SECRET_NOT_FOUND,
    WAITING_CLASSES,
    bound,
    condition,
    dittoserver,
    starting,
    status_of,
)
from tests.harness.server_table import snapshot, storage
from tests.harness.warning_events import warning

BEFORE_SERVER = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("claim", "changes", "reason", "message"),
    [
        (PENDING, {}, "ClaimPending", 'is Pending: it waits for example.com/fast of StorageClass "fast"'),
        (PENDING, {"classes": WAITING_CLASSES}, "ClaimPending", 'StorageClass "fast" waits until the pod has a node'),
        (PENDING, {"classes": StorageClasses(gap="forbidden")}, "ClaimPending", "it waits for a volume"),
        (
            replace(PENDING, created=HOUR_AGO),
            {},
            "ClaimOverdue",
            "is Pending for more than five minutes: it waits for example.com",
        ),
        (replace(PENDING, created=MINUTE_AGO), {}, "ClaimPending", "is Pending: it waits for example.com/fast"),
        (None, {}, "ClaimPending", "is Pending: it waits for example.com/fast"),
        (replace(PENDING, storage_class=""), {}, "ClaimPending", "a volume that somebody creates by hand"),
        (replace(PENDING, phase="Lost"), {}, "ClaimLost", "has lost its volume; restore it, or remove the claim"),
        (
            PENDING,
            {"classes": StorageClasses()},
            "StorageClassNotFound",
            'volume claim metadata-files-0 stays Pending: StorageClass "fast" does not exist in cluster',
        ),
    ],
)
def test_a_pending_claim_says_what_it_waits_for(
    claim: Claim | None, changes: Manifest, reason: str, message: str
) -> None:
    cache = replace(bound("cache")["cache-files-0"], created=HOUR_AGO)
    claims = {cache.name: cache, **({claim.name: claim} if claim else {})}

    ready = condition("StorageReady", starting(claims=claims, **changes))

    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert message in ready["message"]


RECENT_SERVER = "2026-02-01T11:59:30Z"
OLD = replace(PENDING, created=MINUTE_AGO)
BEFORE = f"volume claim metadata-files-0, created {OLD.created} before this server,"
DELETE = "delete the claim and pod files-0 to have both recreated, unless the claim is about to be bound"


@pytest.mark.parametrize(
    ("claim", "changes", "reason", "message"),
    [
        (
            OLD,
            {},
            "ClaimPending",
            f'{BEFORE} was never bound: it waits for example.com/fast of StorageClass "fast"; {DELETE}',
        ),
        (
            replace(OLD, created=HOUR_AGO),
            {},
            "ClaimOverdue",
            f"volume claim metadata-files-0, created {HOUR_AGO} before this server, "
            f'was never bound: it waits for example.com/fast of StorageClass "fast"; {DELETE}',
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
            f"it waits for a volume that somebody creates by hand; {DELETE}",
        ),
        (
            OLD,
            {"classes": WAITING_CLASSES},
            "ClaimPending",
            f'{BEFORE} was never bound: StorageClass "fast" waits until the pod has a node',
        ),
    ],
)
def test_a_claim_older_than_its_server_is_the_cause(claim: Claim, changes: Manifest, reason: str, message: str) -> None:
    claims = {**bound("cache"), claim.name: claim}
    observation = starting(**{"claims": claims, "classes": BOTH_CLASSES, **changes})
    server = dittoserver()
    server["metadata"]["creationTimestamp"] = RECENT_SERVER

    ready = condition("StorageReady", observation, server)

    assert (ready["status"], ready["reason"], ready["message"]) == ("False", reason, message)
    assert status_of(observation, server)["volumes"][0]["message"] == message


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
        (PENDING, Claim("cache-files-0", "fast", created=BEFORE_SERVER), "cache"),
        (PENDING, Claim("cache-files-0", "later", created=BEFORE_SERVER), "metadata"),
        (None, Claim("cache-files-0", "fast", created=BEFORE_SERVER), "cache"),
    ],
)
def test_of_two_claims_the_one_that_blocks_is_named(metadata: Claim | None, cache: Claim, named: str) -> None:
    claims = {claim.name: claim for claim in (metadata, cache) if claim}

    observation = starting(claims=claims, classes=StorageClasses((FAST, LATER_CLASS)))

    assert condition("StorageReady", observation)["message"].startswith(f"volume claim {named}-files-0")


def test_a_pending_claim_quotes_its_provisioner() -> None:
    words = 'failed to provision volume with StorageClass "fast": rpc error: code = Internal desc = disk full'
    event = warning(words, "ProvisioningFailed", "PersistentVolumeClaim", PENDING.name)
    observation = starting(claims={**bound("cache"), PENDING.name: PENDING}, warnings=[event])
    message = f'volume claim {PENDING.name} is Pending: failed to provision volume with StorageClass "fast": disk full'

    assert condition("StorageReady", observation)["message"] == message
    assert status_of(observation)["volumes"][0]["message"] == message


NIGHTLY = ObjectReference("VolumeSnapshot", "nightly")
RESTORED = storage(metadata=snapshot())


@pytest.mark.parametrize(
    ("claim", "changes", "message"),
    [
        (
            replace(PENDING, data_source=NIGHTLY),
            {},
            'it waits for VolumeSnapshot nightly, from which example.com/fast of StorageClass "fast" restores it',
        ),
        (None, {}, "it waits for VolumeSnapshot nightly, from which"),
        (PENDING, {}, 'it waits for example.com/fast of StorageClass "fast"'),
        (
            replace(PENDING, data_source=NIGHTLY),
            {"classes": WAITING_CLASSES},
            'StorageClass "fast" waits until the pod has a node, and is then restored from VolumeSnapshot nightly',
        ),
        (
            replace(PENDING, data_source=NIGHTLY),
            {"classes": StorageClasses(gap="forbidden")},
            "it waits for VolumeSnapshot nightly",
        ),
        (
            replace(PENDING, data_source=NIGHTLY),
            {"warnings": [warning("not ready", "ProvisioningFailed", "PersistentVolumeClaim", PENDING.name)]},
            "it waits for VolumeSnapshot nightly: not ready",
        ),
    ],
)
def test_a_restore_says_what_it_waits_for(claim: Claim | None, changes: Manifest, message: str) -> None:
    claims = {**bound("cache"), **({claim.name: claim} if claim else {})}

    ready = condition("StorageReady", starting(claims=claims, **changes), dittoserver(**RESTORED))

    assert ready["message"] == f"volume claim {PENDING.name} is Pending: {message}" or message.endswith("which")
    assert message in ready["message"]


def test_a_leftover_of_another_class_than_its_volume_is_told() -> None:
    manifest = dittoserver(**storage(metadata={"storageClassName": "slow"}))
    observation = starting(claims=bound("metadata", "cache"), classes=BOTH_CLASSES)

    ready = condition("StorageReady", observation, manifest)

    assert (ready["status"], ready["reason"]) == ("True", "StorageClassDiffers")
    assert 'metadata-files-0 is of StorageClass "fast", not "slow" as the spec asks' in ready["message"]
    assert "cache-files-0" not in ready["message"]


@pytest.mark.parametrize("problem", [NAME_TAKEN, SECRET_NOT_FOUND, INVALID_SPEC])
def test_a_claim_that_nothing_creates_blames_no_driver(problem: Problem) -> None:
    held_up = starting(claims={}, stateful_set=None, problems=[problem])

    assert condition("StorageReady", held_up)["message"] == (
        "volume claim metadata-files-0 is created along with the pod, which is held up: see Ready"
    )
    assert "example.com/fast" in condition("StorageReady", starting(claims={}, stateful_set=None))["message"]


def test_a_claim_is_overdue_after_five_minutes() -> None:
    claim = replace(PENDING, created="2026-02-01T12:00:00Z")

    assert claim_seconds_left(claim, datetime(2026, 2, 1, 12, 4, tzinfo=UTC)) == 60
    assert claim_seconds_left(claim, datetime(2026, 2, 1, 12, 6, tzinfo=UTC)) == -60
