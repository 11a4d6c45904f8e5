"""Writes the rules about one object alone in CEL, by topic, for the CustomResourceDefinition. It judges nothing."""

from itertools import combinations

from app.storage.claim_metadata import RESERVED_PREFIXES, SELECTOR_LABELS
from app.storage.names import MAX_SERVER_NAME_CHARACTERS, SERVER_NAME_PATTERN
from app.storage.objects import RESERVED_LABELS
from app.storage.pod import SERVICE_ACCOUNT_FIELDS
from app.storage.pod_schema import API_PORT
from app.storage.ports import FIXED_PORTS
from app.storage.schema import Schema
from app.storage.services import LOAD_BALANCER
from app.storage.shares import S3_NEEDS
from app.storage.volumes import CACHE, CONTENT, METADATA

# For each of the listeners of `ports`: its name, where its port is written, the port, and whether it listens.
_LISTENERS = (
    ("nfs", ".nfsPort", "self.nfsPort", "true"),
    ("api", ".controlPlane.port", API_PORT, "true"),
    ("smb", ".smb.port", "self.smb.port", "has(self.smb) && self.smb.enabled"),
    ("metrics", ".metrics.port", "self.metrics.port", "has(self.metrics) && self.metrics.enabled"),
)

# Each of these rules repeats a function of `rules`; one table of servers holds both to it in the tests.
PORT_RULES: list[Schema] = [
    *(
        {
            "rule": f"!({listens} && {other_listens}) || {port} != {other_port}",
            # Without the number: CEL reckons that string() could be of any length, beyond the cost that is allowed.
            "message": f"the same port is used by both {name} and {other}",
            "fieldPath": field,
        }
        for (name, _, port, listens), (other, field, other_port, other_listens) in combinations(_LISTENERS, 2)
    ),
    *(
        {
            "rule": f"!({listens}) || {port} != {fixed}",
            "message": f"{field[1:]} must not be {fixed}: the server listens there for {protocol} inside the pod",
            "fieldPath": field,
        }
        for name, field, port, listens in _LISTENERS
        if name in ("api", "metrics")
        for fixed, protocol in FIXED_PORTS.items()
    ),
]

_HAS_BUCKET = "has(self.s3) && has(self.s3.bucket) && self.s3.bucket != ''"
SHARE_RULES: list[Schema] = [
    {
        "rule": f"!has(self.shares) || ({_HAS_BUCKET} && (has(self.s3.credentialsSecretRef) || "
        "has(self.s3.serviceAccountName))) || "
        f"!self.shares.exists(share, has(share.store) ? share.store == 's3' : ({_HAS_BUCKET}))",
        "message": f"a share in s3 needs {S3_NEEDS}",
        "fieldPath": ".shares",
    },
    {
        "rule": "!has(self.shares) || has(self.storage.contentSize) || "
        f"!self.shares.exists(share, has(share.store) ? share.store == 'local' : !({_HAS_BUCKET}))",
        "message": "a share in a local store needs storage.contentSize",
        "fieldPath": ".shares",
    },
]

S3_RULES: list[Schema] = [
    {
        "rule": "!has(self.s3) || !has(self.s3.serviceAccountName) || !has(self.podTemplate) || "
        f"!has(self.podTemplate.spec) || !has(self.podTemplate.spec.{field}) || "
        f"self.podTemplate.spec.{field} == self.s3.serviceAccountName",
        "message": f"podTemplate.spec.{field} must not differ from s3.serviceAccountName; remove one",
        "fieldPath": f".podTemplate.spec.{field}",
    }
    for field in SERVICE_ACCOUNT_FIELDS
]

_SELECTOR_LABELS = " || ".join(f"'{label}' in self.labels" for label in SELECTOR_LABELS)
_RESERVED_ANNOTATIONS = " || ".join(f"key.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES)
CLAIM_RULES: tuple[Schema, ...] = (
    {
        "rule": f"!has(self.labels) || !({_SELECTOR_LABELS})",
        "message": f"labels {' and '.join(SELECTOR_LABELS)} are how Kubernetes finds the claims of a server",
        "fieldPath": ".labels",
    },
    {
        "rule": f"!has(self.annotations) || self.annotations.all(key, !({_RESERVED_ANNOTATIONS}))",
        "message": f"annotations in {', '.join(RESERVED_PREFIXES)} belong to Kubernetes or the operator",
        "fieldPath": ".annotations",
    },
    {
        "rule": "!has(self.dataSourceRef) || self.dataSourceRef.kind == 'PersistentVolumeClaim' || "
        "(has(self.dataSourceRef.apiGroup) && self.dataSourceRef.apiGroup != '')",
        "message": "apiGroup is required unless the kind is PersistentVolumeClaim",
        "fieldPath": ".dataSourceRef",
    },
)
VOLUMES = (METADATA, CONTENT, CACHE)


def _existed(volume: str) -> str:
    """Returns when a volume of the old object existed; that for content may be added later."""
    return "has(oldSelf.contentSize)" if volume == CONTENT else "true"


def _class_of(storage: str, volume: str) -> str:
    """Returns the class that the spec names for a volume. No class is called `-`, which stands for the default one."""
    field, default_field = f"{storage}.{volume}.storageClassName", f"{storage}.storageClassName"
    return f"(has({storage}.{volume}) && has({field}) ? {field} : (has({default_field}) ? {default_field} : '-'))"


# Not by optional types (`self.?metadata`): CEL reckons with any length of what is in them, beyond the cost limit.
VOLUME_RULES: list[Schema] = [
    *(
        {
            "rule": f"!{_existed(volume)} || {_class_of('self', volume)} == {_class_of('oldSelf', volume)}",
            "message": f"storageClassName of the volume {volume} cannot change; "
            "make a new DittoServer with the other class and copy the data",
        }
        for volume in VOLUMES
    ),
    *(
        {
            "rule": f"!{_existed(volume)} || !has(self.{volume}) || !has(self.{volume}.dataSourceRef) || "
            f"(has(oldSelf.{volume}) && has(oldSelf.{volume}.dataSourceRef) && "
            f"self.{volume}.dataSourceRef == oldSelf.{volume}.dataSourceRef)",
            "message": f"{volume}.dataSourceRef cannot be set or changed: a volume is restored only when it is created",
            "fieldPath": f".{volume}",
        }
        for volume in VOLUMES
    ),
    {
        "rule": "!has(self.content) || has(self.contentSize)",
        "message": "content needs contentSize",
        "fieldPath": ".content",
    },
    {
        "rule": "!has(oldSelf.contentSize) || has(self.contentSize)",
        "message": "contentSize cannot be removed: its volume holds data; "
        "make a new DittoServer without it and copy the data",
    },
]

_API_TYPE = "(has({0}.api) && has({0}.api.type) ? {0}.api.type : 'ClusterIP')"
_NEW_API_TYPE, _OLD_API_TYPE = _API_TYPE.format("self"), _API_TYPE.format("oldSelf")
_NODE_PORTS = "has(self.nodePorts) && has(self.nodePorts.{0})"
_HAS_TWO_FAMILIES = "has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack'"
_HAS_RESERVED_LABEL = " || ".join(f"'{key}' in self.labels" for key in RESERVED_LABELS)
SERVICE_RULES: list[Schema] = [
    *(
        {
            "rule": f"!has(self.{name}) || size(self.{name}) == 0 || self.type == '{LOAD_BALANCER}' || "
            f"{_NEW_API_TYPE} == '{LOAD_BALANCER}'",
            "message": f"{name} needs type or api.type {LOAD_BALANCER}",
            "fieldPath": f".{name}",
        }
        for name in ("loadBalancerClass", "loadBalancerSourceRanges")
    ),
    {
        "rule": f"!has(self.externalTrafficPolicy) || self.type != 'ClusterIP' || {_NEW_API_TYPE} != 'ClusterIP'",
        "message": "externalTrafficPolicy needs type or api.type NodePort or LoadBalancer",
        "fieldPath": ".externalTrafficPolicy",
    },
    *(
        {
            "rule": f"!({_NODE_PORTS.format(name)}) || {kind} != 'ClusterIP'",
            "message": f"nodePorts.{name} needs {field} NodePort or LoadBalancer",
            "fieldPath": f".nodePorts.{name}",
        }
        for name, field, kind in (
            ("nfs", "type", "self.type"),
            ("smb", "type", "self.type"),
            ("api", "api.type", _NEW_API_TYPE),
        )
    ),
    *(
        {
            "rule": f"!({_NODE_PORTS.format(name)} && {_NODE_PORTS.format(other)}) || "
            f"self.nodePorts.{name} != self.nodePorts.{other}",
            "message": f"the same node port is used by both {name} and {other}",
            "fieldPath": f".nodePorts.{other}",
        }
        for name, other in combinations(("nfs", "smb", "api"), 2)
    ),
    {
        "rule": f"!has(self.ipFamilies) || (size(self.ipFamilies) == 2) == ({_HAS_TWO_FAMILIES})",
        "message": "ipFamilies must have both families with ipFamilyPolicy PreferDualStack or RequireDualStack, "
        "and one without",
        "fieldPath": ".ipFamilies",
    },
    {
        "rule": "!has(self.ipFamilies) || size(self.ipFamilies) < 2 || self.ipFamilies[0] != self.ipFamilies[1]",
        "message": "ipFamilies must not name a family twice",
        "fieldPath": ".ipFamilies",
    },
    {
        "rule": f"!has(self.labels) || !({_HAS_RESERVED_LABEL})",
        "message": f"labels must have none of {', '.join(RESERVED_LABELS)}: the operator sets them",
        "fieldPath": ".labels",
    },
    {
        "rule": f"!(self.type == '{LOAD_BALANCER}' && oldSelf.type == '{LOAD_BALANCER}' || "
        f"{_NEW_API_TYPE} == '{LOAD_BALANCER}' && {_OLD_API_TYPE} == '{LOAD_BALANCER}') || "
        "(has(self.loadBalancerClass) ? self.loadBalancerClass : '') == "
        "(has(oldSelf.loadBalancerClass) ? oldSelf.loadBalancerClass : '')",
        "message": f"loadBalancerClass cannot change while the type is {LOAD_BALANCER}; "
        "set the type to ClusterIP first, then back",
        "fieldPath": ".loadBalancerClass",
    },
    {
        "rule": "!has(self.ipFamilies) || !has(oldSelf.ipFamilies) || self.ipFamilies[0] == oldSelf.ipFamilies[0]",
        "message": "the first of ipFamilies cannot change: Kubernetes never changes it",
        "fieldPath": ".ipFamilies",
    },
]

# About the spec, since the section may be removed as a whole.
ADDRESS_RULE: Schema = {
    "rule": "!(has(oldSelf.service) && has(oldSelf.service.ipFamilyPolicy)) || "
    "oldSelf.service.ipFamilyPolicy == 'SingleStack' || (has(self.service) && has(self.service.ipFamilyPolicy))",
    "message": "service.ipFamilyPolicy cannot be removed, as Kubernetes would keep both addresses; "
    "set SingleStack to give one up",
    "fieldPath": ".service",
}

NAME_RULE: Schema = {
    "rule": f"size(self.metadata.name) <= {MAX_SERVER_NAME_CHARACTERS} && "
    f"self.metadata.name.matches('{SERVER_NAME_PATTERN}')",
    "message": f"metadata.name must have at most {MAX_SERVER_NAME_CHARACTERS} lower-case letters, digits and dashes, "
    "beginning with a letter, to name Services and pods",
}
