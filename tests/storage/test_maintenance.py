from typing import Any

from app.storage.maintenance import Provisioned, Provisioning, maintain
from app.storage.reading import read
from app.storage.remote_store import CREDENTIALS_REJECTED, STORE_NAME, Bucket, S3Keys, StoreResult
from app.storage.secret_references import PASSWORD_PATH, S3_PATH, consumed_references
from app.storage.server_health import Family
from app.storage.shares import ShareState
from tests.harness.dialogues import converse, ok, store
from tests.harness.server_table import server, shares

HASH = "a" * 64
KEYS = S3Keys("id", "key")
SHARE = {"name": "/media", "read_only": False, "default_permission": "read-write", "remote_block_store_id": "id"}


def provisioning(*entries: Any, family: Family = Family.CURRENT) -> Provisioning:
    spec = read(server(**shares(*entries))).server.spec
    references = {reference.path: reference for reference in consumed_references("files", spec)}
    return Provisioning(
        uid="uid",
        pod="pod",
        started_at="2026-11-27T12:00:00Z",
        url="http://10.0.0.1:8080",
        family=family,
        password=references[PASSWORD_PATH],
        s3=references[S3_PATH],
        bucket=Bucket("media", "eu-west-1", "s3", HASH) if family is Family.CURRENT else None,
        shares=tuple(spec.shares or ()),
        secret_digests=(),
        spec=spec,
    )


def test_shares_use_the_store_that_was_verified_before_them() -> None:
    requests, result = converse(
        maintain(provisioning({"name": "media"}), KEYS),
        ok([]),
        ok(store(STORE_NAME)),
        ok([]),
        ok([store(STORE_NAME, "badger")]),
        ok([store(f"{STORE_NAME}-cache", "fs")]),
        ok(SHARE),
    )

    assert (requests[-1].body or {})["remote_block_store"] == STORE_NAME
    assert result.store == StoreResult(STORE_NAME, verified=HASH, is_altered=True)
    assert result.shares == (ShareState("media", "Ready"),)
    assert result.is_complete


def test_rejected_keys_leave_existing_shares_ready() -> None:
    _, result = converse(
        maintain(provisioning({"name": "media"}), KEYS),
        ok([]),
        ok(store(STORE_NAME, health="unhealthy")),
        ok([SHARE]),
    )

    assert result.store.problem
    assert result.store.problem.reason == CREDENTIALS_REJECTED
    assert result.shares == (ShareState("media", "Ready"),)
    assert not result.is_complete


def test_without_shares_none_are_listed() -> None:
    requests, _ = converse(maintain(provisioning(), KEYS), ok([store(STORE_NAME, bucket="media")]), ok(store("x")))

    assert [request.method for request in requests] == ["GET", "PUT"]


def test_a_server_with_keys_in_its_environment_has_no_remote_store() -> None:
    requests, result = converse(
        maintain(provisioning({"name": "media"}, family=Family.LEGACY), KEYS),
        ok([SHARE]),
        ok([{"name": STORE_NAME, "type": "s3", "config": '{"bucket":"media","region":"eu-west-1"}'}]),
    )

    assert ["/".join(request.path) for request in requests] == ["shares", "payload-stores"]
    assert result.is_complete


def test_what_is_not_compared_makes_no_other_provisioning() -> None:
    one = provisioning({"name": "media"})

    assert Provisioned(one).provisioning == provisioning({"name": "media"})
    assert one != provisioning({"name": "media", "readOnly": True})
