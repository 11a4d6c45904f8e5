"""Renders the config.yaml of a server and hashes all that its pod consumes. Neither contains a secret value."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.storage import quantity
from app.storage.rendering import NEWEST, Rendering
from app.storage.secret_references import (
    JWT_PATH,
    PASSWORD_PATH,
    POSTGRES_KEYS,
    POSTGRES_PATH,
    S3_CA_PATH,
    S3_PATH,
    SecretReference,
)
from app.storage.spec import Jwt, Spec

# The pod's grace period is longer, so that connections are drained before it is killed.
SHUTDOWN_TIMEOUT = "90s"

_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - Services reach the server there
# The server does not start with a number that it cannot read.
_MAX_BYTES = 2**63 - 1

# The server overrides with DITTOFS_* only what its file has; it never connects to these.
_POSTGRES_PLACEHOLDERS = {**dict.fromkeys(POSTGRES_KEYS, "from-environment"), "port": 5432, "sslmode": "prefer"}

# The durations for a spec without identity.jwt, whose signing secret is generated.
_DEFAULT_JWT = Jwt.model_validate({"secretRef": {"key": "generated"}})
_LABELS = {S3_PATH: "s3", S3_CA_PATH: "s3-ca", JWT_PATH: "jwt", PASSWORD_PATH: "admin", POSTGRES_PATH: "postgres"}

# Characters that YAML allows only escaped, and that json leaves as they are.
_UNESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# With ensure_ascii, json escapes an emoji as two surrogates, which YAML refuses.
_JSON = json.JSONEncoder(ensure_ascii=False)


def config_yaml(spec: Spec, rendering: Rendering = NEWEST) -> str:
    """Returns the configuration file; each DittoFS ignores the keys that it does not know."""
    jwt = spec.identity.jwt or _DEFAULT_JWT

    if spec.database.postgres_secret_ref:
        database: dict[str, Any] = {"type": "postgres", "postgres": _POSTGRES_PLACEHOLDERS}
    else:
        # This is for a type of postgres without a Secret, too: admission has warned, and SQLite at least starts.
        database = {"type": "sqlite", "sqlite": {"path": spec.database.sqlite.path}}

    content: dict[str, Any] = {
        "logging": {"level": "INFO", "format": "json", "output": "stdout"},
        "shutdown_timeout": SHUTDOWN_TIMEOUT,
        "database": database,
        "controlplane": {
            "host": _EVERY_ADDRESS,
            "port": spec.control_plane.port,
            "jwt": {
                "issuer": jwt.issuer,
                "access_token_duration": jwt.access_token_duration,
                "refresh_token_duration": jwt.refresh_token_duration,
            },
        },
        "cache": {"path": spec.cache.path, "size": spec.cache.size},
        "metrics": {"enabled": spec.metrics.enabled, "port": spec.metrics.port},
        "admin": {"username": spec.identity.admin.username},
    }

    if rendering >= Rendering.BOTH_FAMILIES:
        # DittoFS 0.13 or newer serves metrics to the pod alone otherwise, and limits the cache of a share to 10 GiB.
        content["metrics"]["host"] = _EVERY_ADDRESS
        cache_bytes = quantity.parse_cache_size(spec.cache.size)
        if cache_bytes and cache_bytes <= _MAX_BYTES:
            content["blockstore"] = {"local": {"default_remote_cache_size": cache_bytes}}
    return "".join(f"{line}\n" for line in _yaml_lines(content))


def _yaml_lines(section: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yields YAML in block style, with scalars in JSON, which YAML contains."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, f"{indent}  ")
            continue

        escaped = _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", _JSON.encode(value))
        yield f"{indent}{key}: {escaped}"


def config_hash(config: str, consumed: Iterable[tuple[str, str]]) -> str:
    """Returns the SHA-256 of the file and the label and digest of each value; each part has its length before it."""
    parts = [config, *(part for pair in consumed for part in pair)]
    framed = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
    return hashlib.sha256(framed).hexdigest()


def consumed_digests(
    references: Iterable[SecretReference], digests: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    """Yields the label and digest of each value that the pod gets; `digests` are by Secret and key."""
    # Of the S3 Secret every key counts: what the spec does not name may still be what a person rotates with the rest.
    for reference in sorted(references, key=lambda reference: reference.path):
        known = digests.get(reference.secret or "", {})
        keys = known if reference.path == S3_PATH else [key.name for key in reference.keys]

        for key in sorted(keys):
            if key in known:
                yield f"{_LABELS[reference.path]}:{key}", known[key]
