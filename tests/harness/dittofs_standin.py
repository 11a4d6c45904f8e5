"""Runs the stand-in for DittoFS, of either family, and its S3 endpoint, as local processes on loopback."""

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from app.storage.config import config_yaml
from app.storage.reading import read
from certs.authority import Pair
from tests.controlplane.program import Program
from tests.harness.free_ports import free_port
from tests.harness.go_module import GoModule
from tests.harness.server_table import server
from tests.harness.wait import until

FOLDER = Path(__file__).parent.parent / "e2e" / "standin"
STANDIN = GoModule(FOLDER, package=".", names=("dittofs", "dfs", "s3", "pause"), stamps={}, duration="a minute")
# The programs' names are those of the real servers: up to 0.8, and from 0.13 on.
LEGACY, CURRENT = "dittofs", "dfs"
BUCKET = "dittofs"
PASSWORD = "the-password-of-admin"
REQUEST_SECONDS = 60.0
# How long the stand-in takes to find out that nobody listens at an endpoint; the real servers take 5 seconds.
PATIENCE_SECONDS = 0.5


def greeting(address: str, port: int) -> list[str]:
    """Returns what a server tells who asks nothing: its address and, for NFS, the shares that can be mounted."""
    with socket.create_connection((address, port), timeout=REQUEST_SECONDS) as connection:
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile().read().splitlines()


class LocalServer:
    """A program that serves HTTP inside a `with`; it keeps its ports and its folder when it is started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.client = _client()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / f"{self.program.name}.log"

    def launch(self) -> Program:
        """Starts it without waiting until it answers."""
        self.running = Program(
            *(self.program, *self.arguments),
            folder=self.folder,
            log=self.log,
            environ={"PATH": os.environ["PATH"], **self.environ},
        )
        return self.running

    def start(self) -> None:
        program = self.launch()
        try:
            until(lambda: program.ended() or self.answers())
        except BaseException:
            program.stop()
            raise
        if program.ended():
            raise program.failure("ended")

    def stop(self) -> None:
        self.running.stop()
        self.client.close()
        self.client = _client()

    def restart(self) -> None:
        self.stop()
        self.start()

    def answers(self) -> bool:
        try:
            self.client.get(self.url)
        except httpx.TransportError:
            return False
        return True


def _client() -> httpx.Client:
    return httpx.Client(trust_env=False, verify=False, timeout=REQUEST_SECONDS)


class S3(LocalServer):
    """An S3 endpoint with one bucket, which accepts only the keys that it was given last."""

    def __init__(self, programs: Path, folder: Path, **keys: str) -> None:
        super().__init__(programs / "s3", folder)
        self._keys = keys
        self._files: tuple[str, ...] = ()

    def speak_tls(self, pair: Pair) -> None:
        """Has it speak TLS alone from its next start on, with a certificate that has to name 127.0.0.1.

        A server trusts the CA of the certificate when SSL_CERT_DIR is a folder that has it, as in a pod.
        """
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        self.url = f"https://127.0.0.1:{self.port}"
        self._files = f"--tls-cert={certificate}", f"--tls-key={key}"

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        return f"--listen=127.0.0.1:{self.port}", f"--buckets={BUCKET}", *self._files

    def start(self) -> None:
        super().start()
        self.put_keys(**self._keys)

    def put_keys(self, **keys: str) -> None:
        """Makes these the only keys that are accepted, secrets by ID."""
        self._keys = keys
        self.client.put(f"{self.url}/standin/keys", json=keys).raise_for_status()

    def put_tokens(self, **tokens: str) -> None:
        """Makes keys temporary ones that count only along with these session tokens, by ID."""
        self.client.put(f"{self.url}/standin/tokens", json=tokens).raise_for_status()

    def requests(self) -> list[dict[str, Any]]:
        """Returns what was asked since the start: method, bucket, key, key_id and status."""
        answer: list[dict[str, Any]] = self.client.get(f"{self.url}/standin/log").raise_for_status().json()
        return answer


class DittoFS(LocalServer):
    """The stand-in for one server; `name` is LEGACY or CURRENT."""

    def __init__(self, programs: Path, name: str, folder: Path, **environ: str) -> None:
        super().__init__(programs / name, folder)
        self.nfs_port, self.metrics_port = free_port(), free_port()
        self.environ = {
            "STANDIN_ROOT": str(folder),
            "STANDIN_NFS": f"127.0.0.1:{self.nfs_port}",
            "STANDIN_SMB": f"127.0.0.1:{free_port()}",
            "STANDIN_PATIENCE_SECONDS": str(PATIENCE_SECONDS),
            "DITTOFS_CONTROLPLANE_SECRET": "s" * 32,
            "DITTOFS_ADMIN_INITIAL_PASSWORD": PASSWORD,
            **environ,
        }
        self.configure()

    def configure(self, **sections: Mapping[str, Any]) -> None:
        """Writes config.yaml as the operator renders it, with these sections changed. A restart puts it into effect."""
        spec = read(server(metrics={"enabled": True})).server.spec
        content = yaml.safe_load(config_yaml(spec))
        content["controlplane"] |= {"host": "127.0.0.1", "port": self.port}
        content["metrics"]["port"] = self.metrics_port
        for name, section in sections.items():
            content[name] = {**content.get(name, {}), **section}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(content))

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        return "start", "--foreground", "--config", self.folder / "config.yaml"

    def lose(self, path: str) -> None:
        """Deletes a folder, as the end of a pod does to what is on no volume."""
        shutil.rmtree(self.folder / path.lstrip("/"))

    def login(self, password: str = PASSWORD) -> httpx.Response:
        return self.client.post(f"{self.url}/api/v1/auth/login", json={"username": "admin", "password": password})

    def api(self, method: str, path: str, body: Any = None, *, seconds: float = REQUEST_SECONDS) -> httpx.Response:
        """Sends a request as admin, to a path below /api/v1; raises TimeoutError without an answer in time."""
        token = self.login().raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.url}/api/v1{path}"
        try:
            return self.client.request(method, url, json=body, headers=headers, timeout=seconds)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{method} {path}") from error

    def exports(self) -> list[str]:
        """Returns the shares that can be mounted."""
        return greeting("127.0.0.1", self.nfs_port)[1:]

    def write(self, share: str, file: str, content: str) -> httpx.Response:
        """Writes a file as an NFS client would; the answer says with which key it went to which object."""
        return self.client.put(f"{self.url}/standin/shares/{share.lstrip('/')}/files/{file}", content=content)

    def read(self, share: str, file: str) -> httpx.Response:
        return self.client.get(f"{self.url}/standin/shares/{share.lstrip('/')}/files/{file}")

    def report(self) -> dict[str, Any]:
        """Returns what no API of the real server tells: boots, users and the variables AWS_*."""
        report: dict[str, Any] = yaml.safe_load(self.client.get(f"{self.url}/standin").text)
        return report
