"""An upgrade from any released version writes no object of a server, and so restarts no pod.

`tests/released` has what each version left: its stored servers, and the objects that it applied. `pytest -s` shows the
counted writes and restarts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.storage.objects import Owner, admin_secret, jwt_secret
from app.storage.rendering import NEWEST
from app.storage.unstructured import Manifest
from app.storage.workload import rendering_of
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.released_servers import WRITES, ReleasedServer, applied_objects, leave_behind, released_servers
from tests.harness.wait import until

RELEASED = released_servers()
SERVERS = pytest.mark.parametrize("released", RELEASED.values(), ids=RELEASED.keys())
# Those that no earlier version, and not the Go operator, has begun. The API of a new one is no longer exposed.
NEW = {
    title: released
    for title, released in RELEASED.items()
    if rendering_of(released.stateful_set["spec"]["template"]) is NEWEST and released.name != "adopted"
    if released.server["spec"].get("service", {}).get("type", "ClusterIP") == "ClusterIP"
}


@SERVERS
def test_what_was_applied_is_what_is_desired(released: ReleasedServer) -> None:
    assert applied_objects(released.server, released.secrets, released.objects) == released.objects


@pytest.mark.parametrize("released", NEW.values(), ids=NEW.keys())
def test_a_new_server_gets_what_it_got_before(released: ReleasedServer) -> None:
    """Only the API of a new server stays inside the cluster, where earlier versions exposed it along with files."""
    name = f"{released.name}-api"

    new = applied_objects(released.server, released.secrets, [])

    assert _without_service(new, name) == _without_service(released.objects, name)
    [api] = [entry for entry in new if entry["metadata"]["name"] == name]
    assert api["spec"]["type"] == "ClusterIP"


def _without_service(objects: Sequence[Manifest], name: str) -> list[Manifest]:
    return [entry for entry in objects if entry["metadata"]["name"] != name]


@SERVERS
def test_the_generated_secrets_are_what_they_were(released: ReleasedServer) -> None:
    name, namespace = released.name, released.server["metadata"]["namespace"]
    owner = Owner(name, namespace, released.server["metadata"]["uid"])
    generated = [jwt_secret(owner, b"0" * 64), admin_secret(owner, "password of 24 characters")]

    assert [secret for secret in released.secrets if secret["metadata"]["name"].startswith(f"{name}-")] == generated


@SERVERS
def test_the_crd_keeps_what_was_stored(
    control_plane: ControlPlane, crd: None, namespace: str, released: ReleasedServer
) -> None:
    server = released.moved_to(namespace, "").server
    site = Namespace(control_plane, namespace)

    site.kubectl("create", "-f", "-", input=json.dumps(server))

    assert site.get("dittoserver", released.name)["spec"] == server["spec"]


@pytest.mark.parametrize("version", sorted({title.partition("/")[0] for title in RELEASED}))
@pytest.mark.parametrize("how", WRITES)
def test_an_upgrade_writes_no_object(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, version: str, how: str
) -> None:
    operated = OperatorNamespace(control_plane, namespace, tmp_path)
    names = [released.name for title, released in RELEASED.items() if title.startswith(f"{version}/")]
    for name in names:
        leave_behind(operated, RELEASED[f"{version}/{name}"], how)
    running = [name for name in names if RELEASED[f"{version}/{name}"].stateful_set["spec"]["replicas"]]
    until(lambda: pods(operated).keys() == {f"{name}-0" for name in running})
    stateful_sets = specs(operated)
    first_pods = pods(operated)

    with operated:
        operated.wait_until_observed(*names)
        writes = [request for request in operated.writes() if request.resource not in ("dittoservers/status", "events")]
        restarts = [name for name, uid in pods(operated).items() if first_pods.get(name) != uid]

    print(f"{len(names)} servers of {version}, {how}: {len(writes)} objects written, {len(restarts)} pods restarted")
    assert (writes, restarts) == ([], [])
    assert specs(operated) == stateful_sets


def specs(site: Namespace) -> dict[str, Any]:
    return {stateful_set["metadata"]["name"]: stateful_set["spec"] for stateful_set in site.list_all("statefulset")}


def pods(site: Namespace) -> dict[str, str]:
    """Returns the uid of each pod by its name."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in site.list_all("pod")}
