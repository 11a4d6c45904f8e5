import json
import os
import select
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CalledProcessError, Popen

import httpx
import pytest

from tests.controlplane.build import REQUIRED, module_folder, programs, version
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.program import ENDS_WITH_PARENT, Failed, Program
from tests.harness.wait import until

STATEFUL_SET = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "sample"},
    "spec": {
        "serviceName": "sample",
        "selector": {"matchLabels": {"app": "sample"}},
        "template": {
            "metadata": {"labels": {"app": "sample"}},
            "spec": {"containers": [{"name": "main", "image": "sample"}]},
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "cache"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    },
}


def scripts(folder: Path, **lines: str) -> Path:
    """Writes a shell script for each program; a script without a line of its own waits to be stopped."""
    folder.mkdir()

    for name in REQUIRED:
        script = folder / name
        script.write_text(f"#!/bin/sh\n{lines.get(name.replace('-', '_'), 'exec tail -f /dev/null')}\n")
        script.chmod(0o755)

    return folder


@pytest.mark.skipif("KUBEBUILDER_ASSETS" in os.environ, reason="KUBEBUILDER_ASSETS decides the version")
def test_client_and_server_have_the_version_in_go_mod(control_plane: ControlPlane) -> None:
    answer = json.loads(control_plane.kubectl("version", "--output=json").stdout)
    client, server = answer["clientVersion"], answer["serverVersion"]

    expected = version(module_folder(os.environ))
    assert client["gitVersion"] == server["gitVersion"] == expected
    assert [server["major"], server["minor"]] == expected.removeprefix("v").split(".")[:2]


def test_a_stateful_set_gets_its_pod_and_its_claim(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(STATEFUL_SET))

    for path in ("persistentvolumeclaims/cache-sample-0", "pods/sample-0"):
        until(lambda path=path: bool(control_plane.get(f"/api/v1/namespaces/{namespace}/{path}")))  # type: ignore[misc]


def test_a_service_account_has_the_rights_of_its_role(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    reader = f"--kubeconfig={control_plane.kubeconfig_for('reader', namespace)}"

    with pytest.raises(CalledProcessError) as refused:
        control_plane.kubectl(reader, "get", "secrets", "-n", namespace)

    assert "Forbidden" in refused.value.stderr
    assert refused.value.__notes__ == [refused.value.stderr]

    control_plane.kubectl("create", "role", "reader", "--verb=list", "--resource=secrets", "-n", namespace)
    bind = ("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader")
    control_plane.kubectl(*bind, "-n", namespace)

    assert control_plane.kubectl("auth", "can-i", "list", "secrets", "-n", namespace, reader).stdout == "yes\n"
    assert "No resources found" in control_plane.kubectl(reader, "get", "secrets", "-n", namespace).stderr


def test_a_restarted_api_server_keeps_its_data(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=key=value", "-n", namespace)

    control_plane.stop_apiserver()
    try:
        assert "refused" in control_plane.kubectl("get", "namespaces", check=False).stderr
        control_plane.stop_apiserver()
    finally:
        control_plane.start_apiserver()
    control_plane.start_apiserver()

    kept = control_plane.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.key}", "-n", namespace)

    assert kept.stdout == "value"


def test_the_audit_log_has_every_call_with_its_user(control_plane: ControlPlane, namespace: str) -> None:
    user = f"user-of-{namespace}"
    control_plane.kubectl("get", "secrets", "-n", namespace, f"--as={user}", check=False)

    calls = [json.loads(line) for line in control_plane.audited()]
    by_user = [call for call in calls if call.get("impersonatedUser", {}).get("username") == user]
    # With a cold cache, kubectl first asks which resources exist.
    requests = [(call["verb"], call["objectRef"]["namespace"]) for call in by_user if "objectRef" in call]

    assert requests == [("list", namespace)]


def test_two_control_planes_are_independent(control_plane: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane(programs(os.environ), tmp_path) as other:
        other.kubectl("create", "namespace", "only-here")

        assert control_plane.kubectl("get", "namespace", "only-here", check=False).returncode == 1

        address = httpx.URL(other.url)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port or 0))

    assert not (tmp_path / "etcd-data").exists()


def test_a_program_that_ends_early_shows_its_output(tmp_path: Path) -> None:
    broken = scripts(tmp_path / "programs", kube_apiserver="echo no such option; exit 1")

    with pytest.raises(Failed, match=r"kube-apiserver ended before [^\n]+ ready[^\n]+:\nno such option"):
        ControlPlane(broken, tmp_path).__enter__()


def test_a_program_that_is_not_ready_in_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.controlplane.cluster.START_SECONDS", 0.1)
    silent = scripts(tmp_path / "programs", kube_apiserver="echo thinking; exec tail -f /dev/null")

    with pytest.raises(Failed, match=r"kube-apiserver was not ready within"):
        ControlPlane(silent, tmp_path).__enter__()


def test_a_program_that_ended_is_reported_at_the_end(tmp_path: Path) -> None:
    plane = ControlPlane(scripts(tmp_path / "programs", etcd="echo disk full; exit 1"), tmp_path)
    plane._start_etcd()

    assert plane._running["etcd"].ended(within=60)

    with pytest.raises(Failed, match=r"etcd ended while the tests ran[^\n]+:\ndisk full"):
        plane.__exit__()


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.controlplane.program.GRACE_SECONDS", 0.2)
    deaf = "trap '' TERM; echo deaf; while :; do read line </dev/zero; done"
    program = Program("/bin/sh", "-c", deaf, folder=tmp_path, log=tmp_path / "log", environ=os.environ)
    while not program.output():
        assert not program.ended(within=0.02)

    program.stop()

    assert program.ended()
    assert not program.succeeded


@pytest.mark.skipif(not ENDS_WITH_PARENT, reason="there is no setpriv here")
def test_a_program_ends_when_the_tests_are_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = f"exec tail -f /dev/null 3>{pipe}"
    start = f"""
import os, pathlib, signal
from tests.controlplane.program import Program
folder = pathlib.Path({str(tmp_path)!r})
program = Program("/bin/sh", "-c", {held!r}, folder=folder, log=folder / "log", environ=os.environ)
signal.pause()
"""
    with Popen([sys.executable, "-c", start]) as tests, pipe.open() as end:
        tests.kill()

        assert select.select([end], [], [], 60)[0]
        assert end.read() == ""


def test_a_program_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    def start() -> Program:
        return Program("tail", "-f", "/dev/null", folder=tmp_path, log=tmp_path / "log", environ=os.environ)

    with ThreadPoolExecutor() as threads:
        program = threads.submit(start).result()

    assert not program.ended(within=0.2)

    program.stop()


def test_kubebuilder_assets_are_used(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "assets")
    assert programs({"KUBEBUILDER_ASSETS": str(folder)}) == folder


def test_a_program_missing_in_the_assets_is_named(tmp_path: Path) -> None:
    folder = scripts(tmp_path / "assets")
    (folder / "etcd").unlink()

    with pytest.raises(Failed, match=f"KUBEBUILDER_ASSETS is {folder}, which lacks etcd"):
        programs({"KUBEBUILDER_ASSETS": str(folder)})
