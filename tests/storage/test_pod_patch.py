from typing import Any

import pytest

from app.storage.objects import Owner, stateful_set
from app.storage.pod import server_container
from app.storage.reading import read
from app.storage.unstructured import Manifest
from tests.harness.server_table import server

OWNER = Owner("files", "default")


def template(**spec: Any) -> Any:
    reading = read(server(**spec))
    assert reading.errors == ()
    return stateful_set(OWNER, reading.server.spec)["spec"]["template"]


PLAIN = template()


def patched(pod_spec: Manifest, **spec: Any) -> Any:
    return template(podTemplate={"spec": pod_spec}, **spec)["spec"]


@pytest.mark.parametrize("nothing", [{}, {"metadata": {}}, {"spec": {}}, {"spec": {"containers": []}}])
def test_a_template_that_says_nothing_changes_nothing(nothing: Any) -> None:
    assert template(podTemplate=nothing) == PLAIN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("imagePullSecrets", [{"name": "registry"}]),
        ("nodeSelector", {"disk": "ssd"}),
        ("tolerations", [{"key": "storage", "operator": "Exists"}]),
        ("affinity", {"podAntiAffinity": {}}),
    ],
)
def test_a_shortcut_is_the_field_of_the_pod(field: str, value: Any) -> None:
    assert template(**{field: value}) == {**PLAIN, "spec": {**PLAIN["spec"], field: value}}
    assert template(**{field: value}) == template(podTemplate={"spec": {field: value}})


def test_the_template_is_merged_into_the_shortcuts() -> None:
    pod = patched({"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "b"}]}, tolerations=[{"key": "a"}])

    assert pod["tolerations"] == [{"key": "a"}, {"key": "b"}]
    assert patched({"nodeSelector": {"disk": None}}, nodeSelector={"disk": "ssd"})["nodeSelector"] == {}


def test_labels_and_annotations_are_added() -> None:
    metadata = {"labels": {"team": "media"}, "annotations": {"example.com/scrape": "true"}}

    changed = template(podTemplate={"metadata": metadata})

    assert changed["metadata"]["labels"] == {**PLAIN["metadata"]["labels"], "team": "media"}
    assert changed["metadata"]["annotations"] == {"example.com/scrape": "true"}
    assert changed["spec"] == PLAIN["spec"]


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
def test_a_service_account_is_in_both_fields_so_that_it_can_be_removed(field: str) -> None:
    pod = patched({field: "uploader"})

    assert (pod["serviceAccountName"], pod["serviceAccount"]) == ("uploader", "uploader")
    assert {name: value for name, value in pod.items() if "Account" not in name} == {
        name: value for name, value in PLAIN["spec"].items() if "Account" not in name
    }


def test_null_does_not_remove_the_service_account_of_s3() -> None:
    pod = patched({"serviceAccountName": None, "serviceAccount": None}, s3={"serviceAccountName": "uploader"})

    assert (pod["serviceAccountName"], pod["serviceAccount"]) == ("uploader", "uploader")


def test_null_removes_a_default() -> None:
    pod = patched({"securityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}})

    assert pod["securityContext"].keys() == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}


def test_defaults_are_removed_by_name_as_well() -> None:
    """A null does not survive kubectl apply."""
    nulls = {"spec": {"securityContext": {"runAsUser": None, "fsGroup": None}}}

    assert template(podTemplate={"removeDefaults": ["fsGroup", "runAsUser"]}) == template(podTemplate=nulls)


def test_what_the_user_sets_is_no_default() -> None:
    changed = template(podTemplate={"removeDefaults": ["fsGroup"]}, podSecurityContext={"fsGroup": 5})

    assert changed == template(podSecurityContext={"fsGroup": 5})


def test_the_servers_container_is_merged_and_stays_the_first() -> None:
    sidecar = {"name": "sidecar", "image": "a"}
    own = {"name": "dittofs", "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": 1}}}

    pod = patched({"containers": [sidecar, own]}, resources={"limits": {"memory": "1Gi"}})

    assert [container["name"] for container in pod["containers"]] == ["dittofs", "sidecar"]
    container = server_container({"spec": pod})
    assert container["env"][-1] == {"name": "A", "value": "1"}
    assert container["args"] == server_container(PLAIN)["args"]
    assert container["resources"]["limits"] == {"memory": "1Gi", "cpu": 1}
