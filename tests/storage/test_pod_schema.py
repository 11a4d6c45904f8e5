import json

import pytest
import yaml

from app.storage.core_types import fields_of
from app.storage.crd import custom_resource_definition
from app.storage.pod_conflicts import MAX_ENTRIES
from app.storage.pod_schema import core_schema
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import server
from tests.storage.test_schema import nodes

EVERYTHING = [*nodes(core_schema("PodSpec"))]
# kubectl keeps what it applied in an annotation, and all annotations together must fit.
MAX_ANNOTATIONS_BYTES = 262_144


def test_the_crd_fits_the_annotation_of_kubectl() -> None:
    assert len(json.dumps(custom_resource_definition())) < MAX_ANNOTATIONS_BYTES * 0.8


def test_every_field_of_a_pod_is_in_it() -> None:
    assert core_schema("PodSpec")["properties"].keys() == fields_of("PodSpec").keys()


def test_every_list_and_map_is_bounded() -> None:
    assert all(node["maxItems"] == MAX_ENTRIES for node in EVERYTHING if node.get("type") == "array")
    assert all(node["maxProperties"] == MAX_ENTRIES for node in EVERYTHING if "additionalProperties" in node)


def test_no_container_is_without_a_name() -> None:
    containers = core_schema("PodSpec")["properties"]["containers"]

    assert containers["items"]["required"] == ["name"]
    assert containers["x-kubernetes-list-map-keys"] == ["name"]


@pytest.fixture
def apply(control_plane: ControlPlane, crd: None, namespace: str) -> object:
    def send(pod_spec: object) -> object:
        manifest = yaml.safe_dump(server(podTemplate={"spec": pod_spec}))
        options = ("--namespace", namespace, "create", "--validate=false", "-o", "json", "-f", "-")
        done = control_plane.kubectl(*options, input=manifest, check=False)
        return done.stderr or json.loads(done.stdout)["spec"]["podTemplate"]["spec"]

    return send


class TestTheApiServer:
    @pytest.mark.parametrize(
        "pod_spec",
        [
            {"securityContext": {"runAsUser": None, "fsGroup": None}},
            {"containers": [{"name": "dittofs", "securityContext": None}], "terminationGracePeriodSeconds": None},
            {"fieldOfTomorrow": {"a": [1]}, "containers": [{"name": "a", "alsoNew": 1}]},
            {"overhead": {"cpu": 0.5, "memory": 1}, "volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]},
            {"containers": [{"name": "a", "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}]},
            {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": "api"}}}]},
        ],
    )
    def test_keeps(self, apply: object, pod_spec: object) -> None:
        assert apply(pod_spec) == pod_spec  # type: ignore[operator]

    @pytest.mark.parametrize(
        ("pod_spec", "reason"),
        [
            ({"containers": [{"image": "a"}]}, "spec.podTemplate.spec.containers[0].name: Required value"),
            ({"containers": [{"name": "a"}, {"name": "a"}]}, "Duplicate value"),
            ({"terminationGracePeriodSeconds": "1"}, "must be of type integer"),
            ({"containers": [None]}, "must be of type object"),
            ({"hostAliases": [{"ip": str(number)} for number in range(257)]}, "must have at most 256 items"),
        ],
    )
    def test_rejects(self, apply: object, pod_spec: object, reason: str) -> None:
        assert reason in apply(pod_spec)  # type: ignore[operator]

    def test_drops_a_null_in_place_of_a_list_that_is_merged(self, apply: object) -> None:
        assert apply({"containers": None, "volumes": None}) == {}  # type: ignore[operator]
