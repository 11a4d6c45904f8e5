"""Decides about the remote store: the record with the bucket and its credentials in a server that keeps a copy of them.

DittoFS from 0.13 on reads no credentials from its environment. The operator maintains one record, and adopts one that a
person created only on request.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.storage.dialogue import Answer, Dialogue, ServerRequest, StoreRecord, Unanswered, list_records
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.problem import Problem, Stage
from app.storage.redaction import redact
from app.storage.unstructured import Manifest

STORE_NAME = "dittofs-operator"
ADOPT_STORE = "dittofs.io/adopt-block-store"
REMOTE_STORES = ("store", "block", "remote")

CREDENTIALS_REJECTED, SERVER_UNREACHABLE = "CredentialsRejected", "ServerUnreachable"
ADMIN_LOGIN_FAILED, KEPT_BY_SERVER = "AdminLoginFailed", "KeptByServer"
IDENTITY_UNSUPPORTED = "WorkloadIdentityUnsupported"

_SECRET_FIELDS = {"access_key_id", "secret_access_key"}
_HASH = re.compile("[0-9a-f]{64}")
# A server takes any name; only these can stand in a command and in a path without quotes.
_PLAIN_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class RemoteStore:
    """Holds what the status says of the remote store. Anybody may have written it, so it is validated."""

    name: str = ""
    config_hash: str = ""
    pod_hash: str = ""
    restart_for: str = ""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "RemoteStore":
        status = manifest.get("status")
        section = status.get("remoteStore") if isinstance(status, Mapping) else None
        if not isinstance(section, Mapping):
            return cls()

        texts = {name: value for name, value in section.items() if isinstance(value, str)}
        return cls(
            name=_matching(_PLAIN_NAME, texts.get("name")),
            config_hash=_matching(_HASH, texts.get("configHash")),
            pod_hash=_matching(_HASH, texts.get("podHash")),
            restart_for=texts.get("restartFor", "")[:MAX_NAME_CHARACTERS],
        )

    def as_status(self) -> Manifest | None:
        """Returns the section of the status; None when there is nothing to say."""
        section = {
            "name": self.name,
            "configHash": self.config_hash,
            "podHash": self.pod_hash,
            "restartFor": self.restart_for,
        }
        return {name: value for name, value in section.items() if value} or None


def _matching(pattern: re.Pattern[str], text: str | None) -> str:
    return text if text and pattern.fullmatch(text) else ""


@dataclass(frozen=True)
class Bucket:
    """The bucket of the spec; `store_hash` tells its record from an earlier one, `secret` names the Secret."""

    bucket: str
    region: str
    secret: str
    store_hash: str
    server: str = ""
    namespace: str = ""
    adopt: str = ""  # The name of a record that the operator may adopt.


@dataclass(frozen=True)
class S3Keys:
    """The values of the Secret, which are kept for one dialogue. No record has a session token."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    endpoint: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    def mask(self, text: str) -> str:
        """Quotes a server's text without these values."""
        return redact(text, (self.access_key_id, self.secret_access_key, self.endpoint, self.session_token))


@dataclass(frozen=True)
class StoreResult:
    """The result of maintaining the remote store.

    `verified` is the hash that the server has accepted the credentials for. `is_outdated` says that the running pod
    still serves with what the record had before. `is_altered` says that the record may have changed at all.
    """

    name: str = ""
    verified: str = ""
    is_outdated: bool = False
    is_altered: bool = False
    problem: Problem | None = None
    kept: str = ""  # Why the server's own copy of the credentials is not the operator's business.


def store_to_adopt(manifest: Mapping[str, Any]) -> str:
    """Returns the name of the record that the operator may adopt, empty for none; no server need have it."""
    return str((manifest["metadata"].get("annotations") or {}).get(ADOPT_STORE) or "")[:MAX_NAME_CHARACTERS]


def store_hash(config_hash: str, bucket: str, region: str, adopt: str) -> str:
    """Returns the SHA-256 of what a record is made from; a JWT key among it keeps the S3 keys from being guessed."""
    parts = [part.encode(errors="replace") for part in (config_hash, bucket, region, adopt)]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def maintain_store(bucket: Bucket, keys: S3Keys, known: RemoteStore) -> Dialogue[StoreResult]:
    """Creates or updates the record unless it is as it should be, and judges the server's check of the credentials."""
    try:
        records = yield from list_records(REMOTE_STORES)
    except Unanswered as error:
        return StoreResult(problem=explain_failure(Answer(error.status, detail=str(error))))

    record, kept = _choose_record(records, bucket)
    if kept:
        return StoreResult(kept=kept)

    name = record.name if record else STORE_NAME
    config = _config(bucket, keys, record)
    is_known = known.config_hash == bucket.store_hash and known.name == name
    is_same = record is not None and is_known and _without_secrets(record.config) == _without_secrets(config)
    if record and record.is_healthy and is_same:
        return StoreResult(name, verified=bucket.store_hash)

    body = {"type": "s3", "config": json.dumps(config)}
    if record:
        answer = yield ServerRequest("PUT", (*REMOTE_STORES, name), body)
    else:
        answer = yield ServerRequest("POST", REMOTE_STORES, {"name": name, **body})

    # Without an answer the record may have changed all the same.
    result = StoreResult(name, is_altered=not is_same and (answer.is_success or answer.status is None))
    if answer.status == 400:
        return replace(result, problem=_rejected(bucket, f"the server refuses it: {answer.detail}"))
    if not answer.is_success:
        return replace(result, problem=explain_failure(answer))

    written = StoreRecord.read(answer.body)
    if written is None or not written.is_healthy:
        why = (written and keys.mask(written.message)) or "it does not say why"
        if keys.session_token:
            why = f"{why}; this server takes no session token, so use keys that need none"
        problem = _rejected(bucket, f"the server's own check fails: {why}")
        return replace(result, problem=problem)

    return replace(result, verified=bucket.store_hash, is_outdated=record is not None and not is_same)


def _choose_record(records: Mapping[str, StoreRecord], bucket: Bucket) -> tuple[StoreRecord | None, str]:
    """Returns the record to update, None to create one; and why there is none that the operator may touch."""
    same_bucket = [
        record for record in records.values() if record.type == "s3" and record.config.get("bucket") == bucket.bucket
    ]
    if bucket.adopt:
        record = next((record for record in same_bucket if record.name == bucket.adopt), None)
        if record and _PLAIN_NAME.fullmatch(record.name):
            return record, ""

        why = f"the server has no S3 block store for bucket {bucket.bucket} with the name in annotation {ADOPT_STORE}"
        return None, f"{why}; correct the annotation or remove it"

    if ours := records.get(STORE_NAME):
        if ours.type == "s3":
            return ours, ""
        return None, f"block store {STORE_NAME} of the server is not of type s3; remove it"
    if not same_bucket:
        return None, ""

    plain = next((record.name for record in same_bucket if _PLAIN_NAME.fullmatch(record.name)), None)
    if plain is None:
        return None, f"a person created a block store for bucket {bucket.bucket}, and the server keeps its credentials"

    namespace = f" --namespace {bucket.namespace}" if bucket.namespace else ""
    command = f"kubectl annotate dittoserver {bucket.server}{namespace} {ADOPT_STORE}={plain}"
    why = f"a person created block store {plain} for bucket {bucket.bucket}, and the server keeps its credentials"
    return None, f"{why}; to let the operator update them: {command}"


def _config(bucket: Bucket, keys: S3Keys, record: StoreRecord | None) -> dict[str, Any]:
    """Returns the whole configuration of the record: a server replaces all of it."""
    config = dict(record.config) if record else {}
    if record and record.name == STORE_NAME and not keys.endpoint:
        for name in ("endpoint", "allow_private_endpoint"):
            config.pop(name, None)

    config |= {"bucket": bucket.bucket, "region": bucket.region}
    if keys.endpoint:
        # The person who may write the Secret decides where this server goes, as with an environment variable.
        config |= {"endpoint": keys.endpoint, "allow_private_endpoint": True}
    return config | {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key}


def _without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _SECRET_FIELDS}


def _rejected(bucket: Bucket, why: str) -> Problem:
    message = (
        f'S3 Secret "{bucket.secret}" with bucket {bucket.bucket}: {why}; put keys into it that the bucket accepts, or '
        "correct its endpoint, the bucket or its policy; the pod is not restarted"
    )
    return Problem(CREDENTIALS_REJECTED, message, Stage.CREDENTIALS)


def explain_failure(answer: Answer) -> Problem:
    """Returns the problem of a request after the login that failed."""
    if answer.status in (401, 403):
        advice = "log in as admin with dfsctl and do what it asks for"
        return Problem(
            ADMIN_LOGIN_FAILED, f"the server refuses the admin: {answer.detail}; {advice}", Stage.CREDENTIALS
        )
    message = f"the server did not get the credentials: {answer.detail or 'no answer'}; the operator tries again"
    return Problem(SERVER_UNREACHABLE, message, Stage.CREDENTIALS)
