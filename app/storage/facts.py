"""The questions that the rules ask of a cluster, and the answers: StorageClasses, claims, traits of Secret values.

It never holds a Secret's value, only the names of its keys and what a person should be warned about. Unknown is not
absent: None says that the cluster has no such object, `Unknown` that the cluster gave no answer.
"""

import base64
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from app.storage import quantity
from app.storage.lazy import lazy
from app.storage.unstructured import is_terminating

MIN_JWT_SECRET_CHARACTERS = 32
# The type of a Secret that names none.
OPAQUE = "Opaque"

# Kinds of an ObjectReference.
PRIORITY_CLASS, SERVICE_ACCOUNT, VOLUME_SNAPSHOT = "PriorityClass", "ServiceAccount", "VolumeSnapshot"
SNAPSHOT_GROUP = "snapshot.storage.k8s.io"

_SENDABLE = re.compile("[\x21-\x7e]*")
_BCRYPT = re.compile(r"\$2[abxy]?\$\d\d\$")
_CERTIFICATE = re.compile("^-----BEGIN CERTIFICATE-----\\s([A-Za-z0-9+/=\\s]*)^-----END CERTIFICATE-----", re.MULTILINE)
_DEFAULT_CLASS_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")
_RESIZE_ERRORS = ("ControllerResizeError", "NodeResizeError")
_REQUESTED_SIZE = ("f:spec", "f:resources", "f:requests", "f:storage")

# urlsplit caches its last 128 arguments: without that, no value of a Secret stays in memory.
split_url: Callable[[str], SplitResult] = inspect.unwrap(urlsplit)

# A longer number takes long to read, and no volume is that large.
_MAX_SIZE_CHARACTERS = 64


@dataclass(frozen=True)
class Unknown:
    """The lookup gave no answer; `why` is for a person to read, one line, without a Secret's value in it."""

    why: str


@dataclass(frozen=True)
class StorageClass:
    name: str
    is_default: bool = False
    created: str = ""  # The creationTimestamp in RFC 3339, empty where there is none, as in a file.
    expandable: bool = False
    provisioner: str = ""
    waits_for_pod: bool = False  # A volume is only provisioned once the pod that wants it has a node.

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "StorageClass":
        metadata = manifest["metadata"]
        annotations = metadata.get("annotations") or {}

        return cls(
            name=metadata["name"],
            is_default=any(annotations.get(key) == "true" for key in _DEFAULT_CLASS_ANNOTATIONS),
            created=metadata.get("creationTimestamp") or "",
            expandable=manifest.get("allowVolumeExpansion") is True,
            provisioner=manifest.get("provisioner") or "",
            waits_for_pod=manifest.get("volumeBindingMode") == "WaitForFirstConsumer",
        )


@dataclass(frozen=True)
class StorageClasses:
    """The classes that are known; `gap` says why there may be more of them, and is None when these are all."""

    known: tuple[StorageClass, ...] = ()
    gap: str | None = None

    def named(self, name: str) -> StorageClass | None:
        for known in self.known:
            if known.name == name:
                return known
        return None

    @lazy
    def default(self) -> StorageClass | None:
        """The class of a claim that names none: the newest default, the first by name among equally old ones."""
        # The rule is that of the API server's admission plugin DefaultStorageClass.
        defaults = [known for known in self.known if known.is_default]
        if len(defaults) > 1:
            defaults.sort(key=lambda known: known.name)
            return max(defaults, key=lambda known: known.created)
        return defaults[0] if defaults else None


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim as it is, with sizes as quantities."""

    name: str
    storage_class: str | None = None
    capacity: str | None = None  # The size of the bound volume, None while unbound.
    phase: str = "Pending"
    requested: str | None = None
    requested_by: frozenset[str] = frozenset()  # The field managers that set `requested`.
    infeasible_size: str | None = None  # The driver has declared that it cannot expand the volume to it.
    resize_error: str = ""  # The driver's message.
    waits_for_pod_since: str | None = None  # Since then, in RFC 3339, only the file system remains to be expanded.
    created: str = ""  # The creationTimestamp in RFC 3339, empty where there is none, as in a file.
    volume: str | None = None  # The PersistentVolume that it is bound to.
    data_source: "ObjectReference | None" = None  # What it is restored from.
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)  # In a store, only those that users may set.
    terminating: bool = False  # Deleted, and there only until the pod that uses it ends; its data may be lost.

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Claim":
        metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
        source = spec.get("dataSourceRef") or {}
        requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        conditions = {item["type"]: item for item in status.get("conditions") or [] if item["status"] == "True"}
        resize_errors = [conditions[name].get("message") or "" for name in _RESIZE_ERRORS if name in conditions]

        # The driver's verdict is about one size (KEP-1790), and no longer holds when the claim asks for another one.
        state = (status.get("allocatedResourceStatuses") or {}).get("storage") or ""
        allocated = (status.get("allocatedResources") or {}).get("storage") or requested

        return cls(
            name=metadata["name"],
            storage_class=spec.get("storageClassName"),
            capacity=(status.get("capacity") or {}).get("storage"),
            phase=status.get("phase") or "Pending",
            requested=requested,
            requested_by=frozenset(str(entry.get("manager")) for entry in size_entries(manifest)),
            infeasible_size=allocated if state.endswith("ResizeInfeasible") else None,
            resize_error=" ".join("; ".join(filter(None, resize_errors)).split()),
            waits_for_pod_since=conditions.get("FileSystemResizePending", {}).get("lastTransitionTime"),
            created=metadata.get("creationTimestamp") or "",
            volume=spec.get("volumeName"),
            data_source=ObjectReference(source["kind"], source["name"]) if {"kind", "name"} <= source.keys() else None,
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            terminating=is_terminating(manifest),
        )


def size_entries(claim: Mapping[str, Any]) -> list[Any]:
    """Returns the managedFields entries of those who set the size that the claim asks for."""
    entries = []

    for entry in claim["metadata"].get("managedFields") or []:
        fields = entry.get("fieldsV1") or {}
        for name in _REQUESTED_SIZE:
            fields = fields.get(name)
            if fields is None:
                break
        else:
            entries.append(entry)
    return entries


class Trait(StrEnum):
    """A property of a Secret's value that a person should know about, and that does not give the value away."""

    EMPTY = auto()
    PADDED = auto()  # white space around it
    SHORT = auto()  # fewer characters than a JWT secret needs
    BCRYPT = auto()  # looks like a bcrypt hash
    PLAIN_HTTP = auto()
    NOT_A_URL = auto()  # not http:// or https:// with a host
    UNSENDABLE = auto()  # characters outside 0x21 to 0x7e, other than white space around it: no HTTP header has them
    HOST_NAME = auto()  # a URL whose host is neither an IP address nor at AWS
    NO_CERTIFICATE = auto()  # no certificate in PEM is in it

    @classmethod
    def read(cls, value: bytes) -> "Traits":
        text = value.decode(errors="replace")
        traits = {
            cls.EMPTY: not text.strip(),
            cls.PADDED: text != text.strip(),
            cls.SHORT: len(text) < MIN_JWT_SECRET_CHARACTERS,
            cls.BCRYPT: bool(_BCRYPT.match(text)),
            cls.UNSENDABLE: not _SENDABLE.fullmatch(text.strip()),
            cls.NO_CERTIFICATE: not any(_is_der(block[1]) for block in _CERTIFICATE.finditer(text)),
        }

        try:
            url = split_url(text.strip())
            host = (url.hostname or "") if url.scheme in ("http", "https") else ""
        except ValueError:
            host = ""
        traits[cls.NOT_A_URL] = not host
        traits[cls.PLAIN_HTTP] = bool(host) and url.scheme == "http"
        traits[cls.HOST_NAME] = bool(host) and not (_is_ip_address(host) or host.endswith(_AWS_DOMAINS))

        return frozenset(trait for trait, holds in traits.items() if holds)


Traits = frozenset[Trait]


def _is_der(encoded: str) -> bool:
    """Tells whether base64 has one whole DER sequence in it, as every certificate is: nothing of it was cut off."""
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        return False

    is_sequence = len(content) > 1 and content[0] == 0x30
    if not is_sequence or content[1] < 0x80:
        return is_sequence and len(content) == 2 + content[1]
    length_bytes = content[1] & 0x7F
    return len(content) == 2 + length_bytes + int.from_bytes(content[2 : 2 + length_bytes], "big")


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Secret:
    """The keys of a Secret, each with all the traits of its value."""

    keys: Mapping[str, Traits] = field(default_factory=dict)
    terminating: bool = False  # Deleted, and there only until its finalizers are removed.
    type: str = OPAQUE

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Secret":
        """Reads `data`, which is in base64, and `stringData`, which wins as in the API server."""
        encoded = {key: base64.b64decode(value or "") for key, value in (manifest.get("data") or {}).items()}
        plain = {key: str(value).encode() for key, value in (manifest.get("stringData") or {}).items()}
        keys = {key: Trait.read(value) for key, value in sorted({**encoded, **plain}.items())}

        terminating = bool((manifest.get("metadata") or {}).get("deletionTimestamp"))
        return cls(keys, terminating, manifest.get("type") or OPAQUE)


@dataclass(frozen=True, order=True)
class ObjectReference:
    """Names an object that exists or does not: a PriorityClass, a ServiceAccount or a VolumeSnapshot."""

    kind: str
    name: str


@dataclass(frozen=True)
class ExistingObject:
    """An object that a reference names; the last two fields are about VolumeSnapshots alone."""

    terminating: bool = False
    ready: bool = True
    restore_size: str | None = None  # A quantity: a volume that is restored from it cannot be smaller.

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "ExistingObject":
        status = manifest.get("status") or {}
        return cls(
            terminating=is_terminating(manifest),
            ready=manifest.get("kind") != VOLUME_SNAPSHOT or status.get("readyToUse") is True,
            restore_size=_quantity(status.get("restoreSize")),
        )


def _quantity(value: Any) -> str | None:
    """Returns a quantity, which may be a number, as text; None for anything else."""
    # Whoever may write the status of a snapshot must not keep a review from being answered.
    text = str(value)
    try:
        is_size = len(text) <= _MAX_SIZE_CHARACTERS and quantity.parse(text) >= 0
    except ValueError:
        is_size = False
    return text if is_size else None


@dataclass(frozen=True)
class Cause:
    """One reason why the API server rejects an object; `field` is a path in that object, empty when it names none."""

    field: str
    message: str


@dataclass(frozen=True)
class DryRun:
    """The API server's answer when it was asked to create an object without storing it: accepted, without `causes`."""

    causes: tuple[Cause, ...] = ()
    warnings: tuple[str, ...] = ()
    decoded: bool = True  # False when it could not read the object, and so has not checked the values in it.


class Needs(NamedTuple):
    """The lookups that a change needs before it can be judged: Secrets and claims by their names in `namespace`."""

    namespace: str = "default"
    storage_classes: bool = False
    # These have to be among the storage classes; None stands for the default one.
    class_names: frozenset[str | None] = frozenset()
    secrets: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    # Claims that an earlier server of the name may have left. Few servers have any, and those that exist are seldom
    # new: it is enough that an informer has none, which spares each CREATE two requests or three.
    leftovers: frozenset[str] = frozenset()
    objects: frozenset[ObjectReference] = frozenset()
    stateful_set: Mapping[str, Any] | None = None  # For a dry run; None when there is nothing to ask.

    def __bool__(self) -> bool:
        """Tells whether there is anything to look up."""
        named = self.secrets or self.claims or self.leftovers or self.objects
        return bool(self.storage_classes or named or self.stateful_set)


NO_NEEDS = Needs()
UNKNOWN_CLASSES = StorageClasses(gap="it was not looked up")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Facts(NamedTuple):
    """The answers to Needs, for one judgement; an object that nobody asked for is in none of the mappings."""

    storage_classes: StorageClasses = UNKNOWN_CLASSES
    secrets: Mapping[str, Secret | Unknown | None] = _NOTHING
    claims: Mapping[str, Claim | Unknown | None] = _NOTHING
    objects: Mapping[ObjectReference, ExistingObject | Unknown | None] = _NOTHING
    dry_run: DryRun | Unknown | None = None  # None when no API server was asked.

    def merge(self, other: "Facts") -> "Facts":
        """Returns these facts together with other ones; a complete list of classes wins over one with a gap."""
        classes = other.storage_classes if self.storage_classes.gap else self.storage_classes
        return Facts(
            storage_classes=classes,
            secrets={**self.secrets, **other.secrets},
            claims={**self.claims, **other.claims},
            objects={**self.objects, **other.objects},
            dry_run=self.dry_run or other.dry_run,
        )
