"""Decides what the operator maintains inside a running server as its admin, and what a rotation of S3 keys restarts.

A server that keeps its own copy of S3 keys gets new ones before its pod restarts: the hash on the pod template stays
as it is until the server has accepted them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.storage.config import config_hash, config_yaml, consumed_digests
from app.storage.live import LiveState
from app.storage.maintenance import Provisioning
from app.storage.objects import service_name
from app.storage.pod import config_hash_of
from app.storage.problem import Problem, Stage
from app.storage.remote_store import (
    ADMIN_LOGIN_FAILED,
    CREDENTIALS_REJECTED,
    IDENTITY_UNSUPPORTED,
    KEPT_BY_SERVER,
    SERVER_UNREACHABLE,
    Bucket,
    RemoteStore,
    store_hash,
)
from app.storage.rendering import Rendering
from app.storage.rollout import is_ready
from app.storage.secret_references import JWT_PATH, PASSWORD_PATH, S3_PATH, consumed_references
from app.storage.server_health import Family, api_url, takes_keys_from_environment
from app.storage.shares import ShareState
from app.storage.spec import DittoServer
from app.storage.unstructured import is_terminating

# Reasons of CredentialsReady that only the server itself can give.
SERVER_REASONS = (CREDENTIALS_REJECTED, SERVER_UNREACHABLE, ADMIN_LOGIN_FAILED, KEPT_BY_SERVER)


@dataclass(frozen=True)
class Hashes:
    """Hashes all that the pod consumes in one rendering, the same without the S3 values, and what is in the server.

    The last one is the same in every rendering, so that no upgrade of the operator is a rotation. It has the JWT key in
    it, without which nobody can try S3 keys against it.
    """

    full: str
    without_s3: str
    store: str

    @classmethod
    def of(cls, server: DittoServer, digests: Mapping[str, Mapping[str, str]], rendering: Rendering) -> "Hashes":
        config, references = config_yaml(server.spec, rendering), consumed_references(server.metadata.name, server.spec)

        others = [reference for reference in references if reference.path != S3_PATH]
        keys = [reference for reference in references if reference.path in (S3_PATH, JWT_PATH)]
        # Another key of the same Secret holds other credentials.
        named = [("s3", key.name) for reference in keys if reference.path == S3_PATH for key in reference.keys]

        return cls(
            config_hash(config, consumed_digests(references, digests)),
            config_hash(config, consumed_digests(others, digests)),
            config_hash("", [*named, *consumed_digests(keys, digests)]),
        )


@dataclass(frozen=True)
class Contents:
    """Holds what the status says of the stores and shares inside the server.

    `kept` is why the server does not get the credentials of the Secret. `awaits_server` says that this process does not
    know yet whether the server accepts them, or its admin's password.
    """

    remote_store: RemoteStore = field(default_factory=RemoteStore)
    shares: tuple[ShareState, ...] = ()
    kept: Problem | None = None
    awaits_server: bool = False


def contents(server: DittoServer, live: LiveState, hashes: Hashes | None) -> Contents:
    has_to_be_asked = server.spec.replicas > 0 and (needs_bucket(server, live) or bool(server.spec.shares))
    return Contents(
        remote_store(server, live, hashes),
        share_states(server, live),
        kept_by_server(server, live),
        awaits_server=has_to_be_asked and live.provisioned is None,
    )


def family_of(live: LiveState) -> str | None:
    """Returns which server runs, or ran when it was last asked; None while that is unknown."""
    return live.health.family if live.health else live.server.family


def needs_bucket(server: DittoServer, live: LiveState) -> bool:
    """Tells whether the operator has a bucket to give to the server."""
    s3 = server.spec.s3
    return family_of(live) == Family.CURRENT and bool(s3.credentials_secret_ref and s3.bucket)


def provisioning(server: DittoServer, live: LiveState, hashes: Hashes | None) -> Provisioning | None:
    """Returns what the server that runs should have; None while nothing can be asked of it, or nothing has to be."""
    pod, health = live.pod, live.health
    url = api_url(live.services.get(service_name(server.metadata.name, "api")))
    if not (hashes and pod and health and url and live.uid) or is_terminating(pod) or not is_ready(pod):
        return None

    spec, mentioned = server.spec, tuple(state.name for state in live.shares)
    has_bucket, shares = needs_bucket(server, live), tuple(spec.shares or ())
    if not (has_bucket or shares or mentioned):
        return None

    references = {reference.path: reference for reference in consumed_references(server.metadata.name, spec)}
    password, s3 = references[PASSWORD_PATH], references.get(S3_PATH)
    consumed = [reference for reference in (password, s3) if reference and reference.secret]
    digests = [
        (reference.secret or "", key, digest)
        for reference in consumed
        for key, digest in sorted(live.digests.get(reference.secret or "", {}).items())
    ]

    bucket = None
    if has_bucket and s3:
        name, adopt = spec.s3.bucket or "", live.adopt_store
        digest = store_hash(hashes.store, name, spec.s3.region, adopt)
        metadata = server.metadata
        bucket = Bucket(name, spec.s3.region, s3.secret or "", digest, metadata.name, metadata.namespace, adopt)

    return Provisioning(
        uid=live.uid,
        pod=pod["metadata"]["uid"],
        started_at=health.started_at,
        url=url,
        family=health.family,
        password=password,
        s3=s3,
        bucket=bucket,
        shares=shares,
        secret_digests=tuple(digests),
        region=spec.s3.region,
        spec=spec,
        known=live.remote_store,
        mentioned=mentioned,
        restarts_anyway=live.stateful_set is not None and config_hash_of(live.stateful_set) != hashes.full,
        version=health.version,
    )


def template_hash(server: DittoServer, live: LiveState, hashes: Hashes, current: str) -> str:
    """Returns the hash for the pod template: its current one while a rotation of S3 keys must not restart the pod."""
    if family_of(live) != Family.CURRENT or not server.spec.s3.credentials_secret_ref:
        return hashes.full

    only_s3_changed = live.remote_store.pod_hash == hashes.without_s3
    if not needs_bucket(server, live):
        return current if only_s3_changed and not _takes_keys_at_its_start(live) else hashes.full

    # A restart brings new keys to a store that a person created, which the operator may not touch.
    result = live.provisioned
    is_kept = result is not None and result.provisioning.uid == live.uid and bool(result.store.kept)
    if _is_verified(server, live, hashes) or (is_kept and _takes_keys_at_its_start(live)):
        return hashes.full
    return current if only_s3_changed or awaits_push(server, live, hashes) else hashes.full


def awaits_push(server: DittoServer, live: LiveState, hashes: Hashes) -> bool:
    """Tells whether the server is about to get what its bucket needs, so that a restart now would be one too many."""
    if not needs_bucket(server, live) or server.spec.replicas == 0 or _is_verified(server, live, hashes):
        return False

    wanted = provisioning(server, live, hashes)
    is_tried = live.provisioned is not None and live.provisioned.provisioning == wanted
    return wanted is not None and not is_tried


def _takes_keys_at_its_start(live: LiveState) -> bool:
    """Tells whether a restart brings new keys to a server that answers like one which keeps a copy of them."""
    family, version = family_of(live), live.health.version if live.health else live.server.version
    return family is not None and takes_keys_from_environment(Family(family), version)


def _is_verified(server: DittoServer, live: LiveState, hashes: Hashes) -> bool:
    s3 = server.spec.s3
    digest = store_hash(hashes.store, s3.bucket or "", s3.region, live.adopt_store)
    if live.provisioned and live.provisioned.provisioning.uid == live.uid and live.provisioned.store.is_altered:
        return live.provisioned.store.verified == digest

    is_new = live.provisioned is not None and live.provisioned.store.verified == digest
    return is_new or live.remote_store.config_hash == digest


def remote_store(server: DittoServer, live: LiveState, hashes: Hashes | None) -> RemoteStore:
    """Returns what the status says of the remote store from now on."""
    store, result = live.remote_store, live.provisioned
    is_current = family_of(live) == Family.CURRENT and server.spec.s3.credentials_secret_ref is not None

    # Only when the template has the hash of now is it known what the pod was configured with.
    pod_hash = store.pod_hash if is_current else ""
    if is_current and hashes and live.stateful_set and config_hash_of(live.stateful_set) == hashes.full:
        pod_hash = hashes.without_s3

    pod = live.pod["metadata"].get("uid", "") if live.pod else ""
    restart_for = store.restart_for if store.restart_for == pod else ""
    if result and result.provisioning.uid == live.uid and result.provisioning.pod == pod:
        is_outdated = result.is_outdated or (result.store.is_outdated and not result.provisioning.restarts_anyway)
        restart_for = pod if is_outdated else restart_for

    name, verified = store.name, store.config_hash
    if not needs_bucket(server, live):
        name = verified = ""
    elif result and result.provisioning.uid == live.uid:
        name = "" if result.store.kept else result.store.name or name
        if result.store.verified or result.store.is_altered or result.store.kept:
            verified = result.store.verified
    return RemoteStore(name, verified, pod_hash, restart_for)


def credentials_problem(server: DittoServer, live: LiveState) -> Problem | None:
    """Returns why the server does not have the credentials, or could not be asked; None when nothing is wrong."""
    if problem := _unsupported_identity(server, live):
        return problem

    result = live.provisioned
    if server.spec.replicas == 0 or result is None or result.provisioning.uid != live.uid:
        return None

    if needs_bucket(server, live):
        return result.problem or result.store.problem

    is_login = result.problem is not None and result.problem.reason == ADMIN_LOGIN_FAILED
    return result.problem if is_login else None


def _unsupported_identity(server: DittoServer, live: LiveState) -> Problem | None:
    """Returns that the server takes no credentials from its ServiceAccount, where it has a bucket and no others."""
    s3 = server.spec.s3
    has_only_account = s3.bucket and s3.service_account_name and not s3.credentials_secret_ref
    if not has_only_account or server.spec.replicas == 0:
        return None
    if family_of(live) != Family.CURRENT or _takes_keys_at_its_start(live):
        return None

    message = (
        f"DittoFS 0.13 or newer takes no S3 credentials from ServiceAccount {s3.service_account_name}, only keys: "
        "name them in s3.credentialsSecretRef"
    )
    return Problem(IDENTITY_UNSUPPORTED, message, Stage.CREDENTIALS, stalls=True)


def kept_by_server(server: DittoServer, live: LiveState) -> Problem | None:
    """Returns why new credentials in the Secret do not reach the server; None when they do."""
    s3, result = server.spec.s3, live.provisioned
    if family_of(live) != Family.CURRENT or s3.credentials_secret_ref is None or _takes_keys_at_its_start(live):
        return None

    if not s3.bucket:
        command = "dfsctl store block remote edit <name> --access-key <id> --secret-key <secret>"
        message = (
            "the server keeps its own copy of the S3 credentials, which a change of the Secret does not reach: set "
            f"s3.bucket so that the operator updates it, or run {command} and delete the pod"
        )
        return Problem(KEPT_BY_SERVER, message, Stage.CREDENTIALS)

    if result and result.provisioning.uid == live.uid and result.store.kept:
        return Problem(KEPT_BY_SERVER, result.store.kept, Stage.CREDENTIALS)
    return None


def share_states(server: DittoServer, live: LiveState) -> tuple[ShareState, ...]:
    """Returns the shares for the status: those of the spec, and those that were in it and are still in the server."""
    shares, result = server.spec.shares or (), live.provisioned
    earlier = {state.name: state for state in live.shares}
    is_current = result is not None and result.provisioning.uid == live.uid
    if result and is_current and not result.problem and result.provisioning.shares == tuple(shares):
        return result.shares

    waiting = "it is created once the server runs"
    if result and is_current and result.problem:
        waiting = result.problem.message

    named = [earlier.get(share.name) or ShareState(share.name, "Pending", waiting) for share in shares]
    # Until a server that runs was asked again, what it said last holds.
    if result or live.pod is None or not is_ready(live.pod):
        named = [replace(state, message=waiting) if state.phase == "Pending" else state for state in named]

    names = {share.name for share in shares}
    return (*named, *(state for state in live.shares if state.name not in names))
