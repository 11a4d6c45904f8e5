"""Types of core/v1 as Kubernetes 1.36 publishes them, by name and field. Written by `make schema`."""

from typing import Any

KUBERNETES = "1.36"
CORE_V1: dict[str, dict[str, dict[str, Any]]] = {
    "AppArmorProfile": {
        "localhostProfile": {"type": "string"},
        "type": {"type": "string", "enum": ["Localhost", "RuntimeDefault", "Unconfined"]},
    },
    "Capabilities": {
        "add": {"type": "array", "items": {"type": "string"}},
        "drop": {"type": "array", "items": {"type": "string"}},
    },
    "PodSecurityContext": {
        "appArmorProfile": {"$ref": "AppArmorProfile"},
        "fsGroup": {"type": "integer"},
        "fsGroupChangePolicy": {"type": "string", "enum": ["Always", "OnRootMismatch"]},
        "runAsGroup": {"type": "integer"},
        "runAsNonRoot": {"type": "boolean"},
        "runAsUser": {"type": "integer"},
        "seLinuxChangePolicy": {"type": "string"},
        "seLinuxOptions": {"$ref": "SELinuxOptions"},
        "seccompProfile": {"$ref": "SeccompProfile"},
        "supplementalGroups": {"type": "array", "items": {"type": "integer"}},
        "supplementalGroupsPolicy": {"type": "string", "enum": ["Merge", "Strict"]},
        "sysctls": {"type": "array", "items": {"$ref": "Sysctl"}},
        "windowsOptions": {"$ref": "WindowsSecurityContextOptions"},
    },
    "ResourceClaim": {
        "name": {"type": "string"},
        "request": {"type": "string"},
    },
    "ResourceRequirements": {
        "claims": {"type": "array", "items": {"$ref": "ResourceClaim"}},
        "limits": {"type": "object", "additionalProperties": {"type": "quantity"}},
        "requests": {"type": "object", "additionalProperties": {"type": "quantity"}},
    },
    "SELinuxOptions": {
        "level": {"type": "string"},
        "role": {"type": "string"},
        "type": {"type": "string"},
        "user": {"type": "string"},
    },
    "SeccompProfile": {
        "localhostProfile": {"type": "string"},
        "type": {"type": "string", "enum": ["Localhost", "RuntimeDefault", "Unconfined"]},
    },
    "SecurityContext": {
        "allowPrivilegeEscalation": {"type": "boolean"},
        "appArmorProfile": {"$ref": "AppArmorProfile"},
        "capabilities": {"$ref": "Capabilities"},
        "privileged": {"type": "boolean"},
        "procMount": {"type": "string", "enum": ["Default", "Unmasked"]},
        "readOnlyRootFilesystem": {"type": "boolean"},
        "runAsGroup": {"type": "integer"},
        "runAsNonRoot": {"type": "boolean"},
        "runAsUser": {"type": "integer"},
        "seLinuxOptions": {"$ref": "SELinuxOptions"},
        "seccompProfile": {"$ref": "SeccompProfile"},
        "windowsOptions": {"$ref": "WindowsSecurityContextOptions"},
    },
    "Sysctl": {
        "name": {"type": "string"},
        "value": {"type": "string"},
    },
    "WindowsSecurityContextOptions": {
        "gmsaCredentialSpec": {"type": "string"},
        "gmsaCredentialSpecName": {"type": "string"},
        "hostProcess": {"type": "boolean"},
        "runAsUserName": {"type": "string"},
    },
}
