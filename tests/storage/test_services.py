"""The Services of a server, and what the real API server makes of them."""

import json
from typing import Any

import pytest

from app.storage.difference import differs, marked
from app.storage.objects import Owner
from app.storage.services import service_names, services, without_fields_of_other_types
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.storage.test_objects import MANY, OWNER, spec

APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=dittofs-operator", "-f", "-")
BALANCED: Manifest = {
    "type": "LoadBalancer",
    "labels": {"example.com/team": "storage"},
    "loadBalancerClass": "example.com/internal",
    "loadBalancerSourceRanges": ["10.0.0.0/8"],
    "externalTrafficPolicy": "Local",
    "nodePorts": {"nfs": 31049, "smb": 31445, "api": 31080},
    "api": {"type": "NodePort", "annotations": {"example.com/api": "yes"}},
    "annotations": {"example.com/file": "yes"},
}


def by_name(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests}


def rendered(live: list[Manifest] | None = None, /, **fields: Any) -> dict[str, Manifest]:
    """Returns the Services of a server with these fields in its section, by their suffix."""
    smb, metrics = {"enabled": True}, {"enabled": True}
    manifests = services(OWNER, spec(service=fields, smb=smb, metrics=metrics), by_name(live or []))
    return {name.removeprefix("files-"): manifest for name, manifest in by_name(manifests).items()}


def ports(service: Manifest) -> dict[str, tuple[int, str]]:
    return {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}


def test_the_names_are_those_of_all_services() -> None:
    manifests = services(OWNER, spec(smb={"enabled": True}, metrics={"enabled": True}))

    assert sorted(service_names(OWNER.name)) == sorted(by_name(manifests))


def node_ports(service: Manifest) -> dict[str, int]:
    return {port["name"]: port["nodePort"] for port in service["spec"]["ports"] if "nodePort" in port}


def earlier(kind: str, annotations: dict[str, str] | None = None) -> list[Manifest]:
    """Returns the Services of a server as the version before service.api rendered them, written down by hand."""
    labels = {
        "app": "dittofs-server",
        "instance": "files",
        "app.kubernetes.io/name": "dittofs",
        "app.kubernetes.io/instance": "files",
        "app.kubernetes.io/component": "server",
        "app.kubernetes.io/managed-by": "dittofs-operator",
        "app.kubernetes.io/part-of": "dittofs",
    }
    owner = {
        "apiVersion": "dittofs.dittofs.com/v1alpha1",
        "kind": "DittoServer",
        "name": "files",
        "uid": "uid-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    numbers = {"nfs": 2049, "smb": 445, "api": 8080, "metrics": 9090}

    def service(suffix: str, fields: Manifest, *names: str, annotated: bool = False) -> Manifest:
        metadata = {"name": f"files-{suffix}", "labels": labels, "namespace": "here", "ownerReferences": [owner]}
        if annotated and annotations:
            metadata["annotations"] = annotations
        selector = {"app": "dittofs-server", "instance": "files"}
        listed = [{"name": name, "port": numbers[name], "targetPort": name, "protocol": "TCP"} for name in names]
        spec = {**fields, "selector": selector, "ports": listed}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    return [
        service("headless", {"clusterIP": "None"}, "nfs"),
        service("file", {"type": kind}, "nfs", "smb", annotated=True),
        service("api", {"type": kind}, "api", annotated=True),
        service("metrics", {"type": "ClusterIP"}, "metrics"),
    ]


def test_services_map_the_ports_of_the_spec_to_those_of_the_server() -> None:
    found = by_name(services(OWNER, spec(nfsPort=3049, **{key: MANY[key] for key in ("smb", "metrics", "service")})))

    assert ports(found["files-headless"]) == {"nfs": (3049, "nfs")}
    assert ports(found["files-file"]) == {"nfs": (3049, "nfs"), "smb": (445, "smb")}
    assert ports(found["files-api"]) == {"api": (8080, "api")}
    assert ports(found["files-metrics"]) == {"metrics": (9090, "metrics")}
    assert "annotations" not in found["files-headless"]["metadata"]
    assert {tuple(service["spec"]["selector"].items()) for service in found.values()} == {
        (("app", "dittofs-server"), ("instance", "files"))
    }


def test_metrics_have_a_service_only_while_enabled() -> None:
    assert "files-metrics" not in by_name(services(OWNER, spec()))


@pytest.mark.parametrize("annotations", [None, {"example.com/internal": "true"}], ids=["plain", "annotated"])
@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_an_upgrade_changes_no_service(kind: str, annotations: dict[str, str] | None) -> None:
    before = earlier(kind, annotations)

    after = rendered(before, type=kind, annotations=annotations)

    assert [json.dumps(service) for service in after.values()] == [json.dumps(service) for service in before]


def test_the_api_of_a_new_server_is_not_exposed() -> None:
    new = rendered(type="LoadBalancer", annotations={"example.com/file": "yes"})

    assert new["file"]["spec"]["type"] == "LoadBalancer"
    assert new["file"]["metadata"]["annotations"] == {"example.com/file": "yes"}
    assert new["api"]["spec"]["type"] == "ClusterIP"
    assert "annotations" not in new["api"]["metadata"]


@pytest.mark.parametrize(
    ("fields", "kind", "annotations"),
    [
        ({"type": "LoadBalancer"}, "LoadBalancer", {"a": "b"}),
        ({"type": "ClusterIP"}, "ClusterIP", {"a": "b"}),
        ({"type": "LoadBalancer", "api": {}}, "LoadBalancer", None),
        ({"type": "LoadBalancer", "api": {"type": "ClusterIP"}}, "ClusterIP", None),
        ({"type": "ClusterIP", "api": {"type": "NodePort", "annotations": {"c": "d"}}}, "NodePort", {"c": "d"}),
    ],
)
def test_an_exposed_api_follows_until_told_otherwise(
    fields: Manifest, kind: str, annotations: dict[str, str] | None
) -> None:
    api = rendered(earlier("NodePort"), annotations={"a": "b"}, **fields)["api"]

    assert api["spec"]["type"] == kind
    assert api["metadata"].get("annotations") == annotations


def test_the_service_of_another_server_exposes_nothing() -> None:
    live = earlier("LoadBalancer")
    for service in live:
        service["metadata"]["ownerReferences"][0]["uid"] = "uid-0"

    assert rendered(live, type="LoadBalancer")["api"]["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("kind", [None, "ExternalName", "Headless", 5])
def test_only_a_real_exposure_is_kept(kind: Any) -> None:
    live = earlier("LoadBalancer")
    live[2]["spec"]["type"] = kind

    assert rendered(live, type="LoadBalancer")["api"]["spec"]["type"] == "ClusterIP"


def test_fields_go_to_the_services_that_can_have_them() -> None:
    made = rendered(**BALANCED)

    assert made["file"]["spec"]["loadBalancerClass"] == "example.com/internal"
    assert made["file"]["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert {name: manifest["spec"].get("externalTrafficPolicy") for name, manifest in made.items()} == {
        "headless": None,
        "file": "Local",
        "api": "Local",
        "metrics": None,
    }
    assert [name for name, manifest in made.items() if "loadBalancerClass" in manifest["spec"]] == ["file"]
    assert node_ports(made["file"]) == {"nfs": 31049, "smb": 31445}
    assert node_ports(made["api"]) == {"api": 31080}
    assert node_ports(made["headless"]) == {}
    assert made["api"]["metadata"]["annotations"] == {"example.com/api": "yes"}


def test_labels_and_families_go_to_every_service() -> None:
    families: Manifest = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    made = rendered(labels={"example.com/team": "storage", "app": "mine"}, **families)

    for manifest in made.values():
        assert manifest["metadata"]["labels"]["example.com/team"] == "storage"
        assert manifest["metadata"]["labels"]["app"] == "dittofs-server"
        assert manifest["spec"].items() >= families.items()


def test_fields_of_other_types_are_left_out() -> None:
    service = rendered(**BALANCED)["file"]["spec"]

    kept = without_fields_of_other_types({**service, "type": "ClusterIP"})

    assert kept.keys() == {"type", "selector", "ports"}
    assert not any("nodePort" in port for port in kept["ports"])


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_the_api_server_keeps_services_and_removes_fields(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """Applies everything, then nothing any more, as the type stays or becomes another one."""
    owner, smb = Owner("files", namespace), {"enabled": True}

    def apply(fields: Manifest) -> dict[str, Manifest]:
        made = {}
        live = control_plane.get(f"/api/v1/namespaces/{namespace}/services")["items"]
        for manifest in services(owner, spec(service=fields, smb=smb), by_name(live)):
            control_plane.kubectl(*APPLY, input=json.dumps(marked(manifest)))
            name = manifest["metadata"]["name"]
            made[name] = control_plane.get(f"/api/v1/namespaces/{namespace}/services/{name}")
            assert not differs(marked(manifest), made[name])
        return made

    # No two servers can have the same port of the nodes, not even one in a namespace that is being deleted. Below 30086
    # Kubernetes chooses none itself for the Services of other tests.
    first = 30010 + 10 * ("ClusterIP", "NodePort", "LoadBalancer").index(kind)
    before = apply({**BALANCED, "nodePorts": {"nfs": first, "smb": first + 1, "api": first + 2}})
    assert node_ports(before["files-file"]) == {"nfs": first, "smb": first + 1}
    # The class can only go together with the type.
    kept = {"loadBalancerClass": "example.com/internal"} if kind == "LoadBalancer" else {}
    after = apply({"type": kind, "api": {"type": kind}, **kept})

    for name in ("files-file", "files-api"):
        assert "loadBalancerSourceRanges" not in after[name]["spec"]
        assert after[name]["spec"].get("externalTrafficPolicy") in (None, "Cluster")
        assert "example.com/team" not in after[name]["metadata"]["labels"]
        assert after[name]["metadata"]["annotations"].keys() == {"dittofs.io/applied"}
        assert bool(node_ports(after[name])) == (kind != "ClusterIP")
