"""Checks what the operator's settings give to the objects of all servers, adds it, and finds it in a live pod."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.storage.claim_metadata import RESERVED_PREFIXES
from app.storage.difference import APPLIED, marked
from app.storage.finding import quote_value
from app.storage.names import is_annotation_key, is_label_value, is_qualified_name, is_subdomain
from app.storage.objects import RESERVED_LABELS
from app.storage.pod import POD_DEFAULTS
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.unstructured import Manifest

# On a StatefulSet that has defaults: the digest of it without them. They change, and the pod template stays.
APPLIED_WITHOUT_DEFAULTS = "dittofs.io/applied-without-defaults"
# The template of a pod has them twice, and may have 256 KiB of annotations.
MAX_BYTES = 16 * 1024

# Volume claims get the annotations as well.
_RESERVED_PREFIXES = (*RESERVED_PREFIXES, "kubectl.kubernetes.io/")
_LIMIT = "must be up to 63 letters, digits, dashes, dots and underscores"
_KEY_LIMIT = f"{_LIMIT}, perhaps after a domain and a slash"
_VALUE_LIMITS = {"label": _LIMIT, "annotation": "must be text in UTF-8"}


def why_not_usable(defaults: ObjectDefaults) -> str | None:
    """Returns what is wrong with the defaults; None when every object of every server can have them."""
    return next(_problems(defaults), None)


def _problems(defaults: ObjectDefaults) -> Iterator[str]:
    entries = [("label", key, is_qualified_name(key), is_label_value(text)) for key, text in defaults.labels.items()]
    entries += [
        ("annotation", key, is_annotation_key(key), _is_unicode(text)) for key, text in defaults.annotations.items()
    ]
    for kind, key, is_key, is_value in entries:
        if not is_key:
            yield f"the key of {kind} {quote_value(key)} {_KEY_LIMIT}"
        if not is_value:
            yield f"the value of {kind} {quote_value(key)} {_VALUE_LIMITS[kind]}"
        if key.startswith(_RESERVED_PREFIXES) or (kind == "label" and key in RESERVED_LABELS):
            yield f"{kind} {quote_value(key)} is reserved for Kubernetes or the operator; choose another key"

    for name in defaults.pull_secrets:
        if not is_subdomain(name):
            yield f"no Secret can have the name {quote_value(name)}"

    if len(set(defaults.pull_secrets)) < len(defaults.pull_secrets):
        yield "pull secrets must have distinct names"
    if len(defaults.encode()) > MAX_BYTES:
        yield f"labels, annotations and pull secrets of all servers must have at most {MAX_BYTES} bytes in all"


def _is_unicode(value: str) -> bool:
    """Tells whether the API server can be sent the text: what comes from a shell or an escape need not be UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_defaults(manifest: Manifest, defaults: ObjectDefaults) -> Manifest:
    """Returns the object with the labels and annotations; what it has of its own stays. A pod template has its own."""
    if not (defaults.labels or defaults.annotations):
        return manifest

    metadata = manifest["metadata"]
    sections = {
        "labels": {**defaults.labels, **metadata.get("labels", {})},
        "annotations": {**defaults.annotations, **metadata.get("annotations", {})},
    }
    return {**manifest, "metadata": {**metadata, **{name: entries for name, entries in sections.items() if entries}}}


def workload_with_defaults(stateful_set: Manifest, defaults: ObjectDefaults) -> Manifest:
    """Returns the StatefulSet with the labels and annotations, and with a digest of what it is without them."""
    if not (defaults.labels or defaults.annotations):
        return stateful_set

    digest = marked(stateful_set)["metadata"]["annotations"][APPLIED]
    annotations = {**stateful_set["metadata"].get("annotations", {}), APPLIED_WITHOUT_DEFAULTS: digest}
    metadata = {**stateful_set["metadata"], "annotations": annotations}
    return with_defaults({**stateful_set, "metadata": metadata}, defaults)


def pod_defaults(pod: Mapping[str, Any]) -> ObjectDefaults:
    """Returns those with which a pod, or its template, was rendered; none where no usable annotation says so."""
    # Users can write the annotation, who can write labels, annotations and the image of the pod as well.
    text = ((pod.get("metadata") or {}).get("annotations") or {}).get(POD_DEFAULTS)
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        return NO_DEFAULTS

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return NO_DEFAULTS
    if not isinstance(fields, dict):
        return NO_DEFAULTS

    labels, annotations = fields.get("labels", {}), fields.get("annotations", {})
    names = fields.get("imagePullSecrets", [])
    if not (_is_text_by_key(labels) and _is_text_by_key(annotations) and isinstance(names, list)):
        return NO_DEFAULTS
    if not all(isinstance(name, str) for name in names):
        return NO_DEFAULTS

    defaults = ObjectDefaults(labels, annotations, tuple(names))
    return NO_DEFAULTS if why_not_usable(defaults) else defaults


def _is_text_by_key(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
