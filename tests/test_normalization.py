"""What the API server makes of the values of a podTemplate is no difference: nothing would ever stop writing them."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import httpx
import pytest

from app.storage.core_types import fields_of
from app.storage.difference import differs, marked
from app.storage.objects import Owner, stateful_set
from app.storage.pod_conflicts import pod_conflicts
from app.storage.reading import read
from app.storage.schema import Schema
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import server

ZEROES: Mapping[str, Any] = {"string": "", "boolean": False, "integer": 0, "intOrString": 0}
SIZES = ("1024Mi", "1e9", "1000m", "0.50", " 1Gi ", "1048576Ki", 1, 0.5, 0)
PROBE: Manifest = {"httpGet": {"port": "api"}}
TERM: Manifest = {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "topologyKey": "a"}
NODE_TERM: Manifest = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
SOURCES: Manifest = {
    "configMap": {"name": "a", "items": [{"key": "a", "path": "b"}]},
    "secret": {"secretName": "a"},
    "emptyDir": {},
    "hostPath": {"path": "/a"},
    "nfs": {"server": "a", "path": "/a"},
    "persistentVolumeClaim": {"claimName": "a"},
    "iscsi": {"targetPortal": "a:1", "iqn": "iqn.2001-04.com.example:a", "lun": 1},
    "csi": {"driver": "a.example.com"},
    "downwardAPI": {
        "items": [{"path": "a", "resourceFieldRef": {"containerName": "sidecar", "resource": "limits.cpu"}}]
    },
    "projected": {"sources": [{"serviceAccountToken": {"path": "a"}}, {"configMap": {"name": "a"}}]},
    "ephemeral": {
        "volumeClaimTemplate": {
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    },
    "cephfs": {"monitors": ["a"]},
    "rbd": {"monitors": ["a"], "image": "a"},
    "fc": {"targetWWNs": ["a"], "lun": 1},
    "azureFile": {"secretName": "a", "shareName": "a"},
    "glusterfs": {"endpoints": "a", "path": "a"},
    "gcePersistentDisk": {"pdName": "a"},
    "awsElasticBlockStore": {"volumeID": "a"},
    "flexVolume": {"driver": "a/b"},
}
# Valid, and with an object of nearly every type.
POD: Manifest = {
    "securityContext": {"seLinuxOptions": {"level": "s0"}, "sysctls": [{"name": "net.a", "value": "1"}]},
    "nodeSelector": {"a": "b"},
    "dnsConfig": {"nameservers": ["10.0.0.1"], "options": [{"name": "a"}]},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    "imagePullSecrets": [{"name": "a"}],
    "readinessGates": [{"conditionType": "a"}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [NODE_TERM]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": NODE_TERM}],
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [TERM, {**TERM, "topologyKey": "b"}],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": TERM}],
        },
    },
    "containers": [
        {
            "name": "sidecar",
            "image": "a",
            "env": [
                {"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "a"}}],
            "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}],
            "volumeMounts": [{"name": "volume", "mountPath": "/a"}, {"name": "cache", "mountPath": "/b"}],
            "resources": {"limits": {"memory": "1Gi", "cpu": 1}, "requests": {"memory": "1Gi"}},
            "securityContext": {"capabilities": {"drop": ["ALL"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["a"]}}},
            "livenessProbe": {"grpc": {"port": 1}},
            "readinessProbe": {"tcpSocket": {"port": 1}},
            "startupProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a", "value": "b"}]}},
        },
        {"name": "dittofs", "livenessProbe": PROBE, "securityContext": {"runAsUser": 1}},
    ],
    "initContainers": [{"name": "first", "image": "a", "restartPolicy": "Always", "command": ["a"]}],
    "volumes": [{"name": "volume", "emptyDir": {}}],
}


VOLUMES = {"type": "array", "items": {"$ref": "Volume"}}


def pods() -> list[Manifest]:
    return [{**POD, "volumes": [{"name": "volume", name: source}]} for name, source in SOURCES.items()]


def variants(field: Schema, value: Any) -> Iterator[Any]:
    """Yields the value with one scalar in it zero, or one amount written otherwise, each time another one."""
    if field.get("type") == "quantity":
        yield from SIZES
    elif field.get("type") in ZEROES:
        yield ZEROES[field["type"]]
    elif isinstance(value, list):
        yield []
        for index, item in enumerate(value):
            for variant in variants(field["items"], item):
                yield [*value[:index], variant, *value[index + 1 :]]
    else:
        entries: Mapping[str, Schema] = dict.fromkeys(value, field.get("additionalProperties") or {})
        known = fields_of(field["$ref"]) if "$ref" in field else entries
        for name, inner in known.items():
            # Everything that is there, and of what is missing each field that is no object.
            if name in value or ("$ref" not in inner and "items" not in inner):
                for variant in variants(inner, value.get(name, {})):
                    yield {**value, name: variant}


def spellings() -> list[Manifest]:
    """Returns the variants of one pod, and of every other pod those of what it has of its own: the volume."""
    first, *others = pods()
    found = list(variants({"$ref": "PodSpec"}, first))
    for pod in others:
        found += [{**pod, "volumes": volumes} for volumes in variants(VOLUMES, pod["volumes"])]
    return list({json.dumps(pod, sort_keys=True): pod for pod in found}.values())


def test_no_spelling_of_a_value_is_a_difference(control_plane: ControlPlane) -> None:
    path = "/apis/apps/v1/namespaces/default/statefulsets?dryRun=All&fieldManager=dittofs-operator"
    accepted, differing = 0, []

    for patch in spellings():
        spec = read(server(podTemplate={"spec": deepcopy(patch)})).server.spec
        if pod_conflicts(spec):
            continue
        desired = marked(stateful_set(Owner("files", "default"), spec))
        try:
            live = control_plane.create(path, desired)
        except httpx.HTTPStatusError:
            continue

        accepted += 1
        if differs(desired, live):
            differing.append(patch)

    assert differing == []
    assert accepted > 200


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: next(name for name in pod["volumes"][0] if name != "name"))
def test_the_pod_of_the_test_is_valid(control_plane: ControlPlane, pod: Manifest) -> None:
    spec = read(server(podTemplate={"spec": pod})).server.spec
    assert pod_conflicts(spec) == []

    control_plane.create(
        "/apis/apps/v1/namespaces/default/statefulsets?dryRun=All", stateful_set(Owner("files", "default"), spec)
    )
