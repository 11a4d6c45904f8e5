"""A server that sets every field of the spec, and one row for each field that has a value of another type.

The fields come from the schema: a field that is new has no value here, and a test says so.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from app.storage.schema import Schema, spec_schema
from app.storage.unstructured import Manifest
from tests.harness.server_table import IMAGE, Row, server

# The names of fields, and 0 for an entry of a list.
Path = tuple[str | int, ...]

_CLAIM: Manifest = {
    "storageClassName": "slow",
    "labels": {"team": "storage"},
    "annotations": {"example.com/backup": "daily"},
    "dataSourceRef": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "backup"},
}
EVERY_FIELD: Manifest = {
    "image": IMAGE,
    "imagePullPolicy": "IfNotPresent",
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 1,
    "storage": {
        "metadataSize": "10Gi",
        "contentSize": "50Gi",
        "cacheSize": "5Gi",
        "storageClassName": "fast",
        "metadata": _CLAIM,
        "content": _CLAIM,
        "cache": _CLAIM,
    },
    "database": {
        "type": "postgres",
        "sqlite": {"path": "/data/controlplane/controlplane.db"},
        "postgresSecretRef": {"name": "dsn", "key": "dsn", "optional": False},
    },
    "cache": {"path": "/data/cache", "size": "1GB"},
    "metrics": {"enabled": True, "port": 9090},
    "controlPlane": {"port": 8080},
    "identity": {
        "type": "memory",
        "jwt": {
            "secretRef": {"name": "jwt", "key": "key", "optional": False},
            "accessTokenDuration": "15m",
            "refreshTokenDuration": "168h",
            "issuer": "dittofs",
        },
        "admin": {"username": "admin", "passwordSecretRef": {"name": "admin", "key": "password", "optional": False}},
    },
    "service": {
        "type": "LoadBalancer",
        "annotations": {"example.com/internal": "true"},
        "labels": {"team": "storage"},
        "loadBalancerClass": "example.com/internal",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv4", "IPv6"],
        "nodePorts": {"nfs": 30049, "smb": 30445, "api": 30080},
        "api": {"type": "NodePort", "annotations": {"example.com/internal": "true"}},
    },
    "nfsPort": 2049,
    "smb": {
        "enabled": True,
        "port": 445,
        "maxConnections": 0,
        "maxRequestsPerConnection": 100,
        "timeouts": {"read": "5m", "write": "30s", "idle": "5m", "shutdown": "30s"},
        "credits": {
            "strategy": "adaptive",
            "minGrant": 16,
            "maxGrant": 8192,
            "initialGrant": 256,
            "maxSessionCredits": 65535,
            "loadThresholdHigh": 1000,
            "loadThresholdLow": 100,
            "aggressiveClientThreshold": 256,
        },
        "metricsLogInterval": "5m",
    },
    "s3": {
        "credentialsSecretRef": {
            "secretName": "s3",
            "accessKeyIdKey": "id",
            "secretAccessKeyKey": "key",
            "endpointKey": "endpoint",
            "sessionTokenKey": "token",
        },
        "caSecretRef": {"name": "ca", "key": "ca.crt"},
        "serviceAccountName": "storage",
        "region": "us-east-1",
        "bucket": "media",
    },
    "shares": [{"name": "a", "readOnly": True, "squash": "none", "defaultPermission": "read", "store": "local"}],
    "resources": {"limits": {"memory": "1Gi"}},
    "securityContext": {"runAsNonRoot": True},
    "podSecurityContext": {"runAsNonRoot": True},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "storage", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podTemplate": {
        "metadata": {"labels": {"team": "storage"}, "annotations": {"example.com/note": "x"}},
        "removeDefaults": ["runAsUser"],
        "spec": {"priorityClassName": "storage"},
    },
}
_OF_ANOTHER_TYPE = {"string": 7, "integer": "seven", "boolean": "yes", "object": "text", "array": "text"}


def fields(schema: Schema | None = None, path: Path = ()) -> Iterator[tuple[Path, Schema]]:
    """Yields every field of the spec with its schema: sections and lists before what is in them."""
    schema = spec_schema() if schema is None else schema
    if path:
        yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, (*path, name))
    if "items" in schema:
        yield from fields(schema["items"], (*path, 0))


def value_at(spec: Any, path: Path) -> Any:
    """Returns None for a field that is not set."""
    for step in path:
        if isinstance(step, int):
            spec = spec[step] if isinstance(spec, list) and spec else None
        else:
            spec = spec.get(step) if isinstance(spec, dict) else None
    return spec


def text_of(path: Path) -> str:
    """Returns the path as messages have it, such as shares[0].name."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def with_value(path: Sequence[str | int], value: Any) -> Manifest:
    """Returns the server with every field, of which one has another value."""
    spec: Any = json.loads(json.dumps(EVERY_FIELD))
    *parents, last = path
    section = spec
    for step in parents:
        section = section[step]
    section[last] = value
    return server(**spec)


def _row_of_another_type(path: Path, schema: Schema) -> Row:
    # A value that cannot be read counts as left out as well: of a group that a kind needs, both is said.
    errors = 2 if path[-1] == "apiGroup" else 1
    manifest = with_value(path, _OF_ANOTHER_TYPE[schema["type"]])
    return Row(f"{text_of(path)} of another type", manifest, (text_of(path),) * errors)


ROWS = (
    Row("every field", server(**EVERY_FIELD)),
    *(_row_of_another_type(path, schema) for path, schema in fields() if value_at(EVERY_FIELD, path) is not None),
)
