"""What is known of Secrets' values: their traits and digests, read once a change however many ask. Keeps no value."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.cluster.cache import Key, Manifest, Store, full_name, key_of, version_of
from app.cluster.client import Cluster
from app.cluster.reader import SECRETS, ClusterError, NotFound
from app.storage.facts import Secret, Trait, Unknown, is_terminating


@dataclass(frozen=True, slots=True)
class Known:
    """A Secret at one version, each value by its key, its traits for the rules, and its SHA-256 for the pod's hash."""

    version: int
    values: tuple[tuple[str, int, str], ...]
    terminating: bool = False

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Known":
        data, traits = manifest.get("data") or {}, Secret.read(manifest).keys
        digests = {key: hashlib.sha256(base64.b64decode(value or "")).hexdigest() for key, value in data.items()}
        values = tuple((key, traits[key].value, digest) for key, digest in digests.items())
        return cls(version_of(manifest), values, terminating=is_terminating(manifest))

    @classmethod
    def unpacked(cls, kept: bytes) -> "Known":
        known = orjson.loads(kept)
        values = tuple((key, traits, digest) for key, traits, digest in known["values"])
        return cls(known["version"], values, terminating=known["terminating"])

    def packed(self) -> bytes:
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


class Secrets:
    """Reads a Secret again only when `metadata`, a store of Secrets trimmed to their identity, has a newer version.

    Kept as in a Store, so that the garbage collector has nothing to look for in what is known of those of all servers.
    """

    def __init__(self, cluster: Cluster, metadata: Store) -> None:
        self._cluster = cluster
        self._metadata = metadata
        self._known: dict[str, bytes] = {}
        self._reading: dict[Key, asyncio.Lock] = {}
        metadata.listeners.append(self._forget_what_is_gone)
        metadata.rewind_listeners.append(self._known.clear)

    def remembered(self, key: Key) -> Known | None:
        """What is known of it without asking; None when it has changed since, or was never read."""
        kept = self._known.get(full_name(key))
        known = Known.unpacked(kept) if kept else None
        return known if known and key in self._metadata and known.version >= self._metadata.version(key) else None

    async def read(self, key: Key) -> Known | Unknown | None:
        """None when there is no such Secret."""
        if known := self.remembered(key):
            return known
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
        self._keep(key_of(manifest), Known.read(manifest))

    def remember(self, manifest: Manifest) -> None:
        """A Secret that was just read by another; one that is not watched, or has changed since, is not kept."""
        key, version = key_of(manifest), version_of(manifest)
        if key in self._metadata and version >= self._metadata.version(key):
            self._keep(key, Known.read(manifest))

    async def _read(self, key: Key) -> Known | Unknown | None:
        namespace, name = key
        try:
            known = Known.read(await self._cluster.get(SECRETS, name, namespace))
        except NotFound:
            return None
        except ClusterError as error:
            return Unknown(str(error))
        self._keep(key, known)
        return known

    def _keep(self, key: Key, known: Known) -> None:
        self._known[full_name(key)] = known.packed()

    def _forget_what_is_gone(self, key: Key, _metadata: Manifest) -> None:
        if key not in self._metadata:
            self._known.pop(full_name(key), None)
