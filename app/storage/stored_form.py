"""Brings pod templates into a form in which two that the API server stores alike are equal. It judges neither.

The API server fills in defaults, leaves out what is empty, and writes quantities in its own way: to set a field to its
default changes no template, and restarts no pod.
"""

from collections.abc import Mapping
from typing import Any

from app.storage import quantity
from app.storage.core_types import fields_of
from app.storage.names import image_tag
from app.storage.schema import Schema
from app.storage.unstructured import Manifest

# What the API server puts where a field is left out (pkg/apis/core/v1/defaults.go), by type.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "PodSpec": {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    },
    "Container": {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    },
    "ConfigMapVolumeSource": {"defaultMode": 0o644},
    "ContainerPort": {"protocol": "TCP"},
    "DownwardAPIVolumeSource": {"defaultMode": 0o644},
    "GRPCAction": {"service": ""},
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "HostPathVolumeSource": {"type": ""},
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "Probe": {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
    "ProjectedVolumeSource": {"defaultMode": 0o644},
    "ResourceFieldSelector": {"divisor": "0"},
    "SecretVolumeSource": {"defaultMode": 0o644},
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
}
# In these types the API server cannot tell false or 0 from a field that is left out.
_UNSET_BY_ZERO: Mapping[str, frozenset[str]] = {
    "PodSpec": frozenset({"hostIPC", "hostNetwork", "hostPID"}),
    "Container": frozenset({"stdin", "stdinOnce", "tty"}),
    "ContainerPort": frozenset({"hostPort"}),
    "Probe": frozenset(
        {"failureThreshold", "initialDelaySeconds", "periodSeconds", "successThreshold", "timeoutSeconds"}
    ),
    "VolumeMount": frozenset({"readOnly"}),
    "PersistentVolumeClaimVolumeSource": frozenset({"readOnly"}),
    "NFSVolumeSource": frozenset({"readOnly"}),
}


def stored_template(template: Mapping[str, Any]) -> Manifest:
    """Returns the pod template without what makes no difference to the API server."""
    metadata = {name: value for name, value in template["metadata"].items() if value}
    return {"metadata": metadata, "spec": _stored({"$ref": "PodSpec"}, template["spec"])}


def _stored(field: Schema, value: Any) -> Any:
    """Returns a value of the type; one of another type is returned as it is."""
    if field.get("type") == "quantity":
        return _canonical_quantity(value)
    if isinstance(value, list) and "items" in field:
        return [_stored(field["items"], item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "additionalProperties" in field:
        return {name: _stored(field["additionalProperties"], item) for name, item in value.items()}

    kind = field.get("$ref")
    if kind is None:
        return dict(value)

    fields, defaults, zeroes = fields_of(kind), _defaults_of(kind, value), _UNSET_BY_ZERO.get(kind, ())
    stored = {name: _stored(fields.get(name, {}), item) for name, item in value.items()}
    return {
        name: item
        for name, item in stored.items()
        if not (
            _is_left_out(fields.get(name, {}), item)
            or (name in zeroes and item in (False, 0))
            or (name in defaults and type(item) is type(defaults[name]) and item == defaults[name])
        )
    }


def _defaults_of(kind: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the defaults of a type, which may depend on another field of the same object."""
    defaults = _DEFAULTS.get(kind, {})
    if kind == "Container" and isinstance(value.get("image"), str):
        return {**defaults, "imagePullPolicy": _pull_policy(value["image"])}
    if kind == "PodSpec" and value.get("serviceAccountName"):
        # The older of the two names of this field.
        return {**defaults, "serviceAccount": value["serviceAccountName"]}
    if kind == "Volume" and value.keys() <= {"name", "emptyDir"}:
        return {**defaults, "emptyDir": {}}
    return defaults


def _pull_policy(image: str) -> str:
    tag = image_tag(image)
    is_latest = tag == "latest" or (not tag and "@" not in image)
    return "Always" if is_latest else "IfNotPresent"


def _is_left_out(field: Schema, value: Any) -> bool:
    """Tells whether the API server leaves the value out; an empty object of a type of its own is kept."""
    return value is None or value in ("", []) or (value == {} and "$ref" not in field)


def _canonical_quantity(value: Any) -> Any:
    try:
        return format(quantity.parse_exact(str(value).strip(" ")).normalize(), "f")
    except ValueError:
        return value
