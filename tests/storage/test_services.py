"""The Services of a server."""

from typing import Any

from app.storage.services import services
from tests.storage.test_objects import MANY, OWNER, spec


def by_name(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests}


def ports(service: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}


def test_services_map_the_ports_of_the_spec_to_those_of_the_server() -> None:
    found = by_name(services(OWNER, spec(nfsPort=3049, **{key: MANY[key] for key in ("smb", "metrics", "service")})))

    assert ports(found["files-headless"]) == {"nfs": (3049, "nfs")}
    assert ports(found["files-file"]) == {"nfs": (3049, "nfs"), "smb": (445, "smb")}
    assert ports(found["files-api"]) == {"api": (8080, "api")}
    assert ports(found["files-metrics"]) == {"metrics": (9090, "metrics")}
    assert {name: service["spec"].get("type") for name, service in found.items()} == {
        "files-headless": None,
        "files-file": "LoadBalancer",
        "files-api": "LoadBalancer",
        "files-metrics": "ClusterIP",
    }
    assert found["files-api"]["metadata"]["annotations"] == {"example.com/internal": "true"}
    assert "annotations" not in found["files-headless"]["metadata"]
    assert {tuple(service["spec"]["selector"].items()) for service in found.values()} == {
        (("app", "dittofs-server"), ("instance", "files"))
    }


def test_metrics_have_a_service_only_while_enabled() -> None:
    assert "files-metrics" not in by_name(services(OWNER, spec()))
