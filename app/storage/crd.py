"""The CustomResourceDefinition of a DittoServer: the schema, and in CEL each rule that is about one object alone.

Each CEL rule says what a function of `rules` says; one table of servers holds both to it in the tests.
"""

from itertools import combinations
from typing import Any

from app.storage.names import MAX_SERVER_NAME_CHARACTERS, SERVER_NAME_PATTERN
from app.storage.ports import FIXED_PORTS
from app.storage.schema import Schema, spec_schema, structural
from app.storage.spec import GROUP, KIND, PLURAL, VERSION, ControlPlane
from app.storage.status_schema import Status

_API_PORT = f"(has(self.controlPlane) ? self.controlPlane.port : {ControlPlane().port})"
# Who listens, where the port is written, the port, and when there is such a listener at all.
_LISTENERS = (
    ("nfs", ".nfsPort", "self.nfsPort", "true"),
    ("api", ".controlPlane.port", _API_PORT, "true"),
    ("smb", ".smb.port", "self.smb.port", "has(self.smb) && self.smb.enabled"),
    ("metrics", ".metrics.port", "self.metrics.port", "has(self.metrics) && self.metrics.enabled"),
)
_LIVE_VOLUMES_STAY = (
    {
        "rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && "
        "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "message": "storageClassName cannot change; make a new DittoServer with the other class and copy the data",
    },
    {
        "rule": "!has(oldSelf.contentSize) || has(self.contentSize)",
        "message": "contentSize cannot be removed: its volume holds data; "
        "make a new DittoServer without it and copy the data",
    },
)
_NAME_FITS = {
    "rule": f"size(self.metadata.name) <= {MAX_SERVER_NAME_CHARACTERS} && "
    f"self.metadata.name.matches('{SERVER_NAME_PATTERN}')",
    "message": f"metadata.name must have at most {MAX_SERVER_NAME_CHARACTERS} lower-case letters, digits and dashes, "
    "beginning with a letter, to name Services and pods",
}


def custom_resource_definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ditto", "dittofs"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def _schema() -> Schema:
    return {
        "description": "A DittoFS server with its volumes.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(),
            # Without it, a server that nobody has looked at yet passes for one whose status is up to date.
            "status": structural(Status) | {"default": {"observedGeneration": -1}},
        },
        "x-kubernetes-validations": [_NAME_FITS],
    }


def _spec() -> Schema:
    schema = spec_schema()
    storage = schema["properties"]["storage"] | {"x-kubernetes-validations": list(_LIVE_VOLUMES_STAY)}
    rules = [*_distinct_ports(), *_free_ports()]
    return schema | {"properties": schema["properties"] | {"storage": storage}, "x-kubernetes-validations": rules}


def _distinct_ports() -> list[Schema]:
    return [
        {
            "rule": f"!({there} && {other_there}) || {port} != {other_port}",
            # Without the number: CEL reckons that string() could be of any length, beyond the cost that is allowed.
            "message": f"the same port is used by both {name} and {other}",
            "fieldPath": field,
        }
        for (name, _, port, there), (other, field, other_port, other_there) in combinations(_LISTENERS, 2)
    ]


def _free_ports() -> list[Schema]:
    return [
        {
            "rule": f"!({there}) || {port} != {taken}",
            "message": f"{field[1:]} must not be {taken}: the server listens there for {protocol} inside the pod",
            "fieldPath": field,
        }
        for name, field, port, there in _LISTENERS
        if name in ("api", "metrics")
        for taken, protocol in FIXED_PORTS.items()
    ]


def _columns() -> list[dict[str, Any]]:
    return [
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
        {"name": "Ready", "type": "integer", "jsonPath": ".status.availableReplicas"},
        {"name": "NFS Endpoint", "type": "string", "jsonPath": ".status.nfsEndpoint"},
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        *(
            {"name": f"{volume.title()} {what.title()}", "type": "string", "priority": 1, "jsonPath": path}
            for volume in ("metadata", "content", "cache")
            for what in ("requested", "capacity")
            for path in [f'.status.volumes[?(@.name=="{volume}")].{what}']
        ),
        {
            "name": "Reason",
            "type": "string",
            "priority": 1,
            "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
