"""Puts a marker wherever a secret can be in an object, and looks for it in what is left."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.redacted_object import OMITTED, literal_secrets, redact_object, referenced_secrets
from app.storage.secret_mask import SecretMask
from app.storage.unstructured import Manifest
from tests.harness.json_strategies import ANY_JSON

MARKER = "marker-7f3a"
ODD_KEYS = (
    "data",
    "kind",
    "metadata",
    "annotations",
    "env",
    "args",
    "parameters",
    "mountOptions",
    "secret",
    "managedFields",
)


def redact(manifest: Manifest, *known: str, is_operator: bool = False) -> Any:
    return redact_object(manifest, SecretMask(known), is_operator=is_operator)


def pod(**container: Any) -> Manifest:
    return {"kind": "Pod", "spec": {"containers": [{"name": "sidecar", **container}]}}


@pytest.mark.parametrize(
    "manifest",
    [
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"a": MARKER})}}},
        {"metadata": {"annotations": {"example.com/note": MARKER}}},
        {"metadata": {"managedFields": [{"fieldsV1": {f"f:{MARKER}": {}}}]}},
        {"kind": "Secret", "data": {"password": MARKER}},
        {"kind": "Secret", "stringData": {"password": MARKER}},
        {"kind": "ConfigMap", "data": {"other.yaml": MARKER}},
        {"kind": "ConfigMap", "data": {"config.yaml": f'database:\n  password: "{MARKER}"\n'}},
        {"kind": "ConfigMap", "data": {"config.yaml": f"database:\n  dsn: postgres://u:{MARKER}@h/d\n"}},
        {"kind": "ConfigMap", "binaryData": {"config.yaml": MARKER}},
        pod(env=[{"name": "LEVEL", "value": MARKER}]),
        pod(env=[MARKER]),
        pod(args=[f"--token={MARKER}", "--password", MARKER, MARKER]),
        pod(command=["sh", "-c", f"login {MARKER}"]),
        pod(livenessProbe={"exec": {"command": ["check", MARKER]}}),
        pod(livenessProbe={"httpGet": {"httpHeaders": [{"name": "X-Auth", "value": MARKER}]}}),
        {"kind": "PersistentVolume", "spec": {"csi": {"volumeAttributes": {"login": MARKER}}}},
        {"kind": "PersistentVolume", "spec": {"flexVolume": {"options": {"login": MARKER}}}},
        {"kind": "PersistentVolume", "spec": {"mountOptions": ["hard", f"password={MARKER}"]}},
        {"kind": "StorageClass", "parameters": {"resturl": MARKER}},
        {"kind": "DittoServer", "spec": {"podTemplate": {"spec": {"unknown": {"apiToken": MARKER}}}}},
        {"kind": "Event", "message": f"cannot log in, password: {MARKER}"},
        {"kind": "Pod", "status": {"lastState": {"terminated": {"message": f"admin password is {MARKER}\n"}}}},
        {"kind": "Event", "message": f"failed: http://user:{MARKER}@registry.example.com"},
        {"kind": "Event", "message": f'{{"password":"{MARKER}"}}'},
    ],
    ids=lambda manifest: json.dumps(manifest)[:60],
)
def test_a_marker_is_nowhere_in_what_is_left(manifest: Manifest) -> None:
    assert MARKER not in json.dumps(redact(manifest))


@pytest.mark.parametrize(
    "manifest",
    [
        {"metadata": {"labels": {"a": MARKER}}},
        {"metadata": {"annotations": {"dittofs.io/restarted-at": MARKER}}},
        {"metadata": {"annotations": {MARKER: ""}}},
        {"status": {"conditions": [{"message": f"quotes {MARKER}"}]}},
        {"spec": {MARKER: "x", "list": [[{"deep": MARKER}]]}},
        {"kind": "Secret", "data": {MARKER: "x"}},
    ],
    ids=json.dumps,
)
def test_a_known_value_is_masked_everywhere(manifest: Manifest) -> None:
    assert MARKER not in json.dumps(redact(manifest, MARKER))


@given(st.dictionaries(st.sampled_from(ODD_KEYS), ANY_JSON))
def test_no_object_is_too_odd_to_be_redacted(manifest: Manifest) -> None:
    assert isinstance(redact(manifest), dict)
    assert list(referenced_secrets(manifest)) is not None
    assert list(literal_secrets(manifest)) is not None


def test_what_helps_stays() -> None:
    manifest = {
        "kind": "StatefulSet",
        "metadata": {"name": "files", "annotations": {"dittofs.io/config-hash": "abc"}, "labels": {"app": "x"}},
        "spec": {
            "replicas": 1,
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "accessKeyId"}}}],
            "secretName": "s3",
            "accessTokenDuration": "15m",
            "automountServiceAccountToken": False,
            "parameters": {"type": "gp3"},
            "args": ["--verbose"],
        },
    }

    assert redact(manifest) == manifest


def test_the_configuration_of_the_operator_stays() -> None:
    config = 'logging:\n  level: "INFO"\ncontrolplane:\n  port: 8080\n'
    assert redact({"kind": "ConfigMap", "data": {"config.yaml": config}})["data"] == {"config.yaml": config}


def test_flags_of_the_operator_stay_but_free_text() -> None:
    args = ["serve", "--workers=4", f"--object-label=a={MARKER}", f"--object-annotation=b={MARKER}"]
    [container] = redact(pod(args=args), is_operator=True)["spec"]["containers"]

    assert container["args"] == [
        "serve",
        "--workers=4",
        f"--object-label={OMITTED}",
        f"--object-annotation={OMITTED}",
    ]


def test_every_reference_to_a_secret_is_noticed() -> None:
    spec = {
        "s3": {"credentialsSecretRef": {"secretName": "a"}, "caSecretRef": {"name": "b"}},
        "database": {"postgresSecretRef": {"name": "c", "key": "k"}},
        "imagePullSecrets": [{"name": "d"}, "odd", {}],
        "containers": [
            {"env": [{"valueFrom": {"secretKeyRef": {"name": "e"}}}], "envFrom": [{"secretRef": {"name": "f"}}]}
        ],
        "volumes": [
            {"secret": {"secretName": "g"}},
            {"projected": {"sources": [{"secret": {"name": "h"}}]}},
            {"csi": {"nodePublishSecretRef": {"name": "i"}}},
        ],
    }

    assert sorted({*referenced_secrets([spec, None])}) == list("abcdefghi")


def test_literal_secrets_are_those_that_sound_so() -> None:
    env = [{"name": "TOKEN", "value": "t"}, {"name": "LEVEL", "value": "l"}, {"name": "PASSWORD"}, "odd"]
    header = {"httpGet": {"httpHeaders": [{"name": "X-Token", "value": "h"}]}}
    assert list(literal_secrets([pod(env=env, livenessProbe=header)])) == ["t", "h"]
