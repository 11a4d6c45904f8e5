"""Renders the pod template: what the real server needs to run, and nothing that changes without need."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.ports import NFS_PORT, SMB_PORT, listeners
from app.storage.rendering import NEWEST, NO_DEFAULTS, ObjectDefaults, Rendering
from app.storage.secret_references import (
    JWT_PATH,
    PASSWORD_PATH,
    POSTGRES_KEYS,
    POSTGRES_PATH,
    SecretReference,
    consumed_references,
    postgres_secret_name,
)
from app.storage.spec import Spec
from app.storage.unstructured import Manifest
from app.storage.volumes import CONTROL_PLANE, DATABASE_MOUNT_PATH, METADATA, volumes

CONFIG_HASH = "dittofs.io/config-hash"
# On a pod: what the operator's settings for all servers were when it was rendered.
POD_DEFAULTS = "dittofs.io/pod-defaults"
# On a DittoServer and on its pod: a new value restarts the pod.
RESTARTED_AT = "dittofs.io/restartedAt"
READ_ONLY_ROOT = "readOnlyRootFilesystem"
CONTAINER = "dittofs"
CONFIG_FILE = "config.yaml"
CONFIG_FOLDER = "/config"
TEMPORARY_FOLDER = "/tmp"  # noqa: S108 - a path in the pod
S3_CA, S3_CA_FOLDER, S3_CA_FILE = "s3-ca", "/s3-ca", "ca.crt"
SERVICE_ACCOUNT_FIELDS = ("serviceAccountName", "serviceAccount")
# Longer than the server's own shutdown_timeout.
GRACE_SECONDS = 105

_USER = 65532
# The restricted Pod Security profile.
_POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

# In addition to where Go looks for the public CAs, which SSL_CERT_DIR replaces. AWS_CA_BUNDLE would take their place,
# and DittoFS 0.13 or newer reaches no S3 at all with it.
_CA_FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs", S3_CA_FOLDER)
_NO_CONTENT, _TEMPORARY = "no-content", "tmp"
_EMPTY_DIRS: Mapping[str, Manifest] = {_NO_CONTENT: {"sizeLimit": "1Mi"}, _TEMPORARY: {}}


@dataclass(frozen=True)
class PodRevision:
    """Holds what a pod template has that does not follow from the spec. The defaults are those of a new server.

    `database` is the claim template that has the control plane's database: METADATA or CONTROL_PLANE.
    `has_writable_root` says that the server may have written to its root file system; it still may, unless the spec
    says otherwise.
    """

    rendering: Rendering = NEWEST
    config_hash: str | None = None
    restarted_at: str | None = None
    has_writable_root: bool = False
    database: str = METADATA
    defaults: ObjectDefaults = NO_DEFAULTS


def pod_name(server: str) -> str:
    """Returns the name that the StatefulSet controller gives the only pod."""
    return f"{server}-0"


def mounted_claims(pod: Mapping[str, Any]) -> set[str]:
    """Returns the names of the claims that a pod mounts."""
    sources = [volume.get("persistentVolumeClaim") or {} for volume in (pod.get("spec") or {}).get("volumes") or []]
    return {source["claimName"] for source in sources if source.get("claimName")}


def container_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what the kubelet reports of the server's own container; empty while it reports nothing."""
    statuses: list[Mapping[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    return next((status for status in statuses if status.get("name") == CONTAINER), {})


def server_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the server's own container in the spec of a pod, or of its template; empty where there is none."""
    containers: list[Mapping[str, Any]] = (pod.get("spec") or {}).get("containers") or []
    return next((container for container in containers if container.get("name") == CONTAINER), {})


def config_map_name(server: str) -> str:
    return f"{server}-config"


def pod_template(
    name: str, spec: Spec, labels: Mapping[str, str], templates: Collection[str], revision: PodRevision
) -> Manifest:
    """Renders the template; `templates` names the claim templates of the StatefulSet, and only these are mounted."""
    # The server listens for SMB in any case: enabling it changes the Service alone, and restarts nothing.
    ports = {listener.name: listener.port for listener in listeners(spec)} | {"nfs": NFS_PORT, "smb": SMB_PORT}
    resources = without_nulls(spec.resources)

    is_read_only = revision.rendering >= Rendering.BOTH_FAMILIES and not revision.has_writable_root
    root = {READ_ONLY_ROOT: True} if is_read_only else {}
    security = {**_CONTAINER_SECURITY, **root, **without_nulls(spec.security_context)}
    mounts = _volume_mounts(spec, templates, revision, is_root_read_only=security.get(READ_ONLY_ROOT) is True)

    container: Manifest = {
        "name": CONTAINER,
        "image": spec.image,
        # Without a policy, Kubernetes decides by the tag.
        **({"imagePullPolicy": spec.image_pull_policy} if spec.image_pull_policy else {}),
        # The image's own entry point: the binary was renamed since. In the background it would end at once.
        "args": ["start", "--foreground", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"],
        "env": _environment(name, spec),
        "ports": [{"name": port, "containerPort": ports[port], "protocol": "TCP"} for port in sorted(ports)],
        **({"resources": resources} if resources else {}),
        "securityContext": security,
        # /health/ready is 503 until a first share exists, so it must gate nothing.
        "startupProbe": _probe(period=2, failures=150),
        "livenessProbe": _probe(period=10, failures=6),
        "readinessProbe": _probe(period=5, failures=3),
        "volumeMounts": mounts,
    }

    mounted = {mount["name"] for mount in mounts}
    pod_volumes: list[Manifest] = [{"name": "config", "configMap": {"name": config_map_name(name)}}]
    pod_volumes += [{"name": volume, "emptyDir": limit} for volume, limit in _EMPTY_DIRS.items() if volume in mounted]
    if ca := spec.s3.ca_secret_ref:
        source = {"secretName": ca.name, "items": [{"key": ca.key, "path": S3_CA_FILE}]}
        pod_volumes.append({"name": S3_CA, "secret": source})

    defaults = revision.defaults
    pull_secrets = [{"name": secret} for secret in defaults.pull_secrets]
    values = {
        CONFIG_HASH: revision.config_hash,
        RESTARTED_AT: revision.restarted_at,
        POD_DEFAULTS: defaults.encode(),
    }
    annotations = {**defaults.annotations, **{key: value for key, value in values.items() if value}}

    return {
        "metadata": {
            "labels": {**defaults.labels, **labels},
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {
            **service_account(spec.s3.service_account_name),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {**_POD_SECURITY, **without_nulls(spec.pod_security_context)},
            **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
            "containers": [container],
            "volumes": pod_volumes,
        },
    }


def service_account(name: Any) -> Manifest:
    """Returns both fields of a pod that have the name of its ServiceAccount; nothing without a name."""
    # The API server copies each into the other, so that what only one of them had could never be removed again.
    return dict.fromkeys(SERVICE_ACCOUNT_FIELDS, name) if name else {}


def _volume_mounts(
    spec: Spec, templates: Collection[str], revision: PodRevision, *, is_root_read_only: bool
) -> list[Manifest]:
    reaches_both = revision.rendering >= Rendering.BOTH_FAMILIES
    mounts: list[Manifest] = []
    for volume in volumes(spec.storage):
        paths = volume.paths if reaches_both else (volume.mount_path,)
        if volume.name in templates:
            mounts += [{"name": volume.name, "mountPath": path} for path in paths]
        elif volume.name == "content" and reaches_both and is_root_read_only:
            # The image declares this path as a volume, so that it would be writable, and lost with the pod.
            mounts += [{"name": _NO_CONTENT, "mountPath": path, "readOnly": True} for path in paths]

    folder = {} if revision.database == CONTROL_PLANE else {"subPath": "controlplane"}
    mounts.append({"name": revision.database, "mountPath": DATABASE_MOUNT_PATH, **folder})
    if reaches_both and is_root_read_only:
        # SQLite and the garbage collection of DittoFS 0.13 or newer need a folder for temporary files.
        mounts.append({"name": _TEMPORARY, "mountPath": TEMPORARY_FOLDER})
    mounts.append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
    if spec.s3.ca_secret_ref:
        mounts.append({"name": S3_CA, "mountPath": S3_CA_FOLDER, "readOnly": True})
    return mounts


def _environment(name: str, spec: Spec) -> list[Manifest]:
    references = {reference.path: reference for reference in consumed_references(name, spec)}
    env = [
        _from_reference("DITTOFS_CONTROLPLANE_SECRET", references[JWT_PATH]),
        _from_reference("DITTOFS_ADMIN_INITIAL_PASSWORD", references[PASSWORD_PATH]),
    ]
    if POSTGRES_PATH in references:
        secret = postgres_secret_name(name)
        env += [_from_secret(f"DITTOFS_DATABASE_POSTGRES_{key.upper()}", secret, key) for key in POSTGRES_KEYS]

    if s3 := spec.s3.credentials_secret_ref:
        env += [
            _from_secret("AWS_ACCESS_KEY_ID", s3.secret_name, s3.access_key_id_key),
            _from_secret("AWS_SECRET_ACCESS_KEY", s3.secret_name, s3.secret_access_key_key),
            _from_secret("AWS_ENDPOINT_URL", s3.secret_name, s3.endpoint_key, optional=True),
        ]
        if s3.session_token_key:
            env.append(_from_secret("AWS_SESSION_TOKEN", s3.secret_name, s3.session_token_key))
        if spec.s3.region:
            env.append({"name": "AWS_REGION", "value": spec.s3.region})
    if spec.s3.ca_secret_ref:
        env.append({"name": "SSL_CERT_DIR", "value": ":".join(_CA_FOLDERS)})
    return env


def _from_reference(variable: str, reference: SecretReference) -> Manifest:
    [key] = reference.keys
    return _from_secret(variable, reference.secret or "", key.name, optional=reference.optional)


def _from_secret(variable: str, secret: str, key: str, *, optional: bool = False) -> Manifest:
    source = {"name": secret, "key": key, **({"optional": True} if optional else {})}
    return {"name": variable, "valueFrom": {"secretKeyRef": source}}


def _probe(period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "api"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def without_nulls(section: Mapping[str, Any] | None) -> Manifest:
    """Returns the section as the user wrote it, without nulls, which stand for fields that are left out."""
    return {key: _nested_without_nulls(value) for key, value in (section or {}).items() if value is not None}


def _nested_without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_nulls(value)
    return [_nested_without_nulls(item) for item in value] if isinstance(value, list) else value


def config_hash_of(stateful_set: Mapping[str, Any]) -> str | None:
    """Returns the hash of the configuration of a StatefulSet's pod."""
    return pod_config_hash(stateful_set["spec"]["template"])


def pod_config_hash(pod: Mapping[str, Any]) -> str | None:
    """Returns the hash of the configuration of a pod, or of its template."""
    return ((pod.get("metadata") or {}).get("annotations") or {}).get(CONFIG_HASH)
