"""Says what becomes of a server of the Go operator when this operator takes it over, for `check --from-go`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.database import database_template, unmounted_database
from app.storage.defaulting import set_defaults
from app.storage.live import LiveState
from app.storage.objects import OPERATOR, Owner, stateful_set
from app.storage.pod import PodRevision
from app.storage.reading import read
from app.storage.resize import initial_templates
from app.storage.rules import invalid_findings
from app.storage.secret_references import (
    PASSWORD_KEY,
    PASSWORD_PATH,
    POSTGRES_PATH,
    admin_secret_name,
    consumed_references,
    generated_references,
    why_not_usable,
)
from app.storage.spec import DittoServer
from app.storage.takeover import former_admin_secret_name, ignored_fields, remaining_finalizers
from app.storage.unstructured import Manifest
from app.storage.volume_states import Phase, volume_states

ADAPTER_SUFFIXES = ("adapter-nfs", "adapter-smb")
POLICY_SUFFIXES = ("baseline", *ADAPTER_SUFFIXES)

# What the fields of the Go operator did, by their paths.
_CONSEQUENCES = {
    "spec.adapterDiscovery": "adapters are not discovered; NFS and SMB are served at the Service <name>-file",
    "spec.adapterServices": "Services of adapters that exist stay as they are, and no others are created",
    "spec.controlPlane.certSecretName": "the API is served without TLS",
    "spec.controlPlane.clientCASecretName": "the API asks for no client certificates",
    "spec.controlPlane.tls": "the API is served without TLS",
    "spec.identity.kerberos": "users cannot log in with Kerberos",
    "spec.identity.ldap": "users of the directory cannot log in",
    "spec.logging": "the server logs JSON at the level INFO",
    "spec.metrics.bearerTokenSecret": "metrics can be read without a token",
    "spec.metrics.path": "metrics are at /metrics",
    "spec.metrics.serviceMonitor": "the ServiceMonitor stays as it is, and nobody updates it any more",
    "spec.percona": "the PerconaPGCluster is no longer managed, and is deleted with the DittoServer",
    "spec.snapshotPolicies": "no snapshots are taken any more",
    "spec.storage.controlPlaneSize": "an existing claim keeps its size",
    "spec.terminationGracePeriodSeconds": "the pod has 105 seconds to shut down",
}
# Without these nobody can work with the server as before.
_LOGINS = ("spec.identity.kerberos", "spec.identity.ldap")


@dataclass(frozen=True)
class Migration:
    """Says what becomes of a server: which objects are adopted, whether its pod restarts, and what has no effect.

    `first` is what a person has to do before. `is_done` says that this operator has taken the server over already.
    """

    adopted: tuple[str, ...] = ()
    restarts: bool = False
    restart: str = ""
    ignored: Mapping[str, str] | None = None
    first: tuple[str, ...] = ()
    is_done: bool = False


def plan_migration(manifest: Manifest, live: LiveState, others: Mapping[str, str], *, knows_secrets: bool) -> Migration:
    """Decides what becomes of the server.

    `others` has the types of Services by names such as `Service files-api`, and NetworkPolicies without a type. The
    Secrets are in `live` if somebody could look at them.
    """
    reading = read(set_defaults(manifest))
    server, ignored = reading.server, ignored_fields(manifest)

    first = [finding.message for finding in invalid_findings(reading)]
    first += [f"{path}: {_CONSEQUENCES[path]}; do not migrate this server" for path in _LOGINS if path in ignored]
    first += _what_to_do_about_secrets(server, live) if knows_secrets else []
    first += [state.message for state in volume_states(server, live) if state.phase is Phase.TERMINATING]

    # The Go operator makes it a load balancer unless the spec asks for something else.
    api, wanted = f"Service {server.metadata.name}-api", server.spec.service.type
    if others.get(api, wanted) != wanted:
        becomes = f"{api} is of type {others[api]}, and becomes {wanted}"
        first.append(f"{becomes}: set spec.service.type to {others[api]} to keep the address that clients use")

    if unmounted := unmounted_database(server, live):
        first.append(unmounted)

    has_labels = ((live.stateful_set or {}).get("metadata") or {}).get("labels") or {}
    is_ours = has_labels.get("app.kubernetes.io/managed-by") == OPERATOR and remaining_finalizers(manifest) is None
    runs = bool(live.stateful_set and live.stateful_set["spec"].get("replicas") and server.spec.replicas)
    restart = "the pod restarts once: this operator renders another pod template, and adds missing volumes"
    if not runs:
        restart = "no pod runs that could restart"
    elif is_ours:
        restart = "the pod keeps running: this operator has taken the server over already"

    return Migration(
        adopted=tuple(_adopted(server, manifest, live, others)),
        restarts=runs and not is_ours,
        restart=restart,
        ignored={path: _CONSEQUENCES.get(path, "it has no effect") for path in ignored},
        first=tuple(first),
        is_done=is_ours,
    )


def _adopted(
    server: DittoServer, manifest: Mapping[str, Any], live: LiveState, others: Mapping[str, str]
) -> Iterator[str]:
    name = server.metadata.name
    templates = initial_templates(server, live)
    names = [template["metadata"]["name"] for template in templates]
    if live.stateful_set:
        present = {entry["metadata"]["name"] for entry in live.stateful_set["spec"].get("volumeClaimTemplates") or []}
        added = ", ".join(volume for volume in names if volume not in present)
        how = f"is recreated around its pod to add {added}" if added else "is adopted as it is"
        yield f"StatefulSet {name} {how}"
    else:
        yield f"StatefulSet {name} does not exist and is created"

    revision = PodRevision(database=database_template(server, live))
    template = stateful_set(Owner(name, ""), server.spec, revision, templates)["spec"]["template"]
    mounts = [mount for container in template["spec"]["containers"] for mount in container["volumeMounts"]]
    for volume in names:
        claim = f"{volume}-{name}-0"
        paths = [mount["mountPath"] for mount in mounts if mount["name"] == volume]
        how = "is mounted" if claim in live.claims else "is created, and mounted"
        yield f"volume claim {claim} {how} at {' and '.join(paths)}"

    for secret in sorted(live.generated_secrets):
        yield f"Secret {secret} is used, and is kept when the server is deleted"

    if live.former_admin_secret and admin_secret_name(name) not in live.generated_secrets:
        yield f"the password in Secret {former_admin_secret_name(name)} is copied and used again"

    for suffix in ADAPTER_SUFFIXES:
        if f"Service {name}-{suffix}" in others:
            yield f"Service {name}-{suffix} stays as it is; its clients keep working"

    policies = [f"{name}-{suffix}" for suffix in POLICY_SUFFIXES if f"NetworkPolicy {name}-{suffix}" in others]
    if policies:
        yield f"NetworkPolicies {', '.join(policies)} stay as they are; nobody updates them when a port changes"

    if remaining_finalizers(manifest) is not None:
        yield "the finalizer of the Go operator is removed"


def _what_to_do_about_secrets(server: DittoServer, live: LiveState) -> Iterator[str]:
    """Yields what keeps the pod from its Secrets, and what to do about a password that only the database knows."""
    name = server.metadata.name
    generated = {reference.path for reference in generated_references(name, server.spec)}
    for reference in consumed_references(name, server.spec):
        secret = (live.secrets or {}).get(reference.secret or "")
        if reference.path not in generated and (finding := why_not_usable(reference, secret)):
            is_dsn = reference.path == POSTGRES_PATH
            hint = "; the Go operator reads other keys of it, this operator a connection string" if is_dsn else ""
            yield f"{finding.message}{hint}"

    database = f"{database_template(server, live)}-{name}-0"
    admin = admin_secret_name(name)
    is_kept = admin in live.generated_secrets or live.former_admin_secret
    if PASSWORD_PATH in generated and not is_kept and database in live.claims:
        yield (
            f"Secret {admin} does not exist, but the database on volume claim {database} has a password already: "
            f"create the Secret with that password under the key {PASSWORD_KEY}, or one is generated that does not work"
        )
