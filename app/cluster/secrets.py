"""What is known of Secrets' values: their traits and digests, read once a change however many ask. Keeps no value."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, NotFound
from app.cluster.reader import SECRETS
from app.cluster.store import Store, full_name, version_of
from app.storage.facts import Secret, Trait, Unknown
from app.storage.unstructured import Manifest, ObjectKey, is_terminating, key_of


@dataclass(frozen=True, slots=True)
class SecretDigest:
    """A Secret at one version, each value by its key, its traits for the rules, and its SHA-256 for the pod's hash."""

    version: int
    values: tuple[tuple[str, int, str], ...]
    terminating: bool = False

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "SecretDigest":
        data, traits = manifest.get("data") or {}, Secret.read(manifest).keys
        digests = {key: hashlib.sha256(base64.b64decode(value or "")).hexdigest() for key, value in data.items()}
        values = tuple((key, traits[key].value, digest) for key, digest in digests.items())
        return cls(version_of(manifest), values, terminating=is_terminating(manifest))

    @classmethod
    def decode(cls, kept: bytes) -> "SecretDigest":
        digest = orjson.loads(kept)
        values = tuple((key, traits, digest) for key, traits, digest in digest["values"])
        return cls(digest["version"], values, terminating=digest["terminating"])

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @property
    def secret(self) -> Secret:
        return Secret({key: Trait(traits) for key, traits, _ in self.values}, terminating=self.terminating)

    @property
    def digests(self) -> dict[str, str]:
        return {key: digest for key, _, digest in self.values}


def identity(manifest: Manifest) -> Manifest:
    """What a store of Secrets keeps of one. `kubectl apply` leaves a copy of all values in an annotation."""
    kept = {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp"}
    return {"metadata": {name: value for name, value in manifest["metadata"].items() if name in kept}}


class SecretDigests:
    """Reads a Secret again only when `metadata`, a store of Secrets trimmed to their identity, has a newer version.

    Kept as in a Store, so that the garbage collector has nothing to look for in what is known of those of all servers.
    """

    def __init__(self, cluster: Cluster, metadata: Store) -> None:
        self._cluster = cluster
        self._metadata = metadata
        self._digests: dict[str, bytes] = {}
        self._reading: dict[ObjectKey, asyncio.Lock] = {}
        metadata.event_handlers.append(self._forget_what_is_gone)
        metadata.rewind_handlers.append(self._digests.clear)

    def remembered(self, key: ObjectKey) -> SecretDigest | None:
        """What is known of it without asking; None when it has changed since, or was never read."""
        kept = self._digests.get(full_name(key))
        digest = SecretDigest.decode(kept) if kept else None
        return digest if digest and key in self._metadata and digest.version >= self._metadata.version(key) else None

    async def read(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        """None when there is no such Secret."""
        if digest := self.remembered(key):
            return digest
        if key not in self._metadata:
            return None
        async with self._reading.setdefault(key, asyncio.Lock()):
            found = self.remembered(key) or await self._read(key)
            # Those that wait here have no more to read, nor has anybody who comes later.
            self._reading.pop(key, None)
            return found

    def learn(self, manifest: Manifest) -> None:
        """A Secret that was just written here, and need not be read."""
        self._metadata.put_written(manifest)
        self._keep(key_of(manifest), SecretDigest.read(manifest))

    def remember(self, manifest: Manifest) -> None:
        """A Secret that was just read by another; one that is not watched, or has changed since, is not kept."""
        key, version = key_of(manifest), version_of(manifest)
        if key in self._metadata and version >= self._metadata.version(key):
            self._keep(key, SecretDigest.read(manifest))

    async def _read(self, key: ObjectKey) -> SecretDigest | Unknown | None:
        namespace, name = key
        try:
            digest = SecretDigest.read(await self._cluster.get(SECRETS, name, namespace))
        except NotFound:
            return None
        except ClusterError as error:
            return Unknown(str(error))
        self._keep(key, digest)
        return digest

    def _keep(self, key: ObjectKey, digest: SecretDigest) -> None:
        self._digests[full_name(key)] = digest.encode()

    def _forget_what_is_gone(self, key: ObjectKey, _metadata: Manifest) -> None:
        if key not in self._metadata:
            self._digests.pop(full_name(key), None)
