"""The schema of a PodSpec in a DittoServer, and in CEL what a podTemplate must leave to the operator."""

from typing import Any

from app.storage.claim_metadata import SELECTOR_LABELS
from app.storage.core_types import fields_of
from app.storage.pod import CONTAINER
from app.storage.pod_conflicts import (
    CA_VARIABLE,
    FIXED_FIELDS,
    LISTS_WITH_EQUAL_KEYS,
    MAX_ENTRIES,
    MAX_KEY_CHARACTERS,
    OPERATOR_MOUNT_PATHS,
    OPERATOR_PORTS,
    OPERATOR_PREFIX,
    OPERATOR_VARIABLES,
    OPERATOR_VOLUMES,
)
from app.storage.ports import NFS_PORT, SMB_PORT
from app.storage.schema import Schema
from app.storage.spec import ControlPlane

# A null removes a field, where the operator or Kubernetes has a default; elsewhere the API server drops it.
_NULLABLE: Schema = {"nullable": True}
# The API server that stores a DittoServer may be older or newer than these types.
_OPEN: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def core_schema(kind: str) -> Schema:
    """Returns the structural schema of a type of core/v1, without descriptions and enums, for which there is no room.

    Lists that are merged by a key have no nulls, and no two items of the same key, where one field is the key.
    """
    properties = {name: _field_schema(kind, name, field) for name, field in fields_of(kind).items()}
    return {"type": "object", **_OPEN, "properties": properties}


def _field_schema(kind: str, name: str, field: Schema) -> Schema:
    key = field.get("mergeKey")
    if key is None:
        return _schema(field) | _NULLABLE

    items = core_schema(field["items"]["$ref"])
    # Of these, only an integer is not a string.
    bound = {"maxLength": MAX_KEY_CHARACTERS} if items["properties"][key]["type"] == "string" else {}
    items["properties"][key] = {"type": items["properties"][key]["type"], **bound}
    items["required"] = [key]

    is_map = name not in LISTS_WITH_EQUAL_KEYS
    identity = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]} if is_map else {}
    return {"type": "array", "items": items, "maxItems": MAX_ENTRIES, **identity}


def _schema(field: Schema) -> Schema:
    if "$ref" in field:
        return core_schema(field["$ref"])
    if field["type"] == "intOrString":
        return {"x-kubernetes-int-or-string": True}
    if field["type"] == "quantity":
        # A number may have a fraction, which no schema of a quantity allows.
        return dict(_OPEN)

    if "items" in field:
        return {"type": "array", "items": _schema(field["items"]), "maxItems": MAX_ENTRIES}
    if "additionalProperties" in field:
        entries = _schema(field["additionalProperties"]) | _NULLABLE
        return {"type": "object", "additionalProperties": entries, "maxProperties": MAX_ENTRIES}

    return {"type": field["type"], **(_OPEN if field["type"] == "object" else {})}


def _rule(field: str, holds: str, message: str) -> Schema:
    """Returns a rule that judges a field of podTemplate where it is there."""
    path, guards = "self", []
    for name in ("podTemplate", *field.split(".")):
        path = f"{path}.{name}"
        guards.append(f"has({path})")
    return {
        "rule": f"!({' && '.join(guards)}) || {path}{holds}",
        "message": f"podTemplate.{field} {message}",
        "fieldPath": f".podTemplate.{field}",
    }


def _own(condition: str) -> str:
    """Returns a condition about the server's own container."""
    return f".all(c, c.name != '{CONTAINER}' || {condition})"


def _literals(values: Any) -> str:
    return f"[{', '.join(repr(value) for value in values)}]"


def _is_kept(port: int | str, name: str, listens: str = "true") -> str:
    """Returns the condition for an entry of ports, p, that it leaves a port of the operator as it is."""
    is_as_rendered = f"(!has(p.name) || p.name == '{name}') && (!has(p.protocol) || p.protocol == 'TCP')"
    return f"({listens}) && p.containerPort == {port} ? {is_as_rendered}"


API_PORT = f"(has(self.controlPlane) ? self.controlPlane.port : {ControlPlane().port})"
_PORTS = (
    _is_kept(NFS_PORT, "nfs"),
    _is_kept(SMB_PORT, "smb"),
    _is_kept(API_PORT, "api"),
    _is_kept("self.metrics.port", "metrics", "has(self.metrics) && self.metrics.enabled"),
)
_PORT_IS_KEPT = f"{' : '.join(_PORTS)} : !has(p.name) || !(p.name in {_literals(OPERATOR_PORTS)})"
_HAS_CA = "has(self.s3) && has(self.s3.caSecretRef)"
_PATHS = _literals(f"{path}{end}" for path in OPERATOR_MOUNT_PATHS for end in ("", "/"))

# Each of these rules repeats one of `pod_conflicts`, without naming the entry; one table of servers holds both to it.
POD_TEMPLATE_RULES: list[Schema] = [
    _rule(
        "metadata.labels",
        f".all(key, !(key in {_literals(SELECTOR_LABELS)}))",
        f"must not have {' and '.join(SELECTOR_LABELS)}: the operator selects the pod by them",
    ),
    _rule(
        "metadata.annotations",
        f".all(key, !key.startsWith('{OPERATOR_PREFIX}'))",
        f"must not have the prefix {OPERATOR_PREFIX}, which is the operator's",
    ),
    _rule("spec.restartPolicy", " == 'Always'", "must be Always: a StatefulSet keeps its pod running"),
    _rule(
        "spec.volumes",
        f".all(v, !(v.name in {_literals(OPERATOR_VOLUMES)}))",
        f"must not have the names of the operator's own volumes: {', '.join(OPERATOR_VOLUMES)}",
    ),
    *(
        _rule("spec.containers", _own(f"!has(c.{name})"), f"must not set {name} of {CONTAINER}: {advice}")
        for name, advice in FIXED_FIELDS.items()
    ),
    _rule(
        "spec.containers",
        _own(
            f"!has(c.env) || c.env.all(e, !(e.name in {_literals(OPERATOR_VARIABLES)}) && "
            f"!(e.name == '{CA_VARIABLE}' && {_HAS_CA}))"
        ),
        f"must not set variables of {CONTAINER} that the operator sets",
    ),
    _rule(
        "spec.containers",
        _own(f"!has(c.volumeMounts) || c.volumeMounts.all(m, !(m.mountPath in {_PATHS}))"),
        f"must not mount anything of {CONTAINER} where the operator does: {', '.join(OPERATOR_MOUNT_PATHS)}",
    ),
    _rule(
        "spec.containers",
        _own(f"!has(c.ports) || c.ports.all(p, {_PORT_IS_KEPT})"),
        f"must not change the ports of {CONTAINER} named {', '.join(OPERATOR_PORTS)}",
    ),
]
