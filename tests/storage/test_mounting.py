from typing import Any

import pytest

from app.storage.mounting import CannotMount, Mount, Via, address_of_node, plan_mount
from app.storage.server_health import Family
from tests.harness.server_table import server

READY = {"type": "Ready", "status": "True", "reason": "Available", "lastTransitionTime": "2026-02-01T12:00:00Z"}
SHARES = [{"name": "media"}]


def manifest(shares: Any = SHARES, status: Any = None, **fields: Any) -> dict[str, Any]:
    reported = [{"name": share["name"], "path": f"/{share['name']}", "phase": "Ready"} for share in shares]
    known = {"conditions": [READY], "shares": reported, "server": {"family": "Current", "shares": len(shares)}}
    return {
        **server(**{"shares": shares, **fields}),
        "metadata": {"name": "files", "namespace": "media"},
        "status": {**known, **(status or {})},
    }


def service(kind: str = "ClusterIP", ip: str = "10.0.0.7", ingress: Any = None, **ports: int) -> dict[str, Any]:
    listed = [
        {"name": name, "port": port, **({"nodePort": 30000 + port} if kind != "ClusterIP" else {})}
        for name, port in {"nfs": 2049, **ports}.items()
    ]
    selector = {"app": "dittofs-server", "instance": "files"}
    return {
        "metadata": {"name": "files-file", "namespace": "media"},
        "spec": {"type": kind, "clusterIP": ip, "selector": selector, "ports": listed},
        "status": {"loadBalancer": {"ingress": [ingress] if ingress else []}},
    }


def plan(**parts: Any) -> Mount:
    return plan_mount(**{"manifest": manifest(), "service": service(), "node_address": None, "share": None, **parts})


def complaint(**parts: Any) -> str:
    with pytest.raises(CannotMount) as error:
        plan(**parts)
    return str(error.value)


def test_pods_and_nodes_mount_by_the_cluster_ip() -> None:
    inside = plan().nfs.inside

    assert (inside.via, inside.address, inside.port) == (Via.CLUSTER_IP, "10.0.0.7", 2049)
    assert plan().nfs_options(inside) == ("vers=3", "tcp", "port=2049", "mountport=2049", "nolock")


@pytest.mark.parametrize(
    ("live", "way"),
    [
        (service("LoadBalancer", ingress={"ip": "203.0.113.7"}), ("LoadBalancer", "203.0.113.7", 2049)),
        (service("LoadBalancer", ingress={"hostname": "nfs.example.com"}), ("LoadBalancer", "nfs.example.com", 2049)),
        (service("LoadBalancer"), ("NodePort", "192.0.2.1", 32049)),
        (service("NodePort"), ("NodePort", "192.0.2.1", 32049)),
        (service(), ("PortForward", "127.0.0.1", 12049)),
    ],
)
def test_machines_outside_take_the_way_that_there_is(live: Any, way: tuple[str, str, int]) -> None:
    mount = plan(service=live, node_address="192.0.2.1")
    outside = mount.nfs.outside

    assert (outside.via, outside.address, outside.port) == way
    assert {f"port={way[2]}", f"mountport={way[2]}"} < set(mount.nfs_options(outside))


def test_the_address_of_a_node_may_be_unknown() -> None:
    assert plan(service=service("NodePort")).nfs.outside.address is None
    assert plan(service=service("NodePort"), node_address="$(reboot)").nfs.outside.address is None


@pytest.mark.parametrize("family", ["Legacy", None])
def test_writes_stay_small_unless_the_server_takes_more(family: str | None) -> None:
    mount = plan(manifest=manifest(status={"server": {"family": family}} if family else {"server": {}}))

    assert mount.nfs_options(mount.nfs.inside)[-1] == "wsize=524288"
    assert mount.family is (Family(family) if family else None)


def test_clients_use_ipv6_only_when_told_so() -> None:
    mount = plan(service=service(ip="FD00::0007"))

    assert mount.nfs.inside.address == "fd00::7"
    assert mount.nfs_options(mount.nfs.inside)[1] == "proto=tcp6"


def test_a_read_only_share_is_mounted_so() -> None:
    mount = plan(manifest=manifest([{"name": "media", "readOnly": True}]))

    assert (mount.read_only, mount.is_writable) == (True, False)
    assert mount.nfs_options(mount.nfs.inside)[-1] == "ro"


def test_smb_has_its_port_and_dialect() -> None:
    enabled, live = {"smb": {"enabled": True}}, service("LoadBalancer", ingress={"ip": "203.0.113.7"}, smb=445)
    current = plan(manifest=manifest(**enabled), service=live)
    old = plan(manifest=manifest(status={"server": {"family": "Legacy"}}, **enabled), service=live)

    assert current.smb
    assert current.smb.outside.address == "203.0.113.7"
    assert current.smb_options(current.smb.outside) == ("port=445",)
    assert old.smb_options(current.smb.outside) == ("port=445", "vers=2.0")


def test_why_there_is_no_smb_is_known() -> None:
    with_port = service(smb=445)
    unlisted = manifest([], status={"server": {"shares": 1}}, smb={"enabled": True})

    assert plan(service=with_port).smb is None
    assert "set spec.smb.enabled to true" in str(plan(service=with_port).why_no_smb)
    assert "has no port for SMB" in str(plan(manifest=manifest(smb={"enabled": True})).why_no_smb)
    assert "slash" in str(plan(manifest=unlisted, service=with_port, share="deep/er").why_no_smb)


def test_the_share_is_named_unless_there_is_only_one() -> None:
    several = manifest([{"name": "media"}, {"name": "backup"}])

    assert plan().share == "media"
    assert plan(manifest=several, share="/backup").path == "/backup"
    assert complaint(manifest=several).endswith("has several shares, name one of them: backup, media")
    assert complaint(manifest=several, share="no\x1b").endswith(r'has no share "no\u001b"; there are: backup, media')
    assert "lists no share: add one to spec.shares" in complaint(manifest=manifest([]))


def test_a_share_that_is_only_in_the_server_can_be_named() -> None:
    mount = plan(manifest=manifest([]), share="Deep/er one")
    more = plan(manifest=manifest(status={"server": {"shares": 2}}), share="other")

    assert mount.path == "/Deep/er one"
    assert mount.notes == ("share Deep/er one is not in spec.shares: only the server knows whether it exists",)
    assert more.path == "/other"


@pytest.mark.parametrize("name", ["", "a\nb", "$(reboot)", "a;b", "a'b", "../x", "a" * 101, "-o"])
def test_no_other_text_gets_into_a_command(name: str) -> None:
    assert "safe in a command" in complaint(manifest=manifest([]), share=name)


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        (manifest(status={"conditions": [{**READY, "status": "False", "reason": "CrashLoopBackOff"}]}), "not ready (C"),
        (manifest(status={"conditions": []}), "DittoServer media/files is not ready, and clients wait"),
        (manifest(replicas=0), "is stopped, and clients wait until it is started: set spec.replicas to 1"),
        (manifest(status={"shares": []}), "share media cannot be mounted yet: the operator has not created it yet"),
        (
            manifest(status={"shares": [{"name": "media", "path": "/media", "phase": "Failed", "message": "no S3"}]}),
            "share media may not work: no S3",
        ),
        (manifest([{"name": "media", "defaultPermission": "none"}]), "its defaultPermission is none"),
    ],
)
def test_what_speaks_against_mounting_is_noted(changed: Any, note: str) -> None:
    [only] = plan(manifest=changed).notes
    assert note in only


@pytest.mark.parametrize(
    ("live", "what"),
    [
        (None, "Service files-file does not exist"),
        ({**service(), "spec": {**service()["spec"], "selector": {}}}, "does not lead to NFS of the server"),
        ({**service(), "spec": {**service()["spec"], "ports": []}}, "does not lead to NFS of the server"),
        ({**service(), "metadata": {"name": "f", "deletionTimestamp": "now"}}, "is being deleted"),
        (service(ip="None"), "has no cluster IP"),
        (service(ip="fe80::1%$(reboot)"), "has no cluster IP"),
    ],
)
def test_a_server_without_an_address_says_why(live: Any, what: str) -> None:
    assert complaint(service=live).startswith("DittoServer media/files has no address: ")
    assert what in complaint(service=live)


def test_the_password_is_named_and_not_read() -> None:
    reference = {"admin": {"passwordSecretRef": {"name": "root", "key": "pw"}}}

    assert plan().password_secret == ("files-admin-bootstrap-credentials", "password")
    assert plan(manifest=manifest(identity=reference)).password_secret == ("root", "pw")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ({"InternalIP": "10.0.0.1", "ExternalIP": "203.0.113.1"}, "203.0.113.1"),
        ({"Hostname": "worker-1", "InternalIP": "fe80::1%;reboot"}, "worker-1"),
        ({"Hostname": "-x"}, None),
        ({}, None),
    ],
)
def test_a_node_is_reached_at_its_outermost_address(addresses: dict[str, str], expected: str | None) -> None:
    entries = [{"type": kind, "address": address} for kind, address in addresses.items()]
    assert address_of_node({"status": {"addresses": entries}}) == expected
