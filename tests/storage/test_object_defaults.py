import json
from typing import Any

import pytest

from app.storage.difference import APPLIED, marked
from app.storage.object_defaults import (
    APPLIED_WITHOUT_DEFAULTS,
    MAX_BYTES,
    pod_defaults,
    why_not_usable,
    with_defaults,
    workload_with_defaults,
)
from app.storage.objects import Owner, config_map, stateful_set
from app.storage.pod import POD_DEFAULTS, PodRevision
from app.storage.reading import read
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.unstructured import Manifest
from tests.harness.server_table import server

OWNER = Owner("files", "here", "uid-1")
SPEC = read(server()).server.spec
TEAM = ObjectDefaults({"team": "storage"}, {"example.com/cost": "a, b"}, ("registry",))


def labelled(**labels: str) -> ObjectDefaults:
    return ObjectDefaults(labels=labels)


def annotated(**annotations: str) -> ObjectDefaults:
    return ObjectDefaults(annotations=annotations)


def pod(text: Any) -> Manifest:
    return {"metadata": {"annotations": {POD_DEFAULTS: text}}}


@pytest.mark.parametrize(
    "defaults",
    [
        NO_DEFAULTS,
        TEAM,
        labelled(**{"example.com/a_b.c": "", "app.kubernetes.io/version": "1"}),
        annotated(**{"Example.com/note": "two\nlines: ü", "app": "x"}),
    ],
)
def test_what_every_object_can_have_is_usable(defaults: ObjectDefaults) -> None:
    assert why_not_usable(defaults) is None
    assert pod_defaults(pod(defaults.encode())) == defaults


UNUSABLE = {
    'the key of label "a b" must be': labelled(**{"a b": "c"}),
    'the value of label "a" must be up to 63': labelled(a="b c"),
    'label "dittofs.io/a" is reserved': labelled(**{"dittofs.io/a": "b"}),
    'the key of annotation "a/b/c" must be': annotated(**{"a/b/c": "d"}),
    'the value of annotation "a" must be text': annotated(a="\ud800"),
    'annotation "dittofs.io/pod-defaults" is reserved': annotated(**{POD_DEFAULTS: "{}"}),
    'annotation "kubectl.kubernetes.io/restartedAt" is reserved': annotated(
        **{"kubectl.kubernetes.io/restartedAt": ""}
    ),
    'annotation "volume.beta.kubernetes.io/storage-class"': annotated(
        **{"volume.beta.kubernetes.io/storage-class": ""}
    ),
    'no Secret can have the name "A b"': ObjectDefaults(pull_secrets=("A b",)),
    "pull secrets must have distinct names": ObjectDefaults(pull_secrets=("a", "a")),
    "must have at most 16384 bytes in all": annotated(a="x" * MAX_BYTES),
}


@pytest.mark.parametrize(("message", "defaults"), UNUSABLE.items(), ids=UNUSABLE.keys())
def test_what_is_wrong_is_named_and_never_read(message: str, defaults: ObjectDefaults) -> None:
    assert message in (why_not_usable(defaults) or "")
    assert pod_defaults(pod(defaults.encode())) == NO_DEFAULTS


@pytest.mark.parametrize("key", OWNER.labels)
def test_a_label_of_the_operator_is_reserved(key: str) -> None:
    assert why_not_usable(labelled(**{key: "x"})) == (
        f'label "{key}" is reserved for Kubernetes or the operator; choose another key'
    )


@pytest.mark.parametrize(
    "text",
    [
        *(None, 5, "", "{", "[]", "null", '"labels"', "1" * 5000, "[" * 9000, "\ud800"),
        *('{"labels":[]}', '{"labels":{"a":1}}', '{"annotations":{"a":null}}', '{"imagePullSecrets":"registry"}'),
        *('{"imagePullSecrets":[1]}', '{"imagePullSecrets":["A b"]}', '{"labels":{"app":"x"}}'),
        json.dumps({"annotations": {"a": "x" * MAX_BYTES}}),
    ],
    ids=lambda text: str(text)[:40].encode("ascii", "replace").decode(),
)
def test_whoever_writes_the_annotation_of_a_pod_breaks_nothing(text: Any) -> None:
    assert pod_defaults(pod(text)) == NO_DEFAULTS


@pytest.mark.parametrize("empty", [{}, {"metadata": None}, {"metadata": {"annotations": None}}])
def test_a_pod_without_the_annotation_has_none(empty: Manifest) -> None:
    assert pod_defaults(empty) == NO_DEFAULTS


def test_what_an_object_has_of_its_own_wins() -> None:
    own = {"metadata": {"name": "a", "labels": {"team": "own"}, "annotations": {"note": "own"}}}

    assert with_defaults(own, TEAM)["metadata"] == {
        "name": "a",
        "labels": {"team": "own"},
        "annotations": {"example.com/cost": "a, b", "note": "own"},
    }
    assert with_defaults({"metadata": {"name": "a"}}, labelled(a="b")) == {
        "metadata": {"name": "a", "labels": {"a": "b"}}
    }


@pytest.mark.parametrize("defaults", [NO_DEFAULTS, ObjectDefaults(pull_secrets=("registry",))])
def test_without_labels_and_annotations_objects_stay(defaults: ObjectDefaults) -> None:
    manifest, workload = config_map(OWNER, SPEC), stateful_set(OWNER, SPEC)

    assert with_defaults(manifest, defaults) is manifest
    assert workload_with_defaults(workload, defaults) is workload


def test_a_statefulset_has_the_digest_of_what_it_is_without() -> None:
    workload = stateful_set(OWNER, SPEC)

    metadata = workload_with_defaults(workload, TEAM)["metadata"]

    assert metadata["labels"] == {**OWNER.labels, "team": "storage"}
    assert metadata["annotations"] == {
        "example.com/cost": "a, b",
        APPLIED_WITHOUT_DEFAULTS: marked(workload)["metadata"]["annotations"][APPLIED],
    }


def test_a_pod_has_them_and_says_so() -> None:
    template = stateful_set(OWNER, SPEC, PodRevision(config_hash="hash", defaults=TEAM))["spec"]["template"]

    assert template["metadata"]["labels"] == {"team": "storage", **OWNER.labels}
    assert template["metadata"]["annotations"] == {
        "example.com/cost": "a, b",
        "dittofs.io/config-hash": "hash",
        POD_DEFAULTS: TEAM.encode(),
    }
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod_defaults(template) == TEAM
