"""Decides which stores and shares a DittoFS server should have, and what to ask of it to get there. It deletes none."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from app.storage.dialogue import Answer, Dialogue, ServerRequest, StoreRecord, Unanswered, list_records
from app.storage.remote_store import STORE_NAME
from app.storage.server_health import Family, share_removal_command
from app.storage.spec import MAX_SHARE_NAME_CHARACTERS, SHARE_NAME_PATTERN, Share, Spec
from app.storage.unstructured import Manifest

SharePhase = Literal["Ready", "Pending", "Failed", "Retained"]

SHARES = ("shares",)
# Those that have left the spec are reported as well, up to this number in all.
MAX_REPORTED = 256
MAX_MESSAGE_CHARACTERS = 1024
SHARE_FAILED, SHARE_RETAINED = "ShareFailed", "ShareRetained"

# What a share in S3 cannot do without.
S3_NEEDS = "s3.bucket and s3.credentialsSecretRef, or s3.serviceAccountName with DittoFS up to 0.12"

# Folders of the operator's own stores, each on the volume of its kind.
_METADATA_PATH = f"/data/metadata/{STORE_NAME}"
_CONTENT_PATH = f"/data/content/{STORE_NAME}"
_CACHE_PATH = f"/data/cache/{STORE_NAME}"

_METADATA_STORES = {Family.LEGACY: ("metadata-stores",), Family.CURRENT: ("store", "metadata")}
_METADATA_PATH_KEY = {Family.LEGACY: "db_path", Family.CURRENT: "path"}
_LOCAL_STORES, _PAYLOAD_STORES = ("store", "block", "local"), ("payload-stores",)
_LOCAL_STORE = {
    "s3": (f"{STORE_NAME}-cache", _CACHE_PATH),
    "local": (f"{STORE_NAME}-content", _CONTENT_PATH),
}
_PAYLOAD_TYPES = {"s3": "s3", "local": "filesystem"}


@dataclass(frozen=True)
class ShareState:
    """One entry of status.shares."""

    name: str
    phase: SharePhase
    message: str = ""

    @property
    def path(self) -> str:
        return f"/{self.name}"

    def as_status(self) -> Manifest:
        entry = {"name": self.name, "path": self.path, "phase": self.phase}
        return entry | ({"message": self.message} if self.message else {})


@dataclass(frozen=True)
class WantedShares:
    """The shares of the spec with all that their stores need; `mentioned` are further names that the status has.

    `remote` is the name of the remote store in a server that keeps S3 keys, empty while it does not work.
    """

    family: Family
    shares: tuple[Share, ...]
    spec: Spec
    mentioned: tuple[str, ...] = ()
    remote: str = ""
    endpoint: str = field(default="", repr=False)
    version: str | None = None

    def store_of(self, share: Share) -> Literal["s3", "local"]:
        return store_of(share, self.spec)


@dataclass(frozen=True)
class SharesResult:
    """`is_outdated` says that the running pod still serves from the stores as they were before."""

    states: tuple[ShareState, ...] = ()
    is_outdated: bool = False


def store_of(share: Share, spec: Spec) -> Literal["s3", "local"]:
    """Returns where the content of a share goes: to the bucket when there is one, unless the share says otherwise."""
    return share.store or ("s3" if spec.s3.bucket else "local")


def reported_shares(manifest: Mapping[str, Any]) -> tuple[ShareState, ...]:
    """Returns what status.shares has; whoever may write the status may have made it up."""
    status = manifest.get("status")
    entries = status.get("shares") if isinstance(status, Mapping) else None
    states: dict[str, ShareState] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue

        name, message = entry.get("name"), str(entry.get("message") or "")
        phase: SharePhase | None = next((phase for phase in get_args(SharePhase) if phase == entry.get("phase")), None)
        if not isinstance(name, str) or len(name) > MAX_SHARE_NAME_CHARACTERS or phase is None:
            continue

        if re.fullmatch(SHARE_NAME_PATTERN, name) and len(states) < MAX_REPORTED:
            states[name] = ShareState(name, phase, message[:MAX_MESSAGE_CHARACTERS])
    return tuple(states.values())


def maintain_shares(wanted: WantedShares) -> Dialogue[SharesResult]:
    """Creates the shares that the server lacks, and their stores first; changes what differs of the others."""
    states: list[ShareState] = []
    try:
        records = yield from list_records(SHARES)
        missing = [share for share in wanted.shares if f"/{share.name}" not in records]

        if wanted.family is Family.LEGACY:
            problems, is_outdated = yield from _prepare_payload_store(wanted, missing)
        else:
            problems, is_outdated = (yield from _prepare_block_stores(wanted, missing)), False
    except Unanswered as error:
        why = f"it could not be looked up in the server: {error}"
        return SharesResult(tuple(ShareState(share.name, "Pending", why) for share in wanted.shares))

    for share in wanted.shares:
        record = records.get(f"/{share.name}")
        state = None
        if record is None and share.name in problems:
            state = problems[share.name]
        elif record is None:
            record, state = yield from _create_share(wanted, share)

        states.append((yield from _maintain_share(wanted, share, record)) if record else state or _waiting(share))

    names = {share.name for share in wanted.shares}
    for name in wanted.mentioned:
        if name not in names and f"/{name}" in records:
            command = f"{share_removal_command(wanted.family, wanted.version)} /{name}"
            message = f"share {name} is no longer in the spec, but is kept with its data; to delete it, run: {command}"
            states.append(ShareState(name, "Retained", message))

    return SharesResult(tuple(states[:MAX_REPORTED]), is_outdated)


def _waiting(share: Share) -> ShareState:
    return ShareState(share.name, "Pending", "the server has not answered; the operator asks again")


def _prepare_block_stores(wanted: WantedShares, missing: list[Share]) -> Dialogue[dict[str, ShareState]]:
    """Creates the stores of shares that the server lacks; returns, by share, what keeps it from being created."""
    problems: dict[str, ShareState] = {}
    for share in missing:
        if wanted.store_of(share) == "s3" and not wanted.remote:
            message = "it waits for the server to accept the S3 credentials; see the condition CredentialsReady"
            problems[share.name] = ShareState(share.name, "Pending", message)

    creatable = [share for share in missing if share.name not in problems]
    if not creatable:
        return problems

    why_no_metadata = yield from _ensure_metadata_store(wanted.family)
    stores = yield from list_records(_LOCAL_STORES)

    why_not: dict[str, str] = {}
    for kind in dict.fromkeys(wanted.store_of(share) for share in creatable):
        name, path = _LOCAL_STORE[kind]
        if name not in stores and not why_no_metadata:
            why_not[kind] = yield from _create_store(_LOCAL_STORES, name, "fs", {"path": path})

    for share in creatable:
        if why := why_no_metadata or why_not.get(wanted.store_of(share)):
            problems[share.name] = ShareState(share.name, "Failed", why)
    return problems


def _prepare_payload_store(wanted: WantedShares, missing: list[Share]) -> Dialogue[tuple[dict[str, ShareState], bool]]:
    """Creates or updates the one store that DittoFS up to 0.8 has for the content of all shares, whatever they say."""
    if not wanted.shares:
        return {}, False

    stores = yield from list_records(_PAYLOAD_STORES)
    ours = stores.get(STORE_NAME)
    kinds = {wanted.store_of(share) for share in wanted.shares}
    others = sorted(name for name in stores if name != STORE_NAME)

    why, is_outdated = "", False
    if others:
        why = "DittoFS up to 0.8 keeps the content of all shares in its first store, which somebody else created"
    elif len(kinds) > 1:
        why = "DittoFS up to 0.8 keeps the content of all shares in one store; give all of them the same store"
    else:
        [kind] = kinds
        config = _payload_config(wanted, kind)
        if ours is None and missing:
            why = yield from _create_store(_PAYLOAD_STORES, STORE_NAME, _PAYLOAD_TYPES[kind], config)
        elif ours and ours.type != _PAYLOAD_TYPES[kind]:
            why = "DittoFS up to 0.8 keeps the content of all shares in one store, and this one is of the other kind"
        elif ours and any(ours.config.get(name) != value for name, value in config.items()):
            body = {"type": ours.type, "config": json.dumps({**ours.config, **config})}
            answer = yield ServerRequest("PUT", (*_PAYLOAD_STORES, STORE_NAME), body)
            is_outdated, why = answer.is_success, answer.detail

    if missing and not why:
        why = yield from _ensure_metadata_store(wanted.family)
    return {share.name: ShareState(share.name, "Failed", why) for share in missing if why}, is_outdated


def _payload_config(wanted: WantedShares, kind: Literal["s3", "local"]) -> dict[str, str]:
    """Returns the configuration without keys: this server would return them to anybody who lists its stores."""
    if kind == "local":
        return {"path": _CONTENT_PATH}
    # An endpoint by host name from the environment would be addressed as <bucket>.<host>.
    endpoint = {"endpoint": wanted.endpoint} if wanted.endpoint else {}
    return {"bucket": wanted.spec.s3.bucket or "", "region": wanted.spec.s3.region, **endpoint}


def _ensure_metadata_store(family: Family) -> Dialogue[str]:
    """Returns why there is none, empty when there is one. To create one that exists is no conflict but an error."""
    path = _METADATA_STORES[family]
    stores = yield from list_records(path)
    if STORE_NAME in stores:
        return ""

    return (yield from _create_store(path, STORE_NAME, "badger", {_METADATA_PATH_KEY[family]: _METADATA_PATH}))


def _create_store(path: tuple[str, ...], name: str, kind: str, config: Mapping[str, str]) -> Dialogue[str]:
    """Returns why the store could not be created, empty when it could."""
    answer = yield ServerRequest("POST", path, {"name": name, "type": kind, "config": json.dumps(config)})
    if answer.is_success or answer.status == 409:
        return ""
    return f"its store {name} could not be created: {answer.detail or 'no answer'}"


def _create_share(wanted: WantedShares, share: Share) -> Dialogue[tuple[StoreRecord | None, ShareState | None]]:
    """Returns the new share, or why it could not be created."""
    body: dict[str, Any] = {
        "name": f"/{share.name}",
        "metadata_store_id": STORE_NAME,
        "read_only": share.read_only,
        "default_permission": share.default_permission,
    }
    kind = wanted.store_of(share)
    if wanted.family is Family.LEGACY:
        body["payload_store_id"] = STORE_NAME
    else:
        body["local_block_store"] = _LOCAL_STORE[kind][0]
        if kind == "s3":
            body["remote_block_store"] = wanted.remote

    answer = yield ServerRequest("POST", SHARES, body)
    if answer.is_success and (record := StoreRecord.read(answer.body)):
        return record, None

    if answer.status is not None and answer.status != 409 and not answer.is_success:
        return None, ShareState(share.name, "Failed", f"it could not be created: {answer.detail}")

    # While S3 is down a server gives no answer for long, and creates the share all the same.
    try:
        records = yield from list_records(SHARES)
    except Unanswered:
        return None, None
    return records.get(f"/{share.name}"), None


def _maintain_share(wanted: WantedShares, share: Share, record: StoreRecord) -> Dialogue[ShareState]:
    """Changes what differs, where the server can change it."""
    is_read_only, permission = record.fields.get("read_only") is True, record.fields.get("default_permission")
    is_current = wanted.family is Family.CURRENT
    stays_read_only = is_read_only and not share.read_only and is_current

    changes: dict[str, Any] = {}
    if is_read_only != share.read_only and not stays_read_only:
        changes["read_only"] = share.read_only
    if permission != share.default_permission:
        changes["default_permission"] = share.default_permission

    failure: Answer | None = None
    if changes:
        answer = yield ServerRequest("PUT", (*SHARES, share.name), changes)
        failure = None if answer.is_success else answer

    if share.squash and is_current and not failure:
        options = (*SHARES, share.name, "adapters", "nfs", "config")
        answer = yield ServerRequest("GET", options)
        if answer.is_success and not (isinstance(answer.body, Mapping) and answer.body.get("squash") == share.squash):
            answer = yield ServerRequest("PATCH", options, {"squash": share.squash})
        failure = None if answer.is_success else answer

    if failure and failure.status is None:
        return _waiting(share)
    if failure:
        return ShareState(share.name, "Failed", f"it could not be changed: {failure.detail}")
    if stays_read_only:
        return ShareState(share.name, "Failed", "it stays read-only: the server cannot undo that; use a new share")

    has_remote = record.fields.get("remote_block_store_id", ...)
    if is_current and has_remote is not ... and bool(has_remote) != (wanted.store_of(share) == "s3"):
        where = "in S3" if has_remote else "in a local store"
        return ShareState(
            share.name, "Failed", f"it exists with its content {where}, and the operator does not move it"
        )

    ignored = "squash has no effect in DittoFS up to 0.8" if share.squash and not is_current else ""
    return ShareState(share.name, "Ready", ignored)
