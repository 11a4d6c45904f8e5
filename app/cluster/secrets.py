"""Remembers traits and digests of Secrets' values, read once per change however many ask. It never keeps a value."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, NotFound
from app.cluster.reader import SECRETS
from app.cluster.store import Store, encode, full_name, version_of
from app.storage.facts import OPAQUE, Secret, Trait, Traits, Unknown
from app.storage.lazy import lazy
from app.storage.objects import servers_given
from app.storage.unstructured import Manifest, ObjectKey, is_terminating, key_of

# Of a Secret in the store: when its values were last changed, in RFC 3339.
CHANGED = "changed"
_IDENTITY = {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp"}


@dataclass(frozen=True)
class SecretDigest:
    """A Secret at one version: for each key the traits that rules look at, and the SHA-256 for the pod's hash."""

    version: int
    values: tuple[tuple[str, Traits, str], ...]
    terminating: bool = False
    type: str = OPAQUE

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "SecretDigest":
        data, traits = manifest.get("data") or {}, Secret.read(manifest).keys
        digests = {key: hashlib.sha256(base64.b64decode(value or "")).hexdigest() for key, value in data.items()}
        values = tuple((key, traits[key], digest) for key, digest in digests.items())
        return cls(version_of(manifest), values, is_terminating(manifest), manifest.get("type") or OPAQUE)

    @classmethod
    # Whoever asks for a Secret mostly is not the last one: a reconcile follows each review, and servers share Secrets.
    @lru_cache(maxsize=64)
    def decode(cls, encoded: bytes) -> "SecretDigest":
        fields = orjson.loads(encoded)
        values = tuple((key, frozenset(map(Trait, traits)), digest) for key, traits, digest in fields["values"])
        return cls(fields["version"], values, fields["terminating"], fields["type"])

    def encode(self) -> bytes:
        values = [(key, list(traits), digest) for key, traits, digest in self.values]
        return encode({"version": self.version, "values": values, "terminating": self.terminating, "type": self.type})

    @lazy
    def secret(self) -> Secret:
        return Secret({key: traits for key, traits, _ in self.values}, self.terminating, self.type)

    @property
    def digests(self) -> dict[str, str]:
        return {key: digest for key, _, digest in self.values}


def trim_to_identity(manifest: Manifest) -> Manifest:
    """Drops also the annotations: `kubectl apply` leaves a copy of all values of a Secret in one."""
    return {"metadata": {name: value for name, value in manifest["metadata"].items() if name in _IDENTITY}}


def trim_secret(manifest: Manifest) -> Manifest:
    """Keeps the identity, and when somebody last changed the values, as far as managedFields tell."""
    metadata = manifest["metadata"]
    entries = [entry for entry in metadata.get("managedFields") or [] if "f:data" in (entry.get("fieldsV1") or {})]
    times = [entry["time"] for entry in entries if entry.get("time")]
    return trim_to_identity(manifest) | {CHANGED: max(times, default=metadata.get("creationTimestamp"))}


class SecretDigests:
    """Fetches a Secret only when `metadata`, a store of Secrets trimmed to their identity, has a newer version."""

    def __init__(self, cluster: Cluster, metadata: Store) -> None:
        self._cluster = cluster
        self._metadata = metadata
        # As bytes, so that the garbage collector never has to traverse them.
        self._digests: dict[str, bytes] = {}
        self._fetching: dict[ObjectKey, asyncio.Lock] = {}
        metadata.event_handlers.append(self._forget_deleted)
        metadata.rewind_handlers.append(self._digests.clear)

    def get(self, key: ObjectKey) -> SecretDigest | None:
        """Returns what is known without a request; None when the Secret changed since, or was never fetched."""
        encoded = self._digests.get(full_name(key))
        digest = SecretDigest.decode(encoded) if encoded else None
        return digest if digest and key in self._metadata and digest.version >= self._metadata.version(key) else None

    async def fetch(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        """Returns what is known, or asks the API server; None when there is no such Secret."""
        if digest := self.get(key):
            return digest
        if key not in self._metadata:
            return None

        async with self._fetching.setdefault(key, asyncio.Lock()):
            answer = self.get(key) or await self._request(key)
            # Those that wait for this lock find the digest then, and so does everyone who comes later.
            self._fetching.pop(key, None)
            return answer

    def put_written(self, manifest: Manifest) -> None:
        """Remembers a Secret that was just written here, and need not be fetched."""
        self._metadata.put_written(manifest)
        self._put(key_of(manifest), SecretDigest.read(manifest))

    def put_fetched(self, manifest: Manifest) -> None:
        """Remembers a Secret that was fetched elsewhere, unless it is not watched or has changed since."""
        key, version = key_of(manifest), version_of(manifest)
        if key in self._metadata and version >= self._metadata.version(key):
            self._put(key, SecretDigest.read(manifest))

    async def _request(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        namespace, name = key
        try:
            digest = SecretDigest.read(await self._cluster.get(SECRETS, name, namespace))
        except NotFound:
            return None
        except ClusterError as error:
            return Unknown(str(error))

        self._put(key, digest)
        return digest

    def _put(self, key: ObjectKey, digest: SecretDigest) -> None:
        self._digests[full_name(key)] = digest.encode()

    def _forget_deleted(self, key: ObjectKey, _metadata: Manifest) -> None:
        if key not in self._metadata:
            self._digests.pop(full_name(key), None)


class GeneratedSecrets:
    """Passes whole Secrets from a reflector on to SecretDigests, if they are those that are generated for a server.

    Anybody may give their own Secrets the label of generated ones: these are not looked into.
    """

    latest = 0

    def __init__(self, digests: SecretDigests, servers: Store) -> None:
        self._digests = digests
        self._servers = servers

    def put(self, manifest: Manifest) -> None:
        namespace, name = key_of(manifest)
        if any((namespace, server) in self._servers for server in servers_given(name)):
            self._digests.put_fetched(manifest)

    def version(self, _key: ObjectKey) -> int:
        """Returns 0, for unknown: SecretDigests compares versions with the metadata that is watched."""
        return 0

    def note_version(self, version: int) -> None: ...

    def forget_versions(self, namespace: str | None) -> None: ...

    def remove(self, manifest: Manifest) -> None:
        """Does nothing, because the watch of the metadata reports it as well."""

    def keep_only(self, keys: Iterable[ObjectKey], namespace: str | None, version: int) -> None: ...
