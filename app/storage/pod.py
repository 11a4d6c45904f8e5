"""Renders the pod template: what the real server needs to run, and nothing that changes without need."""

from collections.abc import Collection, Mapping
from typing import Any

from app.storage.ports import NFS_PORT, SMB_PORT, listeners
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
CONTAINER = "dittofs"
CONFIG_FILE = "config.yaml"
CONFIG_FOLDER = "/config"
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


def config_map_name(server: str) -> str:
    return f"{server}-config"


def pod_template(
    name: str, spec: Spec, labels: Mapping[str, str], templates: Collection[str], database: str = METADATA
) -> Manifest:
    """Renders the template; `templates` names the claim templates of the StatefulSet, and only these are mounted.

    `database` is the one that has the database of the control plane: METADATA or CONTROL_PLANE.
    """
    # The server listens for SMB in any case: enabling it changes the Service alone, and restarts nothing.
    ports = {listener.name: listener.port for listener in listeners(spec)} | {"nfs": NFS_PORT, "smb": SMB_PORT}
    mounts = [
        {"name": volume.name, "mountPath": volume.mount_path}
        for volume in volumes(spec.storage)
        if volume.name in templates
    ]
    folder = {} if database == CONTROL_PLANE else {"subPath": "controlplane"}
    mounts.append({"name": database, "mountPath": DATABASE_MOUNT_PATH, **folder})
    resources = without_nulls(spec.resources)

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
        "securityContext": {**_CONTAINER_SECURITY, **without_nulls(spec.security_context)},
        # /health/ready is 503 until a first share exists, so it must gate nothing.
        "startupProbe": _probe(period=2, failures=150),
        "livenessProbe": _probe(period=10, failures=6),
        "readinessProbe": _probe(period=5, failures=3),
        "volumeMounts": [*mounts, {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}],
    }

    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {**_POD_SECURITY, **without_nulls(spec.pod_security_context)},
            "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": config_map_name(name)}}],
        },
    }


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
        if spec.s3.region:
            env.append({"name": "AWS_REGION", "value": spec.s3.region})
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
    metadata = stateful_set["spec"]["template"].get("metadata") or {}
    return (metadata.get("annotations") or {}).get(CONFIG_HASH)
