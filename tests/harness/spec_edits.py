"""Values for every field of a spec, and random edits made of them. A field without values here fails a test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from app.storage.crd import custom_resource_definition
from app.storage.unstructured import Manifest

Path = tuple[str, ...]

# The same edits each time. They are not shrunk, which would take minutes: the message has the one that failed.
AT_THE_API_SERVER = settings(
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Several ways to write one thing are among the values on purpose: only one that changes the pod restarts it.
_MEMORY = [{"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, {"requests": {"cpu": "1000m"}}, {}]
_CPU = [{"requests": {"cpu": "1"}}, {"limits": {"cpu": "2", "memory": "1073741824"}}, {"requests": {"cpu": 1}}]
_TOLERATIONS = [
    [],
    [{"key": "storage", "operator": "Exists"}],
    [{"key": "storage", "operator": "Exists", "effect": "NoSchedule"}],
    [{"key": "a", "value": "b"}, {"key": "a", "value": "b", "operator": "Equal"}],
]
_TERM = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
_NODE_AFFINITY = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]}}
_POD_TERM = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
_POD_AFFINITY = {"requiredDuringSchedulingIgnoredDuringExecution": [_POD_TERM]}
_AFFINITIES = [{}, {"nodeAffinity": _NODE_AFFINITY}, {"podAntiAffinity": _POD_AFFINITY}, {"nodeAffinity": {}}]
_NODES: list[Any] = [{}, {"disk": "ssd"}, {"disk": "ssd", "zone": "a"}]
_PULL_SECRETS: list[Any] = [[], [{"name": "pull"}], [{"name": "pull"}, {"name": "other"}]]
_ANNOTATIONS: list[Any] = [{}, {"example.com/a": "b"}, {"example.com/a": "b", "example.com/c": ""}]
_LABELS: list[Any] = [{}, {"team": "a"}, {"team": "b", "cost": "1"}]
_DURATIONS = ["5m", "30s", "1h"]
_SECOND_PORT = 18080
_OF_NEW_VOLUMES = ("storageClassName", "dataSourceRef.apiGroup", "dataSourceRef.kind", "dataSourceRef.name")

_HELPER = {"name": "helper", "image": "example.com/helper:1"}
_CONTAINERS: list[Any] = [
    [],
    [_HELPER],
    [{**_HELPER, "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}],
    [{**_HELPER, "ports": [{"name": "web", "containerPort": 9999}]}],
    [{**_HELPER, "readinessProbe": {"httpGet": {"path": "/", "port": 9999}}}],
    [{**_HELPER, "readinessProbe": {"httpGet": {"path": "/", "port": 9999, "scheme": "HTTP"}, "periodSeconds": 10}}],
    [{"name": "dittofs", "env": [{"name": "GOMAXPROCS", "value": "2"}]}],
    [{"name": "dittofs", "env": [{"name": "GOMAXPROCS", "value": ""}, {"name": "EMPTY"}]}],
    [{"name": "dittofs", "resources": {"limits": {"memory": "1024Mi"}}}],
    [{"name": "dittofs", "terminationMessagePolicy": "File"}],
    [{"name": "dittofs", "terminationMessagePolicy": "FallbackToLogsOnError"}],
    [{"name": "dittofs", "stdin": False, "tty": False}],
    [{"name": "dittofs", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readOnly": False}]}],
    [{"name": "dittofs", "securityContext": {"privileged": False, "runAsUser": None}}],
]
_INIT_CONTAINERS: list[Any] = [
    [],
    [{**_HELPER, "name": "prepare"}],
    [{**_HELPER, "name": "p", "restartPolicy": "Always"}],
]
_VOLUMES: list[Any] = [
    [],
    [{"name": "scratch", "emptyDir": {}}],
    [{"name": "scratch"}],
    [{"name": "scratch", "emptyDir": {"medium": "", "sizeLimit": "1024Mi"}}],
    [{"name": "scratch", "configMap": {"name": "x"}}],
    [{"name": "scratch", "configMap": {"name": "x", "defaultMode": 420, "optional": False}}],
    [{"name": "scratch", "secret": {"secretName": "x"}}],
    [{"name": "scratch", "hostPath": {"path": "/x"}}],
    [{"name": "scratch", "hostPath": {"path": "/x", "type": ""}}],
    [{"name": "scratch", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
]
_CONTEXTS: list[Any] = [
    {},
    {"fsGroup": 65532},
    {"fsGroup": 0},
    {"runAsUser": None},
    {"runAsUser": 65532, "runAsNonRoot": True},
    {"supplementalGroups": []},
    {"seccompProfile": {"type": "Unconfined"}},
]
_SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}

# By the path of a field, of which everything below is chosen together.
VALUES: Mapping[str, list[Any]] = {
    "image": ["example.com/dittofs:tested", "marmos91c/dittofs:v0.29.0", "marmos91c/dittofs:latest"],
    "storage.metadataSize": ["10Gi", "10240Mi", "20Gi"],
    "storage.contentSize": ["50Gi", "60Gi"],
    "storage.cacheSize": ["5Gi", "5120Mi", "6Gi"],
    **{
        f"storage.{volume}.{name}": values
        for volume in ("metadata", "content", "cache")
        for name, values in (("labels", _LABELS), ("annotations", _ANNOTATIONS))
    },
    "database.sqlite.path": ["/data/controlplane/controlplane.db", "/data/controlplane/other.db"],
    "database.postgresSecretRef": [
        {"name": "dsn", "key": "url"},
        {"name": "dsn", "key": "url", "optional": False},
        {"name": "dsn", "key": "other"},
    ],
    "cache.path": ["/data/cache", "/data/cache/sub"],
    "cache.size": ["1GB", "2GB", "1024MB"],
    "metrics.port": [9090, 9191],
    "controlPlane.port": [8080, _SECOND_PORT],
    "identity.jwt": [
        {"secretRef": {"name": "jwt", "key": "key"}},
        {"secretRef": {"name": "jwt", "key": "key"}, "accessTokenDuration": "15m"},
        {"secretRef": {"name": "jwt", "key": "other"}, "accessTokenDuration": "30m", "issuer": "me"},
    ],
    "identity.admin.username": ["admin", "ops"],
    "identity.admin.passwordSecretRef": [
        {"name": "admin", "key": "password"},
        {"name": "admin", "key": "password", "optional": True},
        {"name": "admin", "key": "other"},
    ],
    "service.annotations": _ANNOTATIONS,
    "service.labels": _LABELS,
    "service.loadBalancerClass": ["example.com/balancer"],
    "service.loadBalancerSourceRanges": [[], ["10.0.0.0/8"], ["10.0.0.0/8", "192.0.2.0/24"]],
    "service.ipFamilies": [["IPv4"]],
    "service.ipFamilyPolicy": ["SingleStack", "PreferDualStack"],
    "service.api.annotations": _ANNOTATIONS,
    "service.nodePorts": [{}],
    "nfsPort": [2049, 12049, 3049],
    "smb.port": [445, 1445],
    **{f"smb.timeouts.{name}": _DURATIONS for name in ("read", "write", "idle", "shutdown")},
    "smb.metricsLogInterval": _DURATIONS,
    "s3.credentialsSecretRef": [
        {"secretName": "s3"},
        {"secretName": "s3", "accessKeyIdKey": "accessKeyId"},
        {"secretName": "s3", "endpointKey": "other"},
        {"secretName": "other-s3"},
        {"secretName": "s3", "sessionTokenKey": "token"},
    ],
    "s3.caSecretRef": [{"name": "ca"}, {"name": "ca", "key": "ca.crt"}, {"name": "ca", "key": "other"}],
    "s3.region": ["eu-west-1", "us-east-1"],
    "s3.bucket": ["media", "archive"],
    "s3.serviceAccountName": ["files", "others"],
    "shares": [[], [{"name": "a"}], [{"name": "a", "readOnly": False}, {"name": "b", "readOnly": True}]],
    "resources": [*_MEMORY, *_CPU],
    "securityContext": [{}, {"runAsUser": 1000}, {"readOnlyRootFilesystem": True}, {"privileged": False}],
    "podSecurityContext": _CONTEXTS,
    "imagePullSecrets": _PULL_SECRETS,
    "nodeSelector": _NODES,
    "tolerations": _TOLERATIONS,
    "affinity": _AFFINITIES,
    "podTemplate.metadata.labels": _LABELS,
    "podTemplate.metadata.annotations": _ANNOTATIONS,
    "podTemplate.removeDefaults": [[], ["runAsUser"], ["runAsUser", "runAsGroup", "fsGroup"]],
}
# Of podTemplate.spec. Null removes what the operator sets by default.
POD_VALUES: Mapping[str, list[Any]] = {
    "activeDeadlineSeconds": [None, 3600],
    "affinity": [None, *_AFFINITIES],
    "automountServiceAccountToken": [None, False, True],
    "containers": _CONTAINERS,
    "dnsConfig": [None, {}, {"options": [{"name": "ndots", "value": "2"}]}, {"nameservers": []}],
    "dnsPolicy": [None, "ClusterFirst", "Default"],
    "enableServiceLinks": [None, False, True],
    "hostAliases": [[], [{"ip": "192.0.2.1", "hostnames": ["s3"]}]],
    "hostIPC": [None, False, True],
    "hostNetwork": [None, False],
    "hostPID": [None, False, True],
    "hostUsers": [None, True, False],
    "hostname": [None, "", "files"],
    "imagePullSecrets": _PULL_SECRETS,
    "initContainers": _INIT_CONTAINERS,
    "nodeName": [None, ""],
    "nodeSelector": [None, *_NODES],
    "os": [None, {"name": "linux"}],
    "preemptionPolicy": [None, "PreemptLowerPriority", "Never"],
    "priorityClassName": [None, "", "system-node-critical"],
    "readinessGates": [None, [], [{"conditionType": "example.com/ready"}]],
    "restartPolicy": [None, "Always"],
    "runtimeClassName": [None, "gvisor"],
    "schedulerName": [None, "default-scheduler", "mine"],
    "securityContext": [None, *_CONTEXTS],
    "serviceAccount": [None, "default"],
    "serviceAccountName": [None, "", "default", "files"],
    "setHostnameAsFQDN": [None, False, True],
    "shareProcessNamespace": [None, False, True],
    "subdomain": [None, ""],
    "terminationGracePeriodSeconds": [None, 30, 105, 120],
    "tolerations": [None, *_TOLERATIONS],
    "topologySpreadConstraints": [
        [],
        [{**_SPREAD, "labelSelector": {"matchLabels": {"app": "x"}}}],
        [{**_SPREAD, "labelSelector": {"matchLabels": {"app": "x"}}, "minDomains": 2}],
    ],
    "volumes": _VOLUMES,
}
# What no pod template can have, or what needs a gate of the API server.
NOT_IN_TEMPLATES = {
    "ephemeralContainers",
    "hostnameOverride",
    "overhead",
    "priority",
    "resourceClaims",
    "resources",
    "schedulingGates",
    "schedulingGroup",
}
# Volumes stay in their class and keep their source, and the last of these has an API of one value.
FIXED = {
    *(f"storage.{volume}.{name}" for volume in ("metadata", "content", "cache") for name in _OF_NEW_VOLUMES),
    "storage.storageClassName",
    "identity.type",
}


@dataclass(frozen=True)
class FieldEdit:
    """Sets a field to a value, or removes a field or a section."""

    path: Path
    value: Any = None
    removes: bool = False

    def apply(self, spec: Mapping[str, Any]) -> Manifest:
        return _edited(spec, self.path, self)


def fields(schema: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yields the fields of the spec that are chosen together with nothing else."""
    for name, field in schema["properties"].items():
        below = (*path, name)
        if ".".join(below) in VALUES or path == ("podTemplate", "spec") or "properties" not in field:
            yield below, field
        else:
            yield from fields(field, below)


def values_of(path: Path, field: Mapping[str, Any]) -> list[Any]:
    """Returns the values of a field, empty for one that is not edited. Raises KeyError when they are missing here."""
    name = ".".join(path)
    if name in FIXED or (path[:2] == ("podTemplate", "spec") and path[2] in NOT_IN_TEMPLATES):
        return []
    if path[:2] == ("podTemplate", "spec"):
        return POD_VALUES[path[2]]
    if name in VALUES:
        return VALUES[name]
    if "enum" in field:
        return list(field["enum"])
    if field["type"] == "boolean":
        return [False, True]
    if field["type"] == "integer":
        return sorted({field["minimum"], field.get("default", field["minimum"]), min(field["maximum"], 1000)})
    raise KeyError(name)


SCHEMA = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
EDITED = {path: values for path, field in fields(SCHEMA) if (values := values_of(path, field))}
# A section that is removed takes all its fields along.
SECTIONS = sorted({path[:length] for path in EDITED for length in range(1, len(path))} - {("storage",)})

FIELD_EDITS = st.one_of(
    st.sampled_from([FieldEdit(path, value) for path in sorted(EDITED) for value in EDITED[path]]),
    st.sampled_from([FieldEdit(path, removes=True) for path in [*sorted(EDITED), *SECTIONS]]),
)
# Most edits change one field, so that a failure says which.
SPEC_EDITS = st.lists(FIELD_EDITS, min_size=1, max_size=3)


def _edited(section: Mapping[str, Any], path: Path, edit: FieldEdit) -> Manifest:
    head, *rest = path
    if rest:
        below = section.get(head)
        return {**section, head: _edited(below if isinstance(below, Mapping) else {}, tuple(rest), edit)}
    if edit.removes:
        return {name: value for name, value in section.items() if name != head}
    return {**section, head: edit.value}
