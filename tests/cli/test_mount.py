import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import ROOT, run
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server, storage
from tests.harness.wait import until

HOW_TO = ROOT / "docs/how-to/mount-a-share.md"


def located(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "media"}, **fields}


def objects(kind: str = "ClusterIP", ip: str = "10.0.0.7", share: str = "media", **spec: Any) -> list[dict[str, Any]]:
    """Returns a server that is ready, with its Service, pod and node."""
    ready = {"type": "Ready", "status": "True", "reason": "Available", "lastTransitionTime": "2026-02-01T12:00:00Z"}
    status = {
        "conditions": [ready],
        "server": {"family": "Current", "shares": 1},
        "shares": [{"name": share, "path": f"/{share}", "phase": "Ready"}],
    }
    ports: list[dict[str, Any]] = [{"name": "nfs", "port": 2049}, {"name": "smb", "port": 445}]
    if kind != "ClusterIP":
        ports = [{**port, "nodePort": 30000 + port["port"]} for port in ports]
    selector = {"app": "dittofs-server", "instance": "files"}
    return [
        {
            **server(**{"shares": [{"name": share}], "smb": {"enabled": True}, **spec}),
            "metadata": {"name": "files", "namespace": "media"},
            "status": status,
        },
        located("Service", "files-file", spec={"type": kind, "clusterIP": ip, "selector": selector, "ports": ports}),
    ]


def mount(folder: Path, manifests: list[dict[str, Any]], *arguments: str) -> subprocess.CompletedProcess[str]:
    snapshot = folder / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump_all(manifests))
    return run("mount", "--snapshot", str(snapshot), *arguments)


def with_balancer(address: str) -> list[dict[str, Any]]:
    manifests = objects("LoadBalancer")
    manifests[1]["status"] = {"loadBalancer": {"ingress": [{"ip": address}]}}
    return manifests


def test_the_overview_has_a_command_for_every_client(tmp_path: Path) -> None:
    shown = mount(tmp_path, with_balancer("203.0.113.7"), "files").stdout.splitlines()

    assert shown[0] == "# Share media of DittoServer media/files"
    assert "sudo mount -t nfs -o vers=3,tcp,port=2049,mountport=2049,nolock 203.0.113.7:/media /mnt/media" in shown
    assert "sudo mount -t nfs -o vers=3,tcp,port=2049,mountport=2049,nolock 10.0.0.7:/media /mnt/media" in shown
    assert "dittofs-operator mount -n media files media --pv | kubectl apply -f -" in shown
    assert shown[-1] == "dittofs-operator mount -n media files media --smb"


def test_the_commands_are_those_of_the_documentation(tmp_path: Path) -> None:
    [documented, old] = re.findall(r"^mount -t nfs .*$", HOW_TO.read_text(), re.MULTILINE)
    legacy = with_balancer("203.0.113.7")
    legacy[0]["status"]["server"]["family"] = "Legacy"

    for manifests, command in ((with_balancer("203.0.113.7"), documented), (legacy, old)):
        shown = mount(tmp_path, manifests, "files", "--shell").stdout.splitlines()[-1]
        assert shlex.split(shown)[:6] == ["sudo", *shlex.split(command)[:5]]


def test_what_is_printed_for_a_shell_is_a_script(tmp_path: Path) -> None:
    for manifests in (with_balancer("203.0.113.7"), objects("NodePort"), objects()):
        for arguments in (["files"], ["files", "--shell"], ["files", "--smb"]):
            script = mount(tmp_path, manifests, *arguments).stdout.replace("net use", "net-use")
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)


HOSTILE = "x\nreboot\x1b[2J;`reboot`$(reboot)'\""


def test_no_text_of_others_becomes_a_command(tmp_path: Path) -> None:
    password = {"admin": {"passwordSecretRef": {"name": HOSTILE, "key": "k"}}}
    manifests = objects("LoadBalancer", identity=password)
    manifests[0]["status"]["shares"].append({"name": HOSTILE, "path": "/x", "phase": "Ready"})
    manifests[0]["status"]["conditions"][0].update(status="False", reason=HOSTILE)
    manifests[1]["status"] = {"loadBalancer": {"ingress": [{"hostname": HOSTILE}, {"ip": f"fe80::1%{HOSTILE}"}]}}
    pod = located("Pod", "files-0", spec={"nodeName": "worker"})

    for flags in ([], ["--shell"], ["--smb"], ["--pod"]):
        result = mount(tmp_path, [*manifests, pod], "files", *flags)
        commands = [line for line in result.stdout.splitlines() if line and line[0] not in "#- "]

        assert result.returncode == 0
        assert "\x1b" not in result.stdout + result.stderr
        assert "reboot" not in "".join(commands)
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("field", ["name", "namespace"])
def test_a_name_that_cannot_exist_is_refused(tmp_path: Path, field: str) -> None:
    manifests = objects()
    manifests[0]["metadata"][field] = HOSTILE
    result = mount(tmp_path, manifests, HOSTILE if field == "name" else "files")

    assert (result.returncode, result.stdout) == (2, "")
    assert "no DittoServer can be called" in result.stderr


def test_a_server_inside_is_reached_by_a_forwarded_port(tmp_path: Path) -> None:
    *_, forward, _, command = mount(tmp_path, objects(), "files", "--shell").stdout.splitlines()

    assert forward == "kubectl -n media port-forward service/files-file 12049:2049"
    assert command.endswith("-o vers=3,tcp,port=12049,mountport=12049,nolock 127.0.0.1:/media /mnt/media")


def test_a_node_that_nobody_knows_is_to_be_filled_in(tmp_path: Path) -> None:
    comment, _, command = mount(tmp_path, objects("NodePort"), "files", "--shell").stdout.splitlines()

    assert "NODE is its address, see kubectl get nodes -o wide" in comment
    assert "port=32049,mountport=32049,nolock NODE:/media" in command


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    shown = mount(tmp_path, with_balancer("fd00::7"), "files", "--shell").stdout
    smb = mount(tmp_path, with_balancer("fd00::7"), "files", "--smb").stdout

    assert "-o vers=3,proto=tcp6,port=2049,mountport=2049,nolock '[fd00::7]:/media' /mnt/media" in shown
    assert r'net use Z: "\\fd00--7.ipv6-literal.net\media" * /user:admin' in smb


def test_smb_names_the_user_and_no_password(tmp_path: Path) -> None:
    values = {"stringData": {"username": "admin", "password": "marker-password"}}
    secret = located("Secret", "files-admin-bootstrap-credentials", **values)
    result = mount(tmp_path, [*with_balancer("203.0.113.7"), secret], "files", "--smb")
    shown = result.stdout.splitlines()

    assert r'net use Z: "\\203.0.113.7\media" * /user:admin' in shown
    assert shown[-1].startswith('sudo mount -t cifs -o "username=admin,port=445,uid=$(id -u),gid=$(id -g)" //203.0.')
    assert "#   dittofs-operator credentials -n media files --show" in shown
    assert "marker-password" not in result.stdout + result.stderr


def test_windows_takes_another_port_only_when_it_is_new(tmp_path: Path) -> None:
    shown = mount(tmp_path, objects("NodePort"), "files", "--smb").stdout

    assert "# Windows 11 24H2, Windows Server 2025 or newer" in shown
    assert r'net use Z: "\\NODE\media" * /user:admin /TCPPORT:30445' in shown


@pytest.mark.parametrize(
    ("manifests", "arguments", "complaint"),
    [
        (objects(smb={}), ["files", "--smb"], "set spec.smb.enabled to true"),
        (objects(), ["files", "other"], 'has no share "other"; there are: media'),
        (objects()[:1], ["files"], "Service files-file does not exist"),
        (objects(), ["none"], "no DittoServer none in any namespace; there are: files"),
        (objects(), ["files", "--pv", "-o", "json"], "--pv and --output json cannot be used together"),
        (objects(), ["files", "--pv", "--smb"], "--pv and --smb cannot be used together"),
        (
            [*objects(), {**objects()[0], "metadata": {"name": "files", "namespace": "b"}}],
            ["files"],
            "choose one with --namespace: b, media",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, manifests: list[dict[str, Any]], arguments: list[str], complaint: str
) -> None:
    result = mount(tmp_path, manifests, *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr


def test_what_speaks_against_it_does_not_disturb_a_script(tmp_path: Path) -> None:
    result = mount(tmp_path, objects(replicas=0), "files", "--pv")

    assert [document["kind"] for document in yaml.safe_load_all(result.stdout)] == [
        "PersistentVolume",
        "PersistentVolumeClaim",
    ]
    assert "is stopped, and clients wait" in result.stderr


def test_programs_get_the_addresses_and_options(tmp_path: Path) -> None:
    [facts] = json.loads(mount(tmp_path, with_balancer("203.0.113.7"), "files", "-o", "json").stdout)

    assert yaml.safe_load(mount(tmp_path, with_balancer("203.0.113.7"), "files", "-o", "yaml").stdout) == [facts]
    assert facts["path"] == "/media"
    assert facts["nfs"]["outside"] == {
        "via": "LoadBalancer",
        "address": "203.0.113.7",
        "port": 2049,
        "options": ["vers=3", "tcp", "port=2049", "mountport=2049", "nolock"],
    }
    assert facts["smb"]["inside"] == {"via": "ClusterIP", "address": "10.0.0.7", "port": 445, "options": ["port=445"]}
    assert facts["passwordSecret"] == {"name": "files-admin-bootstrap-credentials", "key": "password"}


def test_the_manifests_work_at_the_api_server(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    here = Namespace(control_plane, namespace)
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    selector = {"app": "dittofs-server", "instance": "files"}
    service = {
        "metadata": {"name": "files-file"},
        "spec": {"selector": selector, "ports": [{"name": "nfs", "port": 2049}]},
    }
    here.apply(
        server(shares=[{"name": "media"}], **storage(contentSize="10Gi")),
        {"apiVersion": "v1", "kind": "Service", **service},
    )
    patch = json.dumps({"status": {"server": {"family": "Current"}}})
    here.kubectl("patch", "dittoserver", "files", "--subresource=status", "--type=merge", "-p", patch)

    def printed(kind: str) -> str:
        lines = plugin("mount", "-n", namespace, "files", kind)
        assert lines[-1].startswith("share media cannot be mounted yet")
        return "\n".join(line for line in lines if not line.startswith(("share ", "DittoServer ")))

    tried = here.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=printed("--pod"))
    here.kubectl("create", "--validate=strict", "-f", "-", input=printed("--pv"))

    assert tried.count("(server dry run)") == 3
    until(lambda: here.get("pvc", "files-media-nfs")["status"]["phase"] == "Bound")
    cluster_ip = here.get("service", "files-file")["spec"]["clusterIP"]
    volume = json.loads(here.kubectl("get", "pv", f"{namespace}.files.media", "-o", "json"))
    assert volume["spec"]["nfs"] == {"server": cluster_ip, "path": "/media"}

    control_plane.kubectl("delete", "pv", f"{namespace}.files.media", "--wait=false")
