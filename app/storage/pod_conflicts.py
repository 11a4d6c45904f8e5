"""Finds what a `podTemplate` must leave to the operator, and what keeps it from being merged. It looks nothing up."""

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from app.storage.claim_metadata import SELECTOR_LABELS
from app.storage.core_types import MAX_LEVELS, fields_of, is_too_deep
from app.storage.finding import Finding, quote_value, rejection
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.pod import CONFIG_FOLDER, CONTAINER, S3_CA, S3_CA_FOLDER, TEMPORARY_FOLDER
from app.storage.ports import NFS_PORT, SMB_PORT, listeners
from app.storage.reading import field_name
from app.storage.schema import Schema
from app.storage.secret_references import POSTGRES_KEYS
from app.storage.spec import PodMetadata, Spec, Storage
from app.storage.strategic_merge import DIRECTIVE_PREFIX
from app.storage.volumes import CONTROL_PLANE, DATABASE_MOUNT_PATH, volumes

OPERATOR_PREFIX = "dittofs.io/"
# A test compares the following with what is rendered.
OPERATOR_PORTS = ("nfs", "smb", "api", "metrics")
OPERATOR_VOLUMES = (
    *("config", "tmp", "no-content", S3_CA),
    *(volume.name for volume in volumes(Storage())),
    CONTROL_PLANE,
)
OPERATOR_MOUNT_PATHS = (
    *(CONFIG_FOLDER, S3_CA_FOLDER, TEMPORARY_FOLDER),
    *(path for volume in volumes(Storage()) for path in volume.paths),
    DATABASE_MOUNT_PATH,
)
OPERATOR_VARIABLES = (
    *("DITTOFS_CONTROLPLANE_SECRET", "DITTOFS_ADMIN_INITIAL_PASSWORD"),
    *(f"DITTOFS_DATABASE_POSTGRES_{key.upper()}" for key in POSTGRES_KEYS),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"),
)
# The operator sets this one only with s3.caSecretRef; without it users have their own CAs there.
CA_VARIABLE = "SSL_CERT_DIR"
# Fields of the server's container, and where the value comes from instead.
FIXED_FIELDS = {
    "image": "set spec.image",
    "args": "the operator passes the configuration in them",
    "command": "the server needs the image's own entry point",
}

# A pod is merged in each review and in each reconcile, and nobody else has a turn meanwhile: it may take 10 ms.
MAX_POD_SPEC_BYTES = 32 * 1024
MAX_ENTRIES = 256
MAX_KEY_CHARACTERS = 4096
# One port may be there for TCP and for UDP, and one topologyKey for a hard and for a soft constraint.
LISTS_WITH_EQUAL_KEYS = ("ports", "topologySpreadConstraints")

_MAX_CONFLICTS = 20
_POD = "spec.podTemplate.spec"
_METADATA = "spec.podTemplate.metadata"


def pod_conflicts(spec: Spec) -> list[Finding]:
    """Returns why the podTemplate cannot be merged into what the operator renders; the first twenty reasons."""
    template = spec.pod_template
    if template is None:
        return []

    pod_spec = template.spec or {}
    if is_too_deep(pod_spec):
        return [rejection(_POD, f"{field_name(_POD)} is nested more than {MAX_LEVELS} deep")]
    size = len(json.dumps(pod_spec, ensure_ascii=False).encode(errors="replace"))
    if size > MAX_POD_SPEC_BYTES:
        limit = f"at most {MAX_POD_SPEC_BYTES} bytes as JSON, not {size}"
        return [rejection(_POD, f"{field_name(_POD)} must have {limit}; keep large values in a ConfigMap")]

    findings = (
        *_metadata_conflicts(template.metadata),
        *islice(_structure_findings({"$ref": "PodSpec"}, pod_spec, _POD), _MAX_CONFLICTS),
        *_pod_conflicts(pod_spec),
        *(
            conflict
            for path, container in _own_containers(pod_spec)
            for conflict in _container_conflicts(spec, container, path)
        ),
    )
    return list(findings[:_MAX_CONFLICTS])


def template_variables(spec: Spec) -> set[str]:
    """Returns the names of the environment variables that the podTemplate sets in the server's container."""
    pod_spec = (spec.pod_template and spec.pod_template.spec) or {}
    environments = [container.get("env") for _, container in _own_containers(pod_spec)]
    names = [variable.get("name") for environment in environments for _, variable in _items(environment)]
    return {name for name in names if isinstance(name, str)}


def _metadata_conflicts(metadata: PodMetadata) -> Iterator[Finding]:
    for label in SELECTOR_LABELS:
        if label in (metadata.labels or {}):
            yield _conflict(f"{_METADATA}.labels[{label}]", "must not be set: the operator selects the pod by it")
    for key in metadata.annotations or {}:
        if key.startswith(OPERATOR_PREFIX):
            path = f"{_METADATA}.annotations[{key[:MAX_NAME_CHARACTERS]}]"
            yield _conflict(path, f"must not be set: annotations with the prefix {OPERATOR_PREFIX} are the operator's")


def _structure_findings(field: Schema, value: Any, path: str) -> Iterator[Finding]:
    """Yields what has nothing to do with the server: what cannot be merged, or is more than anybody needs."""
    if isinstance(value, Mapping) and ("$ref" in field or "additionalProperties" in field):
        known = fields_of(field["$ref"]) if "$ref" in field else {}
        if "additionalProperties" in field and len(value) > MAX_ENTRIES:
            yield _conflict(path, f"must have at most {MAX_ENTRIES} entries")
            return

        for name, item in value.items():
            item_path = f"{path}.{name[:MAX_NAME_CHARACTERS]}"
            if name.startswith(DIRECTIVE_PREFIX):
                yield _conflict(item_path, "is no field: directives of patches have no effect here, null removes")
            elif name in known:
                yield from _structure_findings(known[name], item, item_path)
    elif isinstance(value, list) and "items" in field:
        yield from _list_findings(field, value, path)


def _list_findings(field: Schema, items: Sequence[Any], path: str) -> Iterator[Finding]:
    if len(items) > MAX_ENTRIES:
        yield _conflict(path, f"must have at most {MAX_ENTRIES} entries")
        return

    for index, item in enumerate(items):
        if item is None:
            yield _conflict(f"{path}[{index}]", "must not be null")
        else:
            yield from _structure_findings(field["items"], item, f"{path}[{index}]")
    if "mergeKey" in field:
        yield from _key_findings(field["mergeKey"], items, path)


def _key_findings(key: str, items: Sequence[Any], path: str) -> Iterator[Finding]:
    values = [item.get(key) if isinstance(item, Mapping) else ... for item in items]
    for index, value in enumerate(values):
        if value is None:
            yield _conflict(f"{path}[{index}].{key}", "is required: it tells what to merge the entry with")
        elif isinstance(value, str) and len(value) > MAX_KEY_CHARACTERS:
            yield _conflict(f"{path}[{index}].{key}", f"must have at most {MAX_KEY_CHARACTERS} characters")

    if not path.endswith(LISTS_WITH_EQUAL_KEYS):
        for value, count in Counter(value for value in values if isinstance(value, str)).items():
            if count > 1:
                yield _conflict(path, f"has {count} entries with {key} {quote_value(value)}; keep one of them")


def _pod_conflicts(pod_spec: Mapping[str, Any]) -> Iterator[Finding]:
    if pod_spec.get("restartPolicy", "Always") != "Always":
        yield _conflict(f"{_POD}.restartPolicy", "must be Always: a StatefulSet keeps its pod running")
    for index, volume in _items(pod_spec.get("volumes")):
        if volume.get("name") in OPERATOR_VOLUMES:
            text = f"must not be {volume['name']}: the operator's own volume has this name; give yours another one"
            yield _conflict(f"{_POD}.volumes[{index}].name", text)


def added_mount_paths(spec: Spec) -> list[str]:
    """Returns where a podTemplate mounts something into the server's container."""
    pod_spec = (spec.pod_template.spec if spec.pod_template else None) or {}
    mounts = [mount for _, container in _own_containers(pod_spec) for _, mount in _items(container.get("volumeMounts"))]
    return [path for mount in mounts if isinstance(path := mount.get("mountPath"), str)]


def _own_containers(pod_spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, container in _items(pod_spec.get("containers")):
        if container.get("name") == CONTAINER:
            yield f"{_POD}.containers[{index}]", container


def _container_conflicts(spec: Spec, container: Mapping[str, Any], path: str) -> Iterator[Finding]:
    for name, advice in FIXED_FIELDS.items():
        if name in container:
            yield _conflict(f"{path}.{name}", f"must not be set: {advice}")

    variables = (*OPERATOR_VARIABLES, CA_VARIABLE) if spec.s3.ca_secret_ref else OPERATOR_VARIABLES
    for index, variable in _items(container.get("env")):
        if variable.get("name") in variables:
            yield _conflict(f"{path}.env[{index}].name", f"must not be {variable['name']}: the operator sets it")

    for index, mount in _items(container.get("volumeMounts")):
        mount_path = mount.get("mountPath")
        if isinstance(mount_path, str) and _normalize(mount_path) in OPERATOR_MOUNT_PATHS:
            text = f"must not be {_normalize(mount_path)}: the operator mounts a volume there"
            yield _conflict(f"{path}.volumeMounts[{index}].mountPath", text)

    own_ports = {listener.port: listener.name for listener in listeners(spec)}
    own_ports |= {NFS_PORT: "nfs", SMB_PORT: "smb"}
    for index, port in _items(container.get("ports")):
        number = port.get("containerPort")
        kept_name = own_ports.get(number) if isinstance(number, int) else None
        if kept_name is None and port.get("name") in OPERATOR_PORTS:
            yield _conflict(f"{path}.ports[{index}].name", f"must not be {port['name']}: the operator's own port is")
        elif kept_name and (port.get("name", kept_name), port.get("protocol", "TCP")) != (kept_name, "TCP"):
            text = f"must be named {kept_name} with protocol TCP, which Services send their traffic to"
            yield _conflict(f"{path}.ports[{index}]", f"of containerPort {number} {text}")


def _items(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    entries = value if isinstance(value, list) else ()
    return ((index, entry) for index, entry in enumerate(entries) if isinstance(entry, Mapping))


def _normalize(path: str) -> str:
    return f"/{posixpath.normpath(path).lstrip('/')}"


def _conflict(path: str, text: str) -> Finding:
    return rejection(path, f"{field_name(path)} {text}")
