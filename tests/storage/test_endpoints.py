from copy import deepcopy
from typing import Any

import pytest

from app.storage.endpoints import endpoints, endpoints_ready, exposes_api, exposure_events, nfs_endpoint
from app.storage.live import LiveState
from app.storage.objects import Owner
from app.storage.reading import read
from app.storage.services import services
from app.storage.spec import DittoServer
from app.storage.status_schema import Status
from app.storage.unstructured import Manifest
from tests.harness.observations import HOUR_AGO, dittoserver
from tests.harness.server_table import server

ALL: Manifest = {"smb": {"enabled": True}, "metrics": {"enabled": True}}
INGRESS = [{"ip": "192.0.2.1"}]


def server_of(**spec: Any) -> DittoServer:
    return read(dittoserver(**spec)).server


def live_services(**spec: Any) -> dict[str, Manifest]:
    """Returns the Services of the server files as the API server has them, without a load balancer."""
    made = services(Owner("files", "here"), read(server(**spec)).server.spec)
    addresses = {"headless": "None", "file": "10.0.0.1", "api": "10.0.0.2", "metrics": "fd00::3"}
    for manifest in made:
        suffix = manifest["metadata"]["name"].removeprefix("files-")
        manifest["spec"]["clusterIP"] = addresses[suffix]
    return {manifest["metadata"]["name"]: manifest for manifest in made}


def listed(live: dict[str, Manifest]) -> list[Manifest]:
    return [endpoint.as_status() for endpoint in endpoints(server_of(**ALL), LiveState(services=live))]


def ready(live: dict[str, Manifest], **spec: Any) -> tuple[str, str, str]:
    holds, problem = endpoints_ready(server_of(**spec), LiveState(services=live), HOUR_AGO)
    return holds, problem.reason, problem.message


def balanced(ingress: Any = INGRESS, **fields: Any) -> dict[str, Manifest]:
    live = live_services(service={"type": "LoadBalancer", "api": {"type": "NodePort"}, **fields}, **ALL)
    live["files-file"]["status"] = {"loadBalancer": {"ingress": ingress}}
    live["files-file"]["spec"]["ports"][0]["nodePort"] = 30049
    live["files-api"]["spec"]["ports"][0]["nodePort"] = 30080
    return live


def test_each_protocol_has_its_endpoint() -> None:
    file, api = "files-file.here.svc.cluster.local", "files-api.here.svc.cluster.local"
    metrics = "files-metrics.here.svc.cluster.local"
    address = {"clusterIP": "10.0.0.1", "externalAddress": "192.0.2.1"}

    assert listed(balanced()) == [
        {"protocol": "nfs", "host": file, **address, "port": 2049, "nodePort": 30049},
        {"protocol": "smb", "host": file, **address, "port": 445},
        {"protocol": "api", "host": api, "clusterIP": "10.0.0.2", "port": 8080, "nodePort": 30080},
        {"protocol": "metrics", "host": metrics, "clusterIP": "fd00::3", "port": 9090},
    ]


def test_names_end_in_the_domain_of_the_cluster() -> None:
    live = LiveState(services=live_services())

    [nfs, api] = endpoints(server_of(), live, "example.org")

    assert nfs.host == "files-file.here.svc.example.org"
    assert api.host == "files-api.here.svc.example.org"
    assert nfs_endpoint(server_of(), live, "example.org") == "files-file.here.svc.example.org:2049"


@pytest.mark.parametrize(
    ("ingress", "address"),
    [
        ([{"hostname": "files.elb.example.com"}], "files.elb.example.com"),
        ([{"ip": "2001:DB8::0:1"}], "2001:db8::1"),
        ([{"ip": "", "hostname": ""}, {"ip": "192.0.2.7"}], "192.0.2.7"),
        ([{"ip": "192.0.2.1; rm -rf /"}, {"hostname": "a b"}, {"hostname": "x" * 254}, {"ip": 7}], None),
        ([{}] * 16 + INGRESS, None),
        ([None, "192.0.2.1", []], None),
        ("192.0.2.1", None),
        ([], None),
        (None, None),
    ],
)
def test_only_an_address_counts_as_one(ingress: Any, address: str | None) -> None:
    [nfs, *_] = listed(balanced(ingress))

    assert nfs.get("externalAddress") == address
    assert ready(balanced(ingress), **ALL)[:2] == (
        ("True", "Assigned") if address else ("False", "LoadBalancerPending")
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "ExternalName", "externalName": "evil.example.com"},
        {"selector": {"app": "other"}},
        {"selector": None},
        {"ports": None},
        {"ports": "2049"},
        {"ports": [{"name": "nfs", "port": 0}, {"name": "nfs", "port": True}, {"port": 5}, {"name": 5, "port": 5}]},
        {"ports": [{"name": f"a{number}", "port": 1} for number in range(64)] + [{"name": "nfs", "port": 2049}]},
    ],
)
def test_a_service_that_leads_elsewhere_is_no_endpoint(spec: Manifest) -> None:
    live = live_services()
    live["files-file"]["spec"] |= spec

    assert [endpoint["protocol"] for endpoint in listed(live)] == ["api"]
    assert nfs_endpoint(server_of(), LiveState(services=live), "cluster.local") is None


def test_the_schema_takes_every_endpoint() -> None:
    longest = {"host": f"{'s' * 52}-file.{'n' * 63}.svc.{'d' * 120}", "externalAddress": "x" * 253}
    entry = {"protocol": "nfs", "clusterIP": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "port": 65535, **longest}

    Status.model_validate({"endpoints": listed(balanced())})
    Status.model_validate({"endpoints": [entry]})


def test_a_load_balancer_without_address_says_what_to_check() -> None:
    holds, reason, message = ready(balanced(None, loadBalancerClass="example.com/internal"), **ALL)

    assert (holds, reason) == ("False", "LoadBalancerPending")
    assert message == (
        "no load balancer has given Service files-file of class example.com/internal an address since "
        f"{HOUR_AGO}: see the Events of kubectl describe service files-file, and whether the cluster has load balancers"
    )


def test_a_service_that_is_not_there_is_named() -> None:
    live = live_services()
    assert ready(live) == ("True", "Assigned", "every Service has its address")

    without = {name: service for name, service in live.items() if name != "files-api"}
    leaving, elsewhere = deepcopy(live), deepcopy(live)
    leaving["files-file"]["metadata"]["deletionTimestamp"] = HOUR_AGO
    elsewhere["files-file"]["spec"]["selector"] = {}

    assert ready(without)[1:] == ("ServiceMissing", "Service files-api does not exist; Ready says why if it stays so")
    assert ready(leaving)[1] == "ServiceTerminating"
    assert ready(elsewhere)[1] == "ServiceOutdated"
    assert ready(live, metrics={"enabled": True})[2].startswith("Service files-metrics does not exist")


@pytest.mark.parametrize(
    "status",
    [None, "x", [], {}, {"endpoints": None}, {"endpoints": "api"}, {"endpoints": [None, "api", {"protocol": "nfs"}]}],
)
def test_a_status_of_any_shape_exposes_nothing(status: Any) -> None:
    assert not exposes_api(status)


def test_an_exposed_api_is_reported_once() -> None:
    exposed = {"endpoints": listed(balanced())}
    implicit = server_of(service={"type": "NodePort"})

    [event] = exposure_events(implicit, {}, exposed)

    assert event.reason == "APIExposed"
    assert event.message.endswith("set service.api.type to NodePort to keep that, or to ClusterIP")
    assert list(exposure_events(implicit, exposed, exposed)) == []
    assert list(exposure_events(implicit, {}, {"endpoints": listed(live_services())})) == []
    assert list(exposure_events(server_of(service={"api": {"type": "NodePort"}}), {}, exposed)) == []
