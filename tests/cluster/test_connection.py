"""Connections of a pod and by kubeconfig: how they are made, and how they fail."""

import asyncio
import base64
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml

from app.cluster.client import Cluster
from app.cluster.connection import connect
from app.cluster.errors import Forbidden, Unreachable
from app.cluster.reader import STORAGE_CLASSES
from certs.authority import Authority
from tests.controlplane.cluster import ControlPlane
from tests.harness.endpoints import address, failure, kubeconfig, listening, trusting_kubeconfig


@pytest.mark.anyio
async def test_a_request_names_its_user_agent(tmp_path: Path) -> None:
    with listening() as server:
        await failure(kubeconfig(tmp_path / "c", f"http://{address(server)}"), timeout_seconds=0.2)
        connection, _ = server.accept()
        with connection:
            assert b"User-Agent: dittofs-operator/" in connection.recv(4096)


@pytest.mark.anyio
async def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, listening() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{address(proxy)}")
        monkeypatch.setenv("NO_PROXY", "")
        await failure(kubeconfig(tmp_path / "c", "http://api.example.com"), timeout_seconds=0.2)
        connection, _ = proxy.accept()
        with connection:
            assert connection.recv(4096).startswith(b"GET http://api.example.com/api")

        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await failure(kubeconfig(tmp_path / "c", f"http://{address(server)}"), timeout_seconds=0.2)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(4096).startswith(b"GET /api")


@pytest.mark.anyio
async def test_no_connection_outlives_its_session(tmp_path: Path) -> None:
    """A cancelled watch takes leave of the server, which may be too busy to answer."""
    now = datetime.now(UTC)
    authority = Authority.create("a CA", now)
    pair = authority.issue_pair(["127.0.0.1"], now)
    for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", authority.pem)):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    with listening() as server:
        config = yaml.safe_load(kubeconfig(tmp_path / "c", f"https://{address(server)}").read_text())
        config["clusters"][0]["cluster"]["certificate-authority"] = str(tmp_path / "ca.crt")
        (tmp_path / "c").write_text(yaml.safe_dump(config))

        def begin_an_answer() -> ssl.SSLSocket:
            accepted = context.wrap_socket(server.accept()[0], server_side=True)
            accepted.recv(4096)
            accepted.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            return accepted

        async with connect(tmp_path / "c") as connection:

            async def watch() -> None:
                async with await connection.request("GET", "/", {}, None, aiohttp.ClientTimeout()) as answer:
                    await answer.content.readexactly(5)
                    watching.set()
                    await answer.content.read()

            watching = asyncio.Event()
            serving = asyncio.ensure_future(asyncio.to_thread(begin_an_answer))
            async with asyncio.TaskGroup() as group:
                task = group.create_task(watch())
                await watching.wait()
                task.cancel()

        with await serving as accepted:
            accepted.settimeout(10)
            accepted.read()
            ours = accepted.getpeername()
        assert not is_open_here(ours)


def is_open_here(ours: tuple[str, int]) -> bool:
    """Returns whether this process has a socket with this address at its end."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as copy:
            if copy.getsockname() == ours:
                return True
    return False


def without(*steps: str) -> Callable[[dict[str, Any]], Any]:
    def remove(config: Any) -> None:
        *parents, last = steps
        for step in parents:
            config = config[int(step)] if step.isdecimal() else config[step]
        del config[last]

    return remove


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file or directory"),
        ("", "cannot be used"),
        ("[]", "cannot be used"),
        ("hunter2: [", "is not valid YAML"),
        ("contexts: 5\ncurrent-context: here\n", "cannot be used"),
        ("contexts: [here]\ncurrent-context: here\n", "cannot be used"),
        ("contexts: [{name: here, context: there}]\ncurrent-context: here\n", "cannot be used"),
        ("\x00", "is not valid YAML"),
    ],
)
async def test_an_unusable_kubeconfig_is_named(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        Path.write_text(path, text)
    message = await failure(path)

    assert message.startswith(f"kubeconfig {path} ")
    assert why in message
    assert "hunter2" not in message
    assert "\n" not in message


@pytest.mark.anyio
@pytest.mark.parametrize(
    "steps",
    [
        ["current-context"],
        ["contexts"],
        ["clusters"],
        ["contexts", "0", "context"],
        ["contexts", "0", "context", "cluster"],
        ["clusters", "0", "cluster"],
        ["clusters", "0", "name"],
    ],
)
async def test_an_incomplete_kubeconfig_is_named(tmp_path: Path, steps: list[str]) -> None:
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    content = yaml.safe_load(path.read_text())
    without(*steps)(content)
    path.write_text(yaml.safe_dump(content))

    assert (await failure(path)).startswith(f"kubeconfig {path} cannot be used: ")


@pytest.mark.anyio
async def test_an_unusable_certificate_is_refused(tmp_path: Path) -> None:
    junk = base64.b64encode(b"junk").decode()
    user = {"client-certificate-data": junk, "client-key-data": junk}
    message = await failure(kubeconfig(tmp_path / "c", "https://127.0.0.1:1", **user))
    assert message.startswith("cannot use the certificates given for https://127.0.0.1:1: ")


@pytest.mark.anyio
async def test_outside_a_pod_a_kubeconfig_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    expected = "no kubeconfig was given, and this is no pod with a service account: "

    assert (await failure(None, service_account=tmp_path)).startswith(expected)

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")

    assert (await failure(None, service_account=tmp_path)).startswith(expected)


@pytest.mark.anyio
async def test_an_untrusted_server_is_not_asked(control_plane: ControlPlane, tmp_path: Path) -> None:
    message = await failure(kubeconfig(tmp_path / "c", control_plane.url, token=control_plane.token))
    assert "certificate verify failed" in message


@pytest.mark.anyio
async def test_a_token_file_may_end_in_a_newline(control_plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{control_plane.token}\n")
    async with Cluster.connect(trusting_kubeconfig(control_plane, tmp_path, tokenFile="token")) as cluster:
        assert (await cluster.list(STORAGE_CLASSES)).gap is None


@pytest.fixture
def pod(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepares the service account and the variables of a pod, and returns the folder of the service account."""
    (tmp_path / "token").write_text(f"{control_plane.token}\n")
    (tmp_path / "ca.crt").write_bytes(control_plane.ca_file.read_bytes())
    (tmp_path / "namespace").write_text("home")

    server = urlsplit(control_plane.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    return tmp_path


@pytest.mark.anyio
async def test_in_a_pod_its_service_account_is_used(pod: Path) -> None:
    async with Cluster.connect(service_account=pod) as cluster:
        assert cluster.namespace == "home"
        assert (await cluster.list(STORAGE_CLASSES)).gap is None


@pytest.mark.anyio
async def test_a_rotated_token_is_read_again(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.connection.TOKEN_REFRESH_SECONDS", 0.0)
    token = (pod / "token").read_text()
    (pod / "token").write_text("expired")

    async with Cluster.connect(service_account=pod) as cluster:
        with pytest.raises(Forbidden):
            await cluster.list(STORAGE_CLASSES)

        (pod / "token").write_text(token)

        assert (await cluster.list(STORAGE_CLASSES)).gap is None


@pytest.mark.anyio
async def test_a_token_is_not_read_for_each_request(pod: Path) -> None:
    async with Cluster.connect(service_account=pod) as cluster:
        (pod / "token").write_text("not read yet")

        assert (await cluster.list(STORAGE_CLASSES)).gap is None


@pytest.mark.anyio
async def test_a_token_that_is_gone_fails_each_request(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cluster.connection.TOKEN_REFRESH_SECONDS", 0.0)
    async with Cluster.connect(service_account=pod) as cluster:
        (pod / "token").write_text("\n")
        with pytest.raises(Unreachable, match=r"^cannot ask .*/token is empty$"):
            await cluster.list(STORAGE_CLASSES)

        (pod / "token").unlink()
        with pytest.raises(Unreachable, match=r"^cannot ask .*: No such file or directory: .*/token$"):
            await cluster.list(STORAGE_CLASSES)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["token", "ca.crt", "namespace"])
async def test_a_service_account_lacks_a_file(pod: Path, name: str) -> None:
    (pod / name).unlink()

    expected = f"no kubeconfig was given, and this is no pod with a service account: No such file or directory: {pod}"

    assert await failure(None, service_account=pod) == f"{expected}/{name}"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["token", "ca.crt"])
async def test_a_service_account_has_an_empty_file(pod: Path, name: str) -> None:
    (pod / name).write_text("")

    assert (await failure(None, service_account=pod)).endswith(f"{pod}/{name} is empty")


@pytest.mark.anyio
async def test_a_pod_with_an_unusable_ca_is_refused(pod: Path) -> None:
    (pod / "ca.crt").write_text("junk")

    assert (await failure(None, service_account=pod)).startswith("cannot use the certificates given for https://")


@pytest.mark.anyio
async def test_a_pod_may_have_an_ipv6_server(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    async with connect(service_account=pod) as connection:
        assert connection.url == "https://[fd00::1]:443"


@pytest.mark.anyio
async def test_tls_does_not_insist_on_x509_extensions(pod: Path) -> None:
    """The CAs of many clusters lack an extension, and client-go does not insist on it either."""
    async with connect(service_account=pod) as connection:
        assert connection.tls.verify_mode == ssl.CERT_REQUIRED
        assert connection.tls.check_hostname
        assert not connection.tls.verify_flags & ssl.VERIFY_X509_STRICT


# Prints what was imported although no pod needs it: the client library, and what reads files of people.
REPORT = "print(*sorted(name for name in sys.modules if name.startswith(('kubernetes_asyncio', 'yaml', 'app.syntax'))))"


def test_serve_does_not_import_what_no_pod_needs() -> None:
    code = f"import sys, app.cli.serve, app.serve; {REPORT}"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_pod_that_connects_does_not_import_it_either(pod: Path) -> None:
    code = f"""
import asyncio, pathlib, sys
from app.cluster.client import Cluster
from app.cluster.reader import (STORAGE_CLASSES)

async def main():
    async with Cluster.connect(service_account=pathlib.Path({str(pod)!r})) as cluster:
        await cluster.list(STORAGE_CLASSES)

asyncio.run(main())
{REPORT}
"""

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.anyio
async def test_the_kernel_notices_that_the_other_end_is_gone(control_plane: ControlPlane) -> None:
    """A watch may be silent for minutes, in which nothing else would."""
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await cluster.version()
        seconds = seconds_until_probed(urlsplit(control_plane.url).port)

    assert any(0 < remaining <= 30 for remaining in seconds)


def seconds_until_probed(port: int | None) -> list[float]:
    """Returns after how much silence the kernel asks the other end of each connection of this process to that port."""
    # The descriptor that lists them is closed by then.
    opened = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    timers = [line[5] for line in lines if line[2].endswith(f":{port:04X}") and f"socket:[{line[9]}]" in opened]
    # The timer 02 keeps a connection alive; its time is in hundredths of a second.
    return [int(timer[3:], 16) / 100 for timer in timers if timer.startswith("02:")]
