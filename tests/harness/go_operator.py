"""What the Go operator leaves behind of a server from 0.18 on, written down by hand: nothing of it runs here."""

import base64
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from app.storage.crd import custom_resource_definition
from app.storage.unstructured import Manifest

FINALIZER = "dittofs.dittofs.com/finalizer"
# As controller-runtime names a client that says no other name.
FIELD_MANAGER = "manager"
NFS_PORT, PORTMAP_PORT, API_PORT = 12049, 10111, 8080
SIZES = {"metadata": "1Gi", "content": "1Gi", "controlplane": "1Gi"}
# Where the server keeps what, in its pod.
MOUNT_PATHS = {
    "metadata": "/data/store/metadata",
    "content": "/data/store/block",
    "controlplane": "/data/controlplane",
}
GENERATED_SECRETS = ("jwt-secret", "admin-bootstrap-credentials")
ADAPTER = "dittofs.io/adapter-type"


def spec(storage_class: str, **others: Any) -> Manifest:
    """Returns a spec as users of the Go operator wrote it, with one field that only the Go operator knows."""
    sizes = {"metadataSize": SIZES["metadata"], "contentSize": SIZES["content"]}
    storage = {**sizes, "controlPlaneSize": SIZES["controlplane"], "storageClassName": storage_class}
    return {"image": "example.com/dittofs:0.29.0", "replicas": 1, "storage": storage, **others}


def custom_resource_definition_with_its_fields() -> Manifest:
    """Returns the CustomResourceDefinition of this operator with some fields that only the Go operator has."""
    definition = deepcopy(custom_resource_definition())
    [version] = definition["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    properties["percona"] = {"type": "object", "properties": {"enabled": {"type": "boolean"}}}
    properties["terminationGracePeriodSeconds"] = {"type": "integer"}
    properties["storage"]["properties"]["controlPlaneSize"] = {"type": "string", "default": "1Gi"}
    return definition


def left_behind(name: str, uid: str, storage_class: str, password: str, *, legacy: bool = False) -> list[Manifest]:
    """Returns everything that belongs to the DittoServer of this name and uid, in the order in which it was created.

    A `legacy` admin Secret has the name that it had until it was renamed in 2026.
    """
    admin = "admin-credentials" if legacy else "admin-bootstrap-credentials"
    return [
        secret(f"{name}-jwt-secret", name, uid, {"jwt-secret": "a" * 43}),
        secret(f"{name}-{admin}", name, uid, {"username": "admin", "password": password}),
        secret(f"{name}-operator-credentials", name, uid, {"username": "k8s-operator", "password": "unused"}),
        _owned("v1", "ConfigMap", f"{name}-config", name, uid, data={"config.yaml": "controlplane:\n  port: 8080\n"}),
        *services(name, uid),
        stateful_set(name, uid, storage_class, admin_secret=f"{name}-{admin}"),
        *network_policies(name, uid),
    ]


def secret(secret_name: str, name: str, uid: str, values: dict[str, str]) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return _owned("v1", "Secret", secret_name, name, uid, type="Opaque", data=data)


def services(name: str, uid: str) -> list[Manifest]:
    """Returns the Services of the API and of the NFS adapter, at whose address clients have mounted their shares."""
    api = [{"name": "api", "port": API_PORT, "targetPort": API_PORT, "protocol": "TCP"}]
    headless = {"clusterIP": "None", "selector": labels(name), "ports": api}
    nfs = [
        {"name": "adapter-nfs", "port": NFS_PORT, "targetPort": NFS_PORT, "protocol": "TCP"},
        {"name": "portmap", "port": 111, "targetPort": PORTMAP_PORT, "protocol": "TCP"},
        {"name": "portmap-udp", "port": 111, "targetPort": PORTMAP_PORT, "protocol": "UDP"},
    ]
    adapter = _owned("v1", "Service", f"{name}-adapter-nfs", name, uid, spec={"selector": labels(name), "ports": nfs})
    adapter["metadata"]["labels"] |= {"dittofs.io/adapter-service": "true", ADAPTER: "nfs"}
    return [
        _owned("v1", "Service", f"{name}-headless", name, uid, spec=headless),
        _owned("v1", "Service", f"{name}-api", name, uid, spec={"selector": labels(name), "ports": api}),
        adapter,
    ]


def stateful_set(name: str, uid: str, storage_class: str, *, admin_secret: str) -> Manifest:
    """Returns the StatefulSet, which has no labels of its own."""
    health: Manifest = {"httpGet": {"path": "/health", "port": API_PORT}}
    container = {
        "name": "dittofs",
        "image": "example.com/dittofs:0.29.0",
        "command": ["/app/dfs"],
        "args": ["start", "--foreground", "--config", "/config/config.yaml"],
        "env": [
            _variable("DITTOFS_CONTROLPLANE_SECRET", f"{name}-jwt-secret", "jwt-secret"),
            _variable("DITTOFS_ADMIN_INITIAL_PASSWORD", admin_secret, "password"),
        ],
        "ports": [
            {"name": "api", "containerPort": API_PORT, "protocol": "TCP"},
            {"name": "adapter-nfs", "containerPort": NFS_PORT, "protocol": "TCP"},
            {"name": "adapter-nfs-pm", "containerPort": PORTMAP_PORT, "protocol": "TCP"},
            {"name": "adapter-pm-udp", "containerPort": PORTMAP_PORT, "protocol": "UDP"},
        ],
        "volumeMounts": [
            {"name": "controlplane", "mountPath": MOUNT_PATHS["controlplane"]},
            {"name": "metadata", "mountPath": MOUNT_PATHS["metadata"]},
            {"name": "config", "mountPath": "/config"},
            {"name": "content", "mountPath": MOUNT_PATHS["content"]},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": 30},
        "livenessProbe": {**health, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/health/ready", "port": API_PORT}, "periodSeconds": 5},
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 5"]}}},
    }
    template = {
        "metadata": {"labels": labels(name), "annotations": {"dittofs.io/config-hash": "0" * 64}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"fsGroup": 65532},
            "terminationGracePeriodSeconds": 105,
            "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": f"{name}-config"}}],
        },
    }
    manifest = _owned(
        "apps/v1",
        "StatefulSet",
        name,
        name,
        uid,
        spec={
            "replicas": 1,
            "serviceName": f"{name}-headless",
            "selector": {"matchLabels": labels(name)},
            "template": template,
            "volumeClaimTemplates": claim_templates(storage_class),
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        },
    )
    del manifest["metadata"]["labels"]
    return manifest


def claim_templates(storage_class: str) -> list[Manifest]:
    return [{"metadata": {"name": volume}, "spec": claim_spec(storage_class, size)} for volume, size in SIZES.items()]


def claims(name: str, storage_class: str) -> list[Manifest]:
    """Returns the claims, which outlive the StatefulSet and the server."""
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{volume}-{name}-0", "labels": labels(name)},
            "spec": claim_spec(storage_class, size),
        }
        for volume, size in SIZES.items()
    ]


def claim_spec(storage_class: str, size: str) -> Manifest:
    resources = {"requests": {"storage": size}}
    return {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": resources}


def network_policies(name: str, uid: str) -> list[Manifest]:
    """Returns the policies, which let nothing but the API and the NFS adapter be reached."""
    baseline = _policy(f"{name}-baseline", name, uid, [("TCP", API_PORT)])
    nfs = [("TCP", NFS_PORT), ("TCP", PORTMAP_PORT), ("UDP", PORTMAP_PORT)]
    return [baseline, _policy(f"{name}-adapter-nfs", name, uid, nfs)]


def labels(name: str) -> dict[str, str]:
    return {"app": "dittofs-server", "instance": name}


def _policy(policy_name: str, name: str, uid: str, ports: Iterable[tuple[str, int]]) -> Manifest:
    ingress = [{"ports": [{"protocol": protocol, "port": port} for protocol, port in ports]}]
    content = {"podSelector": {"matchLabels": labels(name)}, "policyTypes": ["Ingress"], "ingress": ingress}
    return _owned("networking.k8s.io/v1", "NetworkPolicy", policy_name, name, uid, spec=content)


def _variable(variable: str, secret_name: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}}


def _owned(version: str, kind: str, object_name: str, name: str, uid: str, **content: Any) -> Manifest:
    owner = {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata: Manifest = {"name": object_name, "ownerReferences": [owner]}
    if kind == "Service" or kind == "StatefulSet":
        metadata["labels"] = labels(name)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
