"""What a server reads: its config.yaml, and the hash of all that its pod consumes. Neither has a secret value in it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.storage.secret_references import JWT_PATH, PASSWORD_PATH, POSTGRES_PATH, S3_PATH, SecretReference
from app.storage.spec import (
    DEFAULT_ADMIN,
    DEFAULT_CACHE,
    DEFAULT_CONTROL_PLANE,
    DEFAULT_IDENTITY,
    DEFAULT_METRICS,
    DEFAULT_SQLITE,
    Jwt,
    Spec,
)

# The pod's grace period is longer, so that connections are drained before it is killed.
SHUTDOWN_TIMEOUT = "90s"
# The server overrides by DITTOFS_* only what its file has; these are never connected to.
_POSTGRES_PLACEHOLDERS = {
    "host": "from-environment",
    "port": 5432,
    "database": "from-environment",
    "user": "from-environment",
    "password": "from-environment",
    "sslmode": "prefer",
}
# As for the one that is generated where none is named.
_JWT = Jwt.model_validate({"secretRef": {"key": "generated"}})
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_LABELS = {S3_PATH: "s3", JWT_PATH: "jwt", PASSWORD_PATH: "admin", POSTGRES_PATH: "postgres"}


def config_yaml(spec: Spec) -> str:
    """The file as DittoFS of February 2026 reads it."""
    api, cache = spec.control_plane or DEFAULT_CONTROL_PLANE, spec.cache or DEFAULT_CACHE
    metrics = spec.metrics or DEFAULT_METRICS
    identity = spec.identity or DEFAULT_IDENTITY
    jwt = identity.jwt or _JWT
    content = {
        "logging": {"level": "INFO", "format": "json", "output": "stdout"},
        "shutdown_timeout": SHUTDOWN_TIMEOUT,
        "database": _database(spec),
        "controlplane": {
            "host": "0.0.0.0",  # noqa: S104 - Services reach it there
            "port": api.port,
            "jwt": {
                "issuer": jwt.issuer,
                "access_token_duration": jwt.access_token_duration,
                "refresh_token_duration": jwt.refresh_token_duration,
            },
        },
        "cache": {"path": cache.path, "size": cache.size},
        "metrics": {"enabled": metrics.enabled, "port": metrics.port},
        "admin": {"username": (identity.admin or DEFAULT_ADMIN).username},
    }
    return "".join(f"{line}\n" for line in _yaml(content))


def config_hash(config: str, consumed: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the file and the label and digest of each value; each part has its length before it."""
    parts = [config, *(part for pair in consumed for part in pair)]
    framed = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
    return hashlib.sha256(framed).hexdigest()


def consumed(
    references: Iterable[SecretReference], digests: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    """Label and digest of each value that the pod gets; `digests` are by Secret and key.

    Of the S3 Secret every key counts: what the spec does not name may still be what a person rotates with the rest.
    """
    for reference in sorted(references, key=lambda reference: reference.path):
        there_are = digests.get(reference.secret or "", {})
        named = [key.name for key in reference.keys]
        for key in sorted(there_are if reference.path == S3_PATH else named):
            if key in there_are:
                yield f"{_LABELS[reference.path]}:{key}", there_are[key]


def _database(spec: Spec) -> dict[str, Any]:
    database = spec.database
    if database and database.postgres_secret_ref:
        return {"type": "postgres", "postgres": _POSTGRES_PLACEHOLDERS}
    # Also where type says postgres and no Secret is named: admission warned, and SQLite at least starts.
    return {"type": "sqlite", "sqlite": {"path": ((database and database.sqlite) or DEFAULT_SQLITE).path}}


def _yaml(section: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Block style with scalars in JSON, which YAML contains."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _yaml(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: str | int) -> str:
    # json escapes an emoji as two surrogates, which YAML refuses; what YAML allows only escaped, json leaves as it is.
    text = _ENCODER.encode(value)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text
    )
