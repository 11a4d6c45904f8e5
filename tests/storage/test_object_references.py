from typing import Any

import pytest

from app.storage.facts import (
    PRIORITY_CLASS,
    SERVICE_ACCOUNT,
    VOLUME_SNAPSHOT,
    ExistingObject,
    ObjectReference,
    Secret,
    Unknown,
)
from app.storage.object_references import (
    MAX_PULL_SECRETS,
    PULL_SECRET,
    PULL_SECRET_TYPES,
    NamedObject,
    object_findings,
    object_references,
)
from app.storage.reading import read
from app.storage.spec import Spec
from tests.harness.server_table import server, snapshot, storage


def spec(pod: Any = None, **fields: Any) -> Spec:
    """Returns a spec as a review reads it; what is malformed is rejected elsewhere."""
    return read(server(podTemplate={"spec": pod}, **fields)).server.spec


def names(spec: Spec) -> list[tuple[str, str]]:
    return [(entry.reference.kind, entry.reference.name) for entry in object_references(spec)]


def messages(kind: str, existing: ExistingObject | Secret | Unknown | None) -> list[str]:
    return [finding.message for finding in object_findings(NamedObject("spec", ObjectReference(kind, "x")), existing)]


def test_a_spec_without_such_fields_names_nothing() -> None:
    assert object_references(Spec()) == ()


def test_a_service_account_for_s3_is_named_once() -> None:
    fields = {"s3": {"serviceAccountName": "files"}, "podTemplate": {"spec": {"serviceAccountName": "files"}}}

    [named] = object_references(read(server(**fields)).server.spec)

    assert named.reference == ObjectReference(SERVICE_ACCOUNT, "files")


def test_a_pod_names_its_class_account_and_secrets() -> None:
    pod = {"priorityClassName": "high", "serviceAccountName": "files", "imagePullSecrets": [{"name": "a"}]}

    assert object_references(spec(pod, imagePullSecrets=[{"name": "b"}])) == (
        NamedObject("spec.podTemplate.spec.priorityClassName", ObjectReference(PRIORITY_CLASS, "high")),
        NamedObject("spec.podTemplate.spec.serviceAccountName", ObjectReference(SERVICE_ACCOUNT, "files")),
        NamedObject("spec.imagePullSecrets", ObjectReference(PULL_SECRET, "b")),
        NamedObject("spec.podTemplate.spec.imagePullSecrets", ObjectReference(PULL_SECRET, "a")),
    )


def test_an_object_that_is_named_twice_is_looked_up_once() -> None:
    pod = {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}
    assert names(spec(pod, imagePullSecrets=[{"name": "a"}])) == [(PULL_SECRET, "a")]


def test_what_the_cluster_always_has_is_not_looked_up() -> None:
    assert names(spec({"priorityClassName": "system-node-critical", "serviceAccountName": "default"})) == []


@pytest.mark.parametrize("value", [None, 5, "", "x" * 254, [], {"name": "a"}, [None], [{"name": 5}], [["a"]], [{}]])
def test_what_is_no_name_names_nothing(value: Any) -> None:
    pod = dict.fromkeys(("priorityClassName", "serviceAccountName", "imagePullSecrets"), value)

    assert names(spec(pod, imagePullSecrets=value)) == []
    assert names(spec(value)) == []
    assert names(read(server(podTemplate=value)).server.spec) == []


def test_only_so_many_pull_secrets_are_looked_up() -> None:
    many = [{"name": f"secret-{number}"} for number in range(1000)]
    assert len(names(spec({"imagePullSecrets": many}))) == MAX_PULL_SECRETS


@pytest.mark.parametrize(
    ("kind", "existing", "message"),
    [
        (PRIORITY_CLASS, None, 'PriorityClass "x" does not exist; the pod cannot be created until it does'),
        (SERVICE_ACCOUNT, None, 'ServiceAccount "x" does not exist; the pod cannot be created until it does'),
        (VOLUME_SNAPSHOT, None, 'VolumeSnapshot "x" does not exist; its claim stays Pending until it does'),
        (PULL_SECRET, None, 'pull Secret "x" does not exist; a private image cannot be pulled without it'),
        (PRIORITY_CLASS, Unknown("no answer within 2 s"), 'Could not verify PriorityClass "x": no answer within 2 s'),
        (
            SERVICE_ACCOUNT,
            ExistingObject(terminating=True),
            'ServiceAccount "x" is being deleted; create it again once it is gone',
        ),
        (
            VOLUME_SNAPSHOT,
            ExistingObject(ready=False),
            'VolumeSnapshot "x" is not ready to use yet; its claim stays Pending until it is',
        ),
        (
            PULL_SECRET,
            Secret(terminating=True),
            'pull Secret "x" is being deleted; create it again once it is gone',
        ),
        (
            PULL_SECRET,
            Secret(),
            'pull Secret "x" has type "Opaque" and has no effect; its type must be kubernetes.io/dockerconfigjson',
        ),
    ],
)
def test_a_warning_names_the_object_and_its_consequence(
    kind: str, existing: ExistingObject | Secret | Unknown | None, message: str
) -> None:
    assert messages(kind, existing) == [message]


def test_an_object_that_can_be_used_draws_no_warning() -> None:
    for kind in (PRIORITY_CLASS, SERVICE_ACCOUNT, VOLUME_SNAPSHOT):
        assert messages(kind, ExistingObject()) == []
    for secret_type in PULL_SECRET_TYPES:
        assert messages(PULL_SECRET, Secret(type=secret_type)) == []


def test_a_hostile_type_stays_one_short_line() -> None:
    [message] = messages(PULL_SECRET, Secret(type="a\n\x1b[31m" + "b" * 500))

    assert message.isprintable()
    assert len(message) < 180


def test_a_volume_names_its_snapshot() -> None:
    volumes = {"contentSize": "1Gi", "content": snapshot("weekly"), "cache": snapshot("weekly"), "metadata": snapshot()}

    assert object_references(read(server(**storage(**volumes))).server.spec) == (
        NamedObject("spec.storage.metadata.dataSourceRef", ObjectReference(VOLUME_SNAPSHOT, "nightly")),
        NamedObject("spec.storage.cache.dataSourceRef", ObjectReference(VOLUME_SNAPSHOT, "weekly")),
    )


@pytest.mark.parametrize(
    "source", [snapshot(kind="PersistentVolumeClaim", apiGroup=None), snapshot(apiGroup="example.com")]
)
def test_other_sources_of_volumes_are_not_looked_up(source: Any) -> None:
    assert object_references(read(server(**storage(cache=source))).server.spec) == ()
