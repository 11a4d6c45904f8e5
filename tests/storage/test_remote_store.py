import json
from dataclasses import replace
from typing import Any

import pytest

from app.storage.dialogue import Answer
from app.storage.remote_store import (
    ADMIN_LOGIN_FAILED,
    CREDENTIALS_REJECTED,
    REMOTE_STORES,
    SERVER_UNREACHABLE,
    STORE_NAME,
    Bucket,
    RemoteStore,
    S3Keys,
    StoreResult,
    maintain_store,
    store_hash,
)
from tests.harness.dialogues import NO_ANSWER, converse, ok, refused, store

HASH = "a" * 64
BUCKET = Bucket("media", "eu-west-1", "s3", HASH, "files", "team")
KEYS = S3Keys("AKIAMARKER", "secret-MARKER", "http://10.0.0.9:9000")
KNOWN, NOTHING_KNOWN = RemoteStore(STORE_NAME, HASH), RemoteStore()
CONFIG: dict[str, Any] = {
    "bucket": "media",
    "region": "eu-west-1",
    "endpoint": "http://10.0.0.9:9000",
    "allow_private_endpoint": True,
    "access_key_id": "AKIAMARKER",
}
OWN = store(STORE_NAME, **CONFIG)
PUT = "PUT", (*REMOTE_STORES, STORE_NAME)


def maintain(
    *answers: Answer, bucket: Bucket = BUCKET, keys: S3Keys = KEYS, known: RemoteStore = NOTHING_KNOWN
) -> tuple[list[tuple[str, tuple[str, ...], Any]], StoreResult]:
    """Returns the writes, with the configurations that they send, and the result."""
    requests, result = converse(maintain_store(bucket, keys, known), *answers)

    assert (requests[0].method, requests[0].path) == ("GET", REMOTE_STORES)
    bodies = [dict(request.body or {}) for request in requests[1:]]
    configs = [json.loads(body["config"]) for body in bodies]
    return [(one.method, one.path, config) for one, config in zip(requests[1:], configs, strict=True)], result


def test_a_server_without_the_store_gets_one() -> None:
    [(method, path, config)], result = maintain(ok([]), Answer(201, OWN))

    assert (method, path) == ("POST", REMOTE_STORES)
    assert config == {**CONFIG, "secret_access_key": "secret-MARKER"}
    assert result == StoreResult(STORE_NAME, verified=HASH, is_altered=True)


def test_an_endpoint_is_only_sent_if_there_is_one() -> None:
    [(_, _, config)], _ = maintain(ok([]), ok(OWN), keys=S3Keys("id", "key"))

    assert config.keys() == {"bucket", "region", "access_key_id", "secret_access_key"}


def test_a_store_as_it_should_be_is_left_alone() -> None:
    writes, result = maintain(ok([OWN]), known=KNOWN)

    assert writes == []
    assert result == StoreResult(STORE_NAME, verified=HASH)


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (OWN, RemoteStore(STORE_NAME, "b" * 64)),
        (OWN, RemoteStore("other", HASH)),
        (store(STORE_NAME, **{**CONFIG, "bucket": "other"}), KNOWN),
        (store(STORE_NAME, **{**CONFIG, "prefix": "x", "region": "us-east-1"}), KNOWN),
    ],
)
def test_a_store_that_differs_is_updated(record: Any, known: RemoteStore) -> None:
    [(method, path, config)], result = maintain(ok([record]), ok(OWN), known=known)

    assert (method, path) == PUT
    assert config == {**record["config"], **CONFIG, "secret_access_key": "secret-MARKER"}
    assert result == StoreResult(STORE_NAME, verified=HASH, is_outdated=True, is_altered=True)


def test_a_store_that_fails_gets_its_keys_again_for_no_restart() -> None:
    writes, result = maintain(ok([store(STORE_NAME, health="unhealthy", **CONFIG)]), ok(OWN), known=KNOWN)

    assert [write[:2] for write in writes] == [PUT]
    assert result == StoreResult(STORE_NAME, verified=HASH)


def test_an_endpoint_that_the_secret_lost_is_removed() -> None:
    [(_, _, config)], _ = maintain(ok([OWN]), ok(OWN), keys=S3Keys("id", "key"), known=KNOWN)

    assert "endpoint" not in config
    assert "allow_private_endpoint" not in config


@pytest.mark.parametrize("records", [[], [OWN]])
def test_keys_that_the_server_rejects_are_reported(records: list[Any]) -> None:
    answer = store(STORE_NAME, health="unhealthy", **CONFIG)
    answer["status"]["message"] = "S3 connectivity check failed"

    _, result = maintain(ok(records), ok(answer))

    assert result.problem
    assert result.problem.reason == CREDENTIALS_REJECTED
    assert result.problem.message == (
        'S3 Secret "s3" with bucket media: the server\'s own check fails: S3 connectivity check failed; '
        "put keys into it that the bucket accepts, or correct its endpoint, the bucket or its policy; "
        "the pod is not restarted"
    )
    assert (result.verified, result.is_outdated, result.is_altered) == ("", False, True)


def test_a_session_token_is_not_sent_and_explains_a_rejection() -> None:
    answer = store(STORE_NAME, health="unhealthy", **CONFIG)
    answer["status"]["message"] = "S3 does not know token-MARKER"
    keys = S3Keys("AKIAMARKER", "secret-MARKER", "http://10.0.0.9:9000", "token-MARKER")

    [(_, _, config)], result = maintain(ok([]), Answer(201, answer), keys=keys)

    assert config == {**CONFIG, "secret_access_key": "secret-MARKER"}
    assert result.problem
    assert "this server takes no session token, so use keys that need none" in result.problem.message
    assert "MARKER" not in repr((result, keys))


@pytest.mark.parametrize("answer", [ok(), ok([]), ok({"name": 5}), ok({"name": "x", "status": "healthy"})])
def test_an_answer_without_a_check_accepts_nothing(answer: Answer) -> None:
    _, result = maintain(ok([]), answer)

    assert result.problem
    assert result.problem.reason == CREDENTIALS_REJECTED
    assert not result.verified


@pytest.mark.parametrize(
    ("answer", "reason", "is_altered"),
    [
        (refused(400, "unsafe endpoint"), CREDENTIALS_REJECTED, False),
        (refused(500), SERVER_UNREACHABLE, False),
        (refused(409), SERVER_UNREACHABLE, False),
        (refused(403, "Admin access required"), ADMIN_LOGIN_FAILED, False),
        (NO_ANSWER, SERVER_UNREACHABLE, True),
    ],
)
def test_a_write_that_fails_is_explained(answer: Answer, reason: str, is_altered: bool) -> None:
    _, result = maintain(ok([]), answer)

    assert result.problem
    assert (result.problem.reason, result.is_altered, result.verified) == (reason, is_altered, "")
    assert answer.detail in result.problem.message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(NO_ANSWER, SERVER_UNREACHABLE), (refused(401), ADMIN_LOGIN_FAILED), (ok({}), SERVER_UNREACHABLE)],
)
def test_without_the_list_nothing_is_written(answer: Answer, reason: str) -> None:
    writes, result = maintain(answer)

    assert writes == []
    assert result.problem
    assert result.problem.reason == reason


class TestAStoreOfAPerson:
    THEIRS = store("by-hand", bucket="media", prefix="one/", endpoint="https://s3.example.com")
    ADOPTING = replace(BUCKET, adopt="by-hand")

    def test_is_left_alone_with_advice(self) -> None:
        writes, result = maintain(ok([self.THEIRS]))

        assert writes == []
        assert result.problem is None
        assert "kubectl annotate dittoserver files --namespace team dittofs.io/adopt-block-store=by-hand" in result.kept

    @pytest.mark.parametrize("name", ["$(reboot)", "a b", "../x", "", "é", "a" * 64, "-a"])
    def test_with_an_odd_name_is_in_no_command(self, name: str) -> None:
        _, result = maintain(ok([store(name, bucket="media")]))

        assert result.kept
        assert "kubectl" not in result.kept

    def test_for_another_bucket_does_not_matter(self) -> None:
        writes, _ = maintain(ok([store("other", bucket="other"), store("fs", "memory", bucket="media")]), ok(OWN))

        assert [write[0] for write in writes] == ["POST"]

    def test_is_adopted_on_request_with_what_it_has(self) -> None:
        keys = S3Keys("id", "key")

        [(method, path, config)], result = maintain(
            ok([self.THEIRS, OWN]), ok(store("by-hand", bucket="media")), bucket=self.ADOPTING, keys=keys
        )

        assert (method, path) == ("PUT", (*REMOTE_STORES, "by-hand"))
        assert config["prefix"] == "one/"
        assert config["endpoint"] == "https://s3.example.com"
        assert (config["access_key_id"], config["secret_access_key"]) == ("id", "key")
        assert (result.name, result.verified, result.is_outdated) == ("by-hand", HASH, True)

    @pytest.mark.parametrize(
        "records", [[], [OWN], [store("by-hand", bucket="other")], [store("by-hand", "memory", bucket="media")]]
    )
    def test_is_not_adopted_under_a_wrong_name(self, records: list[Any]) -> None:
        writes, result = maintain(ok(records), bucket=self.ADOPTING)

        assert writes == []
        assert "annotation dittofs.io/adopt-block-store" in result.kept

    def test_beside_the_operators_is_left_alone(self) -> None:
        writes, result = maintain(ok([self.THEIRS, OWN]), known=KNOWN)

        assert writes == []
        assert result.name == STORE_NAME


def test_no_text_of_a_server_brings_a_key_along() -> None:
    answer = store(STORE_NAME, health="unhealthy")
    answer["status"]["message"] = 'AKIAMARKER "secret-MARKER" http://10.0.0.9:9000 ' + "x" * 300 + "secret-MARKER"

    _, result = maintain(ok([]), ok(answer))

    assert "MARKER" not in repr(result)
    assert "10.0.0.9" not in repr(result)
    assert "MARKER" not in repr(KEYS)


def test_every_input_of_the_hash_counts() -> None:
    hashes = {
        store_hash(*parts)
        for parts in [("a", "b", "c", ""), ("b", "b", "c", ""), ("a", "", "bc", ""), ("a", "b", "c", "d")]
    }

    assert len(hashes) == 4
    assert all(len(digest) == 64 for digest in hashes)


@pytest.mark.parametrize(
    "status",
    [None, [], {}, {"remoteStore": "x"}, {"remoteStore": {"name": "../..", "configHash": "x", "podHash": 5}}],
)
def test_a_made_up_status_counts_for_nothing(status: Any) -> None:
    assert RemoteStore.read({"status": status}) == RemoteStore()


def test_the_status_is_read_as_it_was_written() -> None:
    store = RemoteStore("by-hand", HASH, "b" * 64, "uid")

    assert RemoteStore.read({"status": {"remoteStore": store.as_status()}}) == store
    assert RemoteStore().as_status() is None
