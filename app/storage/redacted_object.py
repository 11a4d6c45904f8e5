"""Redacts Kubernetes objects for a support ticket: what may hold a secret is left out, and the rest is masked."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.storage.pod import CONFIG_FILE
from app.storage.secret_mask import SecretMask, names_a_secret
from app.storage.unstructured import Manifest

OMITTED = "(left out)"
# Of a Secret or a ConfigMap.
_CONTENT = ("data", "binaryData", "stringData")
# Annotations in these belong to Kubernetes or the operator. `kubectl apply` leaves a copy of the object in another one.
_PREFIXES = (
    "dittofs.io/",
    "deployment.kubernetes.io/",
    "meta.helm.sh/",
    "pv.kubernetes.io/",
    "storageclass.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "volume.kubernetes.io/",
)
_ANNOTATIONS = ("kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/restartedAt")
# What drivers are told; these are no secrets, whatever the driver.
_DRIVER_OPTIONS = ("mutableParameters", "options", "parameters", "volumeAttributes")
_HARMLESS_OPTIONS = ("csi.storage.k8s.io/fstype", "fsType", "iops", "throughput", "type")
# Fields of a DittoServer, and of an affinity, that name a key of something.
_NAMING_FIELDS = ("accessKeyIdKey", "endpointKey", "key", "secretAccessKeyKey", "sessionTokenKey", "topologyKey")
_FLAG = re.compile(r"(--?[A-Za-z][\w.-]{0,60})=?.*", re.DOTALL)
# Flags of `serve` that have any text in them that a person has chosen.
_FREE_FLAGS = ("--object-annotation", "--object-label")
_SECRET_KEYS = ("secretName", "secretRef", "secretKeyRef", "secret", "nodePublishSecretRef")


def redact_object(manifest: Mapping[str, Any], mask: SecretMask, *, is_operator: bool = False) -> Manifest:
    """Returns a copy for everybody to see. The flags of the operator's own pods are kept, as nobody puts secrets there.

    A ConfigMap keeps only the configuration that the operator renders, and a Secret nothing but its keys.
    """
    shown = {key: value for key, value in manifest.items() if key not in _CONTENT}
    redacted: Manifest = _Redaction(mask, is_operator=is_operator).mapping(shown)

    for section in _CONTENT:
        if section in manifest:
            is_config = (manifest.get("kind"), section) == ("ConfigMap", "data")
            redacted[section] = _redact_content(manifest[section], mask, keeps_config=is_config)
    return redacted


def mask_strings(value: Any, mask: SecretMask) -> Any:
    """Returns a copy in which every string is masked, and nothing is left out."""
    if isinstance(value, Mapping):
        return {mask.text(str(key)): mask_strings(inner, mask) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_strings(item, mask) for item in value]
    return mask.text(value) if isinstance(value, str) else value


def referenced_secrets(value: Any) -> Iterator[str]:
    """Yields the names of the Secrets that a DittoServer, a StatefulSet or a pod refers to, wherever it does."""
    for key, inner in _members(value):
        if key == "imagePullSecrets" and isinstance(inner, list):
            yield from (item["name"] for item in inner if isinstance(item, Mapping) and item.get("name"))
        elif key in _SECRET_KEYS or key.endswith("SecretRef"):
            names = (inner.get("secretName"), inner.get("name")) if isinstance(inner, Mapping) else (inner,)
            yield from (name for name in names if isinstance(name, str) and name)


def literal_secrets(value: Any) -> Iterator[str]:
    """Yields the values of environment variables whose names sound secret, and of headers of probes."""
    for key, inner in _members(value):
        for entry in inner if key in ("env", "httpHeaders") and isinstance(inner, list) else ():
            text = entry.get("value") if isinstance(entry, Mapping) else None
            if isinstance(text, str) and names_a_secret(str(entry.get("name"))):
                yield text


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields every key with its value, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, inner
            yield from _members(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _members(item)


def _redact_content(content: Any, mask: SecretMask, *, keeps_config: bool) -> Any:
    if not isinstance(content, Mapping):
        return OMITTED
    return {
        mask.text(str(key)): mask.log(str(value)) if keeps_config and key == CONFIG_FILE else OMITTED
        for key, value in content.items()
    }


class _Redaction:
    def __init__(self, mask: SecretMask, *, is_operator: bool) -> None:
        self._mask = mask
        self._is_operator = is_operator

    def mapping(self, value: Mapping[str, Any]) -> Manifest:
        redacted = {}
        for key, inner in value.items():
            if key == "managedFields":
                # It repeats the names of all fields, and is longer than the object.
                continue
            redacted[self._mask.text(str(key))] = self._member(key, inner)
        return redacted

    def _member(self, key: str, value: Any) -> Any:
        if key == "annotations" and isinstance(value, Mapping):
            return {self._mask.text(str(name)): self._annotation(str(name), text) for name, text in value.items()}
        if key in _DRIVER_OPTIONS and isinstance(value, Mapping):
            return {
                self._mask.text(str(name)): self._any(text) if name in _HARMLESS_OPTIONS else OMITTED
                for name, text in value.items()
            }

        if key in ("env", "httpHeaders") and isinstance(value, list):
            return [self._variable(entry) for entry in value]
        if key in ("args", "command") and isinstance(value, list):
            return [self._argument(argument) for argument in value]
        if key == "mountOptions" and isinstance(value, list):
            return [self._argument(f"-{option}").removeprefix("-") for option in value]

        if isinstance(value, str) and names_a_secret(key) and not _is_name(key):
            return OMITTED
        if key == "message" and isinstance(value, str):
            # Of an Event, which anybody may write, or of a container that ended: the last lines of its log.
            return self._mask.log(value)
        return self._any(value)

    def _any(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, list):
            return [self._any(item) for item in value]
        return self._mask.text(value) if isinstance(value, str) else value

    def _annotation(self, name: str, text: Any) -> Any:
        return self._any(text) if name.startswith(_PREFIXES) or name in _ANNOTATIONS else OMITTED

    def _variable(self, entry: Any) -> Any:
        if not isinstance(entry, Mapping):
            return OMITTED
        redacted = self.mapping({key: value for key, value in entry.items() if key != "value"})
        return {**redacted, "value": OMITTED} if "value" in entry else redacted

    def _argument(self, argument: Any) -> str:
        """Returns an argument of a command without its value."""
        match = _FLAG.fullmatch(str(argument))
        if self._is_operator and (match is None or match[1] not in _FREE_FLAGS):
            return self._mask.text(str(argument))

        if match is None:
            return OMITTED
        return match[0] if match[0] == match[1] else f"{match[1]}={OMITTED}"


def _is_name(key: str) -> bool:
    """Tells whether a field names an object, a key in one or a duration, and holds no secret itself."""
    return key in _NAMING_FIELDS or key.endswith(("Name", "Ref", "Duration"))
