from itertools import product
from typing import Any

import pytest
from hypothesis import given

from app.storage.pod import PodRevision, pod_template, server_container
from app.storage.pod_conflicts import (
    CA_VARIABLE,
    OPERATOR_MOUNT_PATHS,
    OPERATOR_PORTS,
    OPERATOR_VARIABLES,
    OPERATOR_VOLUMES,
    pod_conflicts,
)
from app.storage.reading import read
from app.storage.rendering import Rendering
from app.storage.unstructured import Manifest
from app.storage.volumes import CONTROL_PLANE, METADATA
from tests.harness.json_strategies import ANY_JSON
from tests.harness.pod_table import own_container, pod
from tests.harness.server_table import s3, server, storage

EVERYTHING: Manifest = server(
    smb={"enabled": True},
    metrics={"enabled": True},
    database={"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "dsn"}},
    s3={**s3()["s3"], "region": "a", "bucket": "b", "caSecretRef": {"name": "ca", "key": "ca"}},
    **storage(contentSize="1Gi"),
)


def renderings() -> list[Any]:
    """Renders the pods of servers with and without everything, in every rendering."""
    templates = ("metadata", "content", "cache", CONTROL_PLANE)
    return [
        pod_template("files", read(manifest).server.spec, {}, names, PodRevision(rendering, database=database))
        for manifest, names, rendering, database in product(
            (EVERYTHING, server()), (templates, ("metadata", "cache")), Rendering, (METADATA, CONTROL_PLANE)
        )
    ]


def test_everything_that_is_rendered_is_the_operators() -> None:
    pods = [template["spec"] for template in renderings()]
    containers = [server_container({"spec": pod}) for pod in pods]

    assert {volume["name"] for pod in pods for volume in pod["volumes"]} <= {*OPERATOR_VOLUMES}
    assert {port["name"] for container in containers for port in container["ports"]} == {*OPERATOR_PORTS}
    mounts = [mount for container in containers for mount in container["volumeMounts"]]
    assert {mount["mountPath"] for mount in mounts} == {*OPERATOR_MOUNT_PATHS}
    assert {mount["name"] for mount in mounts} == {*OPERATOR_VOLUMES}
    variables = {variable["name"] for container in containers for variable in container["env"]}
    assert variables <= {*OPERATOR_VARIABLES, CA_VARIABLE}


def test_the_path_is_that_of_the_user() -> None:
    manifest = pod(containers=[{"name": "a"}, {"name": "dittofs", "env": [{"name": "A"}, {"name": "AWS_REGION"}]}])

    [conflict] = pod_conflicts(read(manifest).server.spec)

    assert conflict.path == "spec.podTemplate.spec.containers[1].env[1].name"
    assert conflict.rejects


@pytest.mark.parametrize("path", ["/config", "/config/", "//config", "/data/../config", "config"])
def test_a_mount_is_known_by_any_of_its_paths(path: str) -> None:
    manifest = own_container(volumeMounts=[{"name": "metadata", "mountPath": path}])

    assert len(pod_conflicts(read(manifest).server.spec)) == 1


def test_a_flood_is_cut_off() -> None:
    manifest = pod(volumes=[{"name": None}] * 200, containers=[{"name": "a"}] * 200)

    assert len(pod_conflicts(read(manifest).server.spec)) == 20


@given(ANY_JSON, ANY_JSON, ANY_JSON)
def test_no_value_breaks_it(containers: Any, volumes: Any, field: Any) -> None:
    own = {"name": "dittofs", "env": field, "ports": [field], "volumeMounts": [{"mountPath": field}], "image": field}
    for candidate in (containers, [containers], [own]):
        spec = {"containers": candidate, "volumes": volumes, "hostAliases": [field], "affinity": field, "$patch": field}
        pod_conflicts(read(pod(**spec)).server.spec)
