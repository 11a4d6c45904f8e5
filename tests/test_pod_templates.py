"""A podTemplate in a real cluster: the operator applies it once, gives way to others, and recovers from a bad one."""

import json
from typing import Any

import pytest

from app.cluster.reader import STATEFUL_SETS
from app.storage.pod import CONFIG_HASH, server_container
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.pod_table import pod
from tests.harness.server_table import server
from tests.harness.wait import until
from tests.test_normalization import POD


def stateful_set_writes(operated: OperatorNamespace) -> int:
    return sum(request.resource == STATEFUL_SETS.plural for request in operated.writes())


def edit(operated: OperatorNamespace, manifest: Manifest) -> None:
    operated.kubectl("replace", "-f", "-", input=json.dumps(manifest))
    operated.wait_until_observed("files")


def pod_spec(operated: OperatorNamespace) -> Any:
    return operated.template("files")["spec"]


def test_a_pod_is_written_once_however_it_is_spelt(operated: OperatorNamespace) -> None:
    sizes = {"requests": {"memory": "1024Mi", "cpu": "0.5"}, "limits": {"memory": 2147483648}}
    volumes = [{"name": "volume", "emptyDir": {"sizeLimit": "1024Mi", "medium": ""}}]
    operated.apply(server(podTemplate={"spec": {**POD, "volumes": volumes, "hostNetwork": False}}, resources=sizes))
    operated.wait_until_observed("files")
    until(lambda: operated.get("statefulset", "files"))
    written, generation = stateful_set_writes(operated), operated.get("statefulset", "files")["metadata"]["generation"]

    for number in range(3):
        operated.patch("dittoserver", "files", spec={"nfsPort": 2050 + number})
        operated.wait_until_observed("files")

    assert stateful_set_writes(operated) == written
    # Its own controller still writes the status.
    assert operated.get("statefulset", "files")["metadata"]["generation"] == generation


def test_what_others_set_in_the_pod_stays(operated: OperatorNamespace) -> None:
    operated.apply(pod(containers=[{"name": "sidecar", "image": "a"}]))
    until(lambda: operated.get("statefulset", "files"))
    foreign = {"spec": {"containers": [{"name": "dittofs", "env": [{"name": "THEIRS", "value": "1"}]}]}}
    patch = {"spec": {"template": {"metadata": {"annotations": {"example.com/theirs": "1"}}, **foreign}}}
    operated.kubectl("patch", "statefulset", "files", "--field-manager=someone", "-p", json.dumps(patch))

    edit(operated, pod(containers=[{"name": "other", "image": "b"}], nodeSelector={"disk": "ssd"}))

    until(lambda: pod_spec(operated).get("nodeSelector") == {"disk": "ssd"})
    template = operated.template("files")
    assert [container["name"] for container in template["spec"]["containers"]] == ["dittofs", "other"]
    assert {"name": "THEIRS", "value": "1"} in server_container(template)["env"]
    assert template["metadata"]["annotations"]["example.com/theirs"] == "1"

    edit(operated, server())
    until(lambda: "nodeSelector" not in pod_spec(operated))
    assert {"name": "THEIRS", "value": "1"} in server_container(operated.template("files"))["env"]


def test_a_rejected_template_holds_up_nothing_else(operated: OperatorNamespace) -> None:
    operated.apply(pod(containers=[{"name": "sidecar", "image": "a"}], terminationGracePeriodSeconds=60))
    until(lambda: operated.get("statefulset", "files"))
    before = operated.template("files")

    # Nobody has judged this one: there is no webhook here.
    bad = pod(containers=[{"name": "sidecar"}], terminationGracePeriodSeconds=30)
    edit(operated, {**bad, "spec": {**bad["spec"], "image": "example.com/dittofs:next", "nfsPort": 2050}})

    until(lambda: server_container(operated.template("files"))["image"] == "example.com/dittofs:next")
    kept = operated.template("files")
    assert kept["spec"]["terminationGracePeriodSeconds"] == 60
    assert kept["spec"]["containers"][1] == before["spec"]["containers"][1]
    until(lambda: operated.condition("files", "Stalled")["reason"] == "SectionRejected")
    assert "podTemplate.spec.containers[0].image: Required value" in operated.condition("files", "Stalled")["message"]

    edit(operated, pod(containers=[{"name": "sidecar", "image": "b"}]))
    until(lambda: pod_spec(operated)["containers"][1]["image"] == "b")
    assert pod_spec(operated)["terminationGracePeriodSeconds"] == 105
    assert operated.template("files")["metadata"]["annotations"][CONFIG_HASH]


@pytest.mark.parametrize(
    ("command", "arrives"),
    [
        (("apply",), False),
        (("apply", "--server-side"), True),
        (("create",), True),
    ],
)
def test_a_null_does_not_survive_every_client(
    control_plane: ControlPlane, crd: None, namespace: str, command: tuple[str, ...], arrives: bool
) -> None:
    """The how-to says so, and recommends removeDefaults for that reason."""
    ids = Namespace(control_plane, namespace)
    manifest = server(podTemplate={"removeDefaults": ["fsGroup"], "spec": {"securityContext": {"runAsUser": None}}})

    ids.kubectl(*command, "-f", "-", input=json.dumps(manifest))

    template = ids.get("dittoserver", "files")["spec"]["podTemplate"]
    assert ("runAsUser" in template["spec"]["securityContext"]) is arrives
    assert template["removeDefaults"] == ["fsGroup"]


def test_null_removes_the_ids_of_a_pod_that_runs(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: operated.get("statefulset", "files"))

    edit(operated, pod(securityContext={"runAsUser": None, "runAsGroup": None, "fsGroup": None}))

    until(lambda: "runAsUser" not in pod_spec(operated)["securityContext"])
    assert pod_spec(operated)["securityContext"]["runAsNonRoot"] is True

    edit(operated, server(podTemplate={"removeDefaults": ["fsGroup"]}))
    until(lambda: "runAsUser" in pod_spec(operated)["securityContext"])
    assert "fsGroup" not in pod_spec(operated)["securityContext"]
