"""A real control plane on loopback: etcd, kube-apiserver and, if available, kube-controller-manager.

It has no node and no volume driver: pods and claims stay Pending.
"""

import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.controlplane.program import Program
from tests.harness.wait import until

LOOPBACK = "127.0.0.1"
START_SECONDS = 90.0
REQUEST_SECONDS = 60.0
# Some commands wait: `delete` does until finalizers are removed, for which controllers on a busy machine take minutes.
KUBECTL_SECONDS = 300.0
# Unix sockets in the state folder: no port to find, and nobody else can talk to this etcd. The 1 has no meaning; etcd
# insists on something that looks like a port.
ETCD_CLIENTS, ETCD_PEERS = "unix://etcd:1", "unix://peers:1"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane:
    """Runs inside a `with` and writes only into its folder. `flags` are additional flags of the API server.

    To act as another user, pass kubectl an argument such as `--as alice`, or take `kubeconfig_for` a ServiceAccount.
    """

    address = LOOPBACK
    controller_manager_flags: tuple[str, ...] = ()

    def __init__(self, programs: Path, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.ca_file = folder / "certs" / "apiserver.crt"
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.log"

        self._programs = programs
        self._flags = flags
        self._running: dict[str, Program] = {}
        self._opened = ExitStack()
        self._port = self._opened.enter_context(_reserved_port(self.address))
        self.url = f"https://{self.address}:{self._port.getsockname()[1]}"

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start_programs()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ended = [program for program in self._running.values() if program.ended()]
        self._stop()
        if ended:
            raise ended[0].failure("ended while the tests ran")

    def kubectl(self, *args: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Runs kubectl as admin, unless the arguments name another --kubeconfig."""
        # Without the preferences of the user, and without a cache that other clusters share.
        settings = {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "cache"), "KUBERC": "off"}
        # Garbage collection takes a quarter of kubectl's time, and it ends before that pays off.
        settings["GOGC"] = "off"

        try:
            return subprocess.run(
                [self._programs / "kubectl", *args],
                input=input,
                check=check,
                env=os.environ | settings,
                capture_output=True,
                text=True,
                timeout=KUBECTL_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    # These act as admin without the cost of starting kubectl, for requests that are made often.

    def wait_until_established(self, crd: str) -> None:
        """Waits for a CustomResourceDefinition; `kubectl wait` fails on one that has no conditions yet."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}"

        def is_established() -> bool:
            conditions = ((self.get(path) or {}).get("status") or {}).get("conditions") or []
            return ("Established", "True") in [(entry["type"], entry["status"]) for entry in conditions]

        until(is_established)

    def get(self, path: str) -> Any:
        """Returns the object, or None when it does not exist."""
        answer = self._admin.get(path)
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def create(self, path: str, manifest: Any) -> Any:
        return self._admin.post(path, json=manifest).raise_for_status().json()

    def apply(self, path: str, manifest: Any) -> None:
        """Creates the object, or changes it to have these fields."""
        self._patch(f"{path}?fieldManager=tests&force=true", "apply-patch+yaml", manifest)

    def patch(self, path: str, change: Any) -> None:
        """Merges the change into the object, whose lists it replaces."""
        self._patch(path, "merge-patch+json", change)

    def delete(self, path: str) -> None:
        self._admin.delete(path).raise_for_status()

    def delete_all(self, path: str) -> None:
        """Deletes the objects of a collection without a grace period; there need be no such kind."""
        answer = self._admin.delete(path, params={"gracePeriodSeconds": 0})
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    def audited(self, since: int = 0) -> list[bytes]:
        """Returns the lines of the audit log from this size of it on; requests of a minute take megabytes."""
        with self.audit_log.open("rb") as log:
            log.seek(since)
            # The last line may still be written.
            return [line for line in log if line.endswith(b"\n")]

    def kubeconfig_for(self, account: str, namespace: str) -> Path:
        """Writes a kubeconfig for an existing ServiceAccount, which may do what RBAC lets it do: at first nothing."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token = self.create(path, {"spec": {}})["status"]["token"]

        file = self.folder / f"{account}.{namespace}.kubeconfig"
        self._write_kubeconfig(file, token, namespace)
        return file

    def stop_apiserver(self) -> None:
        """Stops the API server; clients are refused until `start_apiserver`."""
        if program := self._running.pop("kube-apiserver", None):
            program.stop()

    def start_apiserver(self) -> None:
        """Starts the API server at its former address with its former data; returns when it is ready."""
        if "kube-apiserver" in self._running:
            return

        self._start(
            "kube-apiserver",
            f"--etcd-servers={ETCD_CLIENTS}",
            f"--bind-address={self.address}",
            f"--secure-port={self._port.getsockname()[1]}",
            "--permit-port-sharing",  # Shared with the socket that reserves the port.
            "--cert-dir=certs",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--endpoint-reconciler-type=none",
            "--audit-policy-file=audit-policy.json",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=100000",  # In megabytes; by default another file is begun after 100.
            *self._flags,
        )
        self._wait_for(lambda: self._answers("/readyz"), "kube-apiserver")

    @contextmanager
    def stopped(self) -> Iterator[Path]:
        """Stops everything inside the `with`, so that etcd's data directory can be copied or replaced.

        Then everything starts again as after a restore: clients of the old history have to find out by themselves.
        """
        self._stop_programs()
        try:
            yield self.folder / "etcd-data"
        finally:
            self._start_programs()

    def _start_programs(self) -> None:
        self._start_etcd()
        self.start_apiserver()
        if (self._programs / "kube-controller-manager").exists():
            self._start_controller_manager()

    def _stop_programs(self) -> None:
        # In this order, since kube-apiserver waits a minute for an etcd that is gone.
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            if program := self._running.pop(name, None):
                program.stop()

    def _start_etcd(self) -> None:
        self._start(
            "etcd",
            "--data-dir=etcd-data",
            "--unsafe-no-fsync",
            f"--listen-client-urls={ETCD_CLIENTS}",
            f"--advertise-client-urls={ETCD_CLIENTS}",
            f"--listen-peer-urls={ETCD_PEERS}",
            f"--initial-advertise-peer-urls={ETCD_PEERS}",
            f"--initial-cluster=default={ETCD_PEERS}",
        )

    def _start_controller_manager(self) -> None:
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--root-ca-file={self.ca_file}",
            "--service-account-private-key-file=accounts.key",
            "--controllers=*",
            "--leader-elect=false",
            "--secure-port=0",
            # With the default of 20, the garbage collector would need minutes for the objects of earlier tests.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--flex-volume-plugin-dir=flexvolume",  # The controller manager creates it, by default under /usr.
            *self.controller_manager_flags,
        )

        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait_for(lambda: self._answers(account), "kube-controller-manager")

    def _start(self, name: str, *options: str) -> None:
        log = self.folder / f"{name}.log"
        # Of their processor time, a fifth went to collecting garbage; there is more memory than time.
        environ = os.environ | {"GOGC": "400"}
        program = Program(self._programs / name, *options, folder=self.folder, log=log, environ=environ)
        self._running[name] = program

    def _wait_for(self, ready: Callable[[], bool], name: str) -> None:
        deadline = monotonic() + START_SECONDS

        while not ready():
            for program in self._running.values():
                if program.ended(within=0.02):
                    raise program.failure(f"ended before {name} was ready")

            if monotonic() > deadline:
                raise self._running[name].failure(f"was not ready within {START_SECONDS:.0f} s")

    def _answers(self, path: str) -> bool:
        try:
            return self._admin.get(path).is_success
        except (OSError, httpx.TransportError):  # It has not written its certificate yet, or does not listen yet.
            return False

    def _patch(self, path: str, kind: str, content: Any) -> None:
        answer = self._admin.patch(path, json=content, headers={"Content-Type": f"application/{kind}"})
        try:
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            error.add_note(answer.text)
            raise

    @cached_property
    def _admin(self) -> httpx.Client:
        """Returns a client that keeps its connections: opening one costs more than the request."""
        trust = ssl.create_default_context(cafile=self.ca_file)
        headers = {"Authorization": f"Bearer {self.token}"}
        client = httpx.Client(
            base_url=self.url, verify=trust, headers=headers, trust_env=False, timeout=REQUEST_SECONDS
        )
        return self._opened.enter_context(client)

    def _write_files(self) -> None:
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        (self.folder / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self.folder / "accounts.key").write_bytes(pem)
        self._write_kubeconfig(self.kubeconfig, self.token)

    def _write_kubeconfig(self, file: Path, token: str, namespace: str = "default") -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
            "current-context": "tests",
        }
        file.write_text(json.dumps(config))

    def _stop(self) -> None:
        self._stop_programs()
        self._opened.close()
        shutil.rmtree(self.folder / "etcd-data", ignore_errors=True)  # 64 MB that nobody needs.


def _reserved_port(address: str) -> socket.socket:
    """Reserves a free port that the API server shares: nobody else gets it, not even while the server is stopped."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((address, 0))
    return holder
