"""The CustomResourceDefinition of a DittoServer: the schema with the rules in CEL, the columns and the names."""

from typing import Any

from app.storage.crd_rules import (
    ADDRESS_RULE,
    CLAIM_RULES,
    NAME_RULE,
    PORT_RULES,
    S3_RULES,
    SERVICE_RULES,
    SHARE_RULES,
    VOLUME_RULES,
    VOLUMES,
)
from app.storage.pod_schema import POD_TEMPLATE_RULES, core_schema
from app.storage.schema import spec_schema, structural
from app.storage.spec import GROUP, KIND, PLURAL, VERSION
from app.storage.status_schema import Status

_READY = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS: list[dict[str, Any]] = [
    {"name": "Ready", "type": "string", "jsonPath": f"{_READY}.status"},
    {"name": "Status", "type": "string", "jsonPath": f"{_READY}.reason"},
    {"name": "Version", "type": "string", "jsonPath": ".status.server.version"},
    {"name": "NFS", "type": "string", "jsonPath": ".status.nfsEndpoint"},
    # Names and values are short: with them, a line still has to fit into 160 characters.
    *(
        {
            "name": volume.title(),
            "type": "string",
            "priority": 1,
            "jsonPath": f'.status.volumes[?(@.name=="{volume}")].capacity',
        }
        for volume in VOLUMES
    ),
    {
        "name": "Stores",
        "type": "string",
        "priority": 1,
        "jsonPath": '.status.conditions[?(@.type=="StoresReady")].reason',
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def custom_resource_definition() -> dict[str, Any]:
    fields = spec_schema()["properties"]
    volumes = fields["storage"]["properties"]
    claims = {volume: volumes[volume] | {"x-kubernetes-validations": list(CLAIM_RULES)} for volume in VOLUMES}
    storage = fields["storage"] | {"properties": volumes | claims, "x-kubernetes-validations": VOLUME_RULES}
    service = fields["service"] | {"x-kubernetes-validations": SERVICE_RULES}
    template = fields["podTemplate"]
    pod_spec = template["properties"]["spec"] | core_schema("PodSpec")
    of_core_v1 = {
        "affinity": fields["affinity"] | core_schema("Affinity"),
        "tolerations": fields["tolerations"] | {"items": core_schema("Toleration")},
        "podTemplate": template | {"properties": template["properties"] | {"spec": pod_spec}},
    }
    spec = spec_schema() | {
        "properties": fields | {"storage": storage, "service": service} | of_core_v1,
        "x-kubernetes-validations": [*POD_TEMPLATE_RULES, *PORT_RULES, *SHARE_RULES, *S3_RULES, ADDRESS_RULE],
    }

    schema = {
        "description": "A DittoFS server with its volumes.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            # Without it, a new server would pass for one whose status is up to date.
            "status": structural(Status) | {"default": {"observedGeneration": -1}},
        },
        "x-kubernetes-validations": [NAME_RULE],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            # A count of its own, of pods that are not available yet, would cost one more write of the status.
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.availableReplicas"},
        },
        "additionalPrinterColumns": _COLUMNS,
        "schema": {"openAPIV3Schema": schema},
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["ditto", "dittofs"],
        "categories": ["all", "dittofs"],
    }

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }
