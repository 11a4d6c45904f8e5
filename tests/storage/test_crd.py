import json
from collections.abc import Callable

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.server_table import server, storage

CRD = "dittoservers.dittofs.dittofs.com"

Send = Callable[..., str]


@pytest.fixture
def apply(control_plane: ControlPlane, namespace: str) -> Send:
    """Returns a function that applies a manifest, with the CRD and no webhook, and returns what kubectl prints."""
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
    control_plane.wait_until_established(CRD)

    def send(manifest: Manifest) -> str:
        options = ("--namespace", namespace, "apply", "-f", "-")
        done = control_plane.kubectl(*options, input=yaml.safe_dump(manifest), check=False)
        return done.stdout + done.stderr

    return send


def test_the_api_server_finds_nothing_wrong_with_it(control_plane: ControlPlane, apply: Send) -> None:
    crd = json.loads(control_plane.kubectl("get", "crd", CRD, "--output=json").stdout)
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}

    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


WIDE_CHARACTERS = 160


def test_a_line_says_what_a_person_looks_for(control_plane: ControlPlane, apply: Send, namespace: str) -> None:
    """With a long name, and the longest of the reasons that servers have for longer."""
    name = "media-files"
    apply({**server(), "metadata": {"name": name}})
    condition = {"status": "False", "lastTransitionTime": "2026-02-01T12:00:00Z", "message": ""}
    reasons = {"Ready": "PodSecurityViolation", "StoresReady": "StoreFailing"}
    status = {
        "conditions": [{**condition, "type": kind, "reason": reason} for kind, reason in reasons.items()],
        "nfsEndpoint": f"{name}-file.production.svc.cluster.local:2049",
        "server": {"version": "0.29.0"},
        "volumes": [{"name": volume, "capacity": "1536Gi"} for volume in ("metadata", "content", "cache")],
    }
    in_here = ("--namespace", namespace)
    patch = ("patch", "ditto", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    control_plane.kubectl(*in_here, *patch)

    narrow = control_plane.kubectl(*in_here, "get", "ditto").stdout.splitlines()
    wide = control_plane.kubectl(*in_here, "get", "ditto", "--output=wide").stdout.splitlines()

    assert narrow[0].split() == ["NAME", "READY", "STATUS", "VERSION", "NFS", "AGE"]
    assert narrow[1].split()[:5] == [name, "False", "PodSecurityViolation", "0.29.0", status["nfsEndpoint"]]
    assert wide[0].split() == [*narrow[0].split()[:5], "METADATA", "CONTENT", "CACHE", "STORES", "AGE"]
    assert wide[1].split()[5:9] == ["1536Gi", "1536Gi", "1536Gi", "StoreFailing"]
    # A server that is older than this one has a longer age.
    assert max(map(len, wide)) + len("365d") - len("0s") <= WIDE_CHARACTERS, wide


def test_a_fresh_server_has_not_been_observed(control_plane: ControlPlane, apply: Send, namespace: str) -> None:
    apply(server())

    live = json.loads(control_plane.kubectl("--namespace", namespace, "get", "ditto", "files", "-o", "json").stdout)

    assert live["status"] == {"observedGeneration": -1}
    assert live["metadata"]["generation"] == 1


def test_every_field_is_explained(control_plane: ControlPlane, apply: Send) -> None:
    explained = control_plane.kubectl("explain", "dittoserver.spec.storage").stdout

    assert "Size of the volume for the cache" in explained


def test_a_change_that_would_lose_data_is_refused(apply: Send) -> None:
    assert "created" in apply(server(**storage(contentSize="1Gi")))

    refused = apply(server(**storage(storageClassName="slow", contentSize=None)))

    assert "storageClassName of the volume cache cannot change; make a new DittoServer with the other class" in refused
    assert "contentSize cannot be removed: its volume holds data; make a new DittoServer without it" in refused


def test_core_types_are_kept_as_they_are(control_plane: ControlPlane, apply: Send, namespace: str) -> None:
    context = {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}

    apply(server(podSecurityContext=context, resources={"limits": {"memory": "1Gi"}}))

    live = json.loads(control_plane.kubectl("--namespace", namespace, "get", "ditto", "files", "-o", "json").stdout)
    assert live["spec"]["podSecurityContext"] == context


def test_a_server_is_scaled_to_0_and_1_and_no_further(control_plane: ControlPlane, apply: Send, namespace: str) -> None:
    apply(server())

    def scale(replicas: int) -> str:
        arguments = ("--namespace", namespace, "scale", "dittoserver", "files", f"--replicas={replicas}")
        done = control_plane.kubectl(*arguments, check=False)
        return done.stdout + done.stderr

    assert "scaled" in scale(0)
    assert "scaled" in scale(1)
    assert "spec.replicas" in scale(2)

    live = json.loads(control_plane.kubectl("--namespace", namespace, "get", "ditto", "files", "-o", "json").stdout)
    assert live["spec"]["replicas"] == 1


@pytest.mark.parametrize("category", ["all", "dittofs"])
def test_a_category_lists_servers(control_plane: ControlPlane, apply: Send, namespace: str, category: str) -> None:
    apply(server())

    listed = control_plane.kubectl("--namespace", namespace, "get", category, "--output=name").stdout
    alone = control_plane.kubectl("--namespace", namespace, "get", "dittofs", "files", "--output=name").stdout

    assert "dittoserver.dittofs.dittofs.com/files" in listed.split()
    assert alone.strip() == "dittoserver.dittofs.dittofs.com/files"
