"""Runs the operator as its users do: `dittofs-operator serve` in a process of its own."""

import base64
import json
import os
import signal
import ssl
import sys
from pathlib import Path
from time import monotonic
from typing import Any, Self

import httpx
import yaml

from app.storage.webhook_configurations import webhook_configurations
from certs.__main__ import main as write_certificates
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.program import Program
from tests.harness.free_ports import free_port

START_SECONDS = 60.0
REQUEST_SECONDS = 60.0
# It releases its Lease, and saves which lines were covered: on a busy machine that takes longer than a moment.
STOP_SECONDS = 10.0
ROOT = Path(__file__).parent.parent.parent
# Otherwise httpx reads all CAs of the machine for each request, even without TLS: 40 ms of work.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Operator:
    """Runs the operator inside a `with`; `flags` are flags of `serve`. It keeps its ports when it is started again.

    With `self_managed` it gets no certificate and has to create one.
    """

    def __init__(self, folder: Path, *flags: str | Path, self_managed: bool = False) -> None:
        self.folder = folder
        self.module: tuple[str | Path, ...] = ("app",)
        self.log = folder / "operator.log"
        self._flags = flags
        self._pair = () if self_managed else ("--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key")
        self._port, self._health_port = free_port(), free_port()
        self.url = f"https://localhost:{self._port}"
        self.health_url = f"http://127.0.0.1:{self._health_port}"
        write_certificates(["--out", str(folder)], standalone_mode=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.launch()
        deadline = monotonic() + START_SECONDS

        while not self._is_ready():
            if self._program.ended(within=0.05) or monotonic() > deadline:
                # Nobody else would stop it: a `with` that was never entered is not left either.
                self._program.stop()
                raise self._program.failure("was not ready")

    def launch(self) -> None:
        """Starts it without waiting until it is ready."""
        self._program = Program(
            *(sys.executable, "-m", *self.module, "serve", *self._flags),
            *(f"--listen=127.0.0.1:{self._port}", f"--health-listen=127.0.0.1:{self._health_port}"),
            *self._pair,
            folder=ROOT,
            log=self.log,
            environ=os.environ,
        )

    def why_not_ready(self) -> str:
        """Returns the text of /readyz: "ok" when it is ready, empty while nobody answers."""
        try:
            return self.health("/readyz").text.strip()
        except httpx.TransportError:
            return ""

    def stop(self) -> None:
        """Stops it with Ctrl-C, which skips the delay in which clients are asked to go elsewhere."""
        self._program.stop(signal.SIGINT, STOP_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        self._program.signal(number)

    def ended_well(self, within: float) -> bool:
        return self._program.ended(within=within) and self._program.succeeded

    def take_ports_of(self, other: Self) -> None:
        self._port, self._health_port = other._port, other._health_port

    @property
    def pid(self) -> int:
        return self._program.pid

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "ca.crt")

    def post(self, path: str, review: Any) -> Any:
        """Sends a review and returns the response in the AdmissionReview that comes back."""
        answer = httpx.post(self.url + path, json=review, verify=self.trust, trust_env=False, timeout=REQUEST_SECONDS)
        return answer.raise_for_status().json()["response"]

    def health(self, path: str) -> httpx.Response:
        return httpx.get(self.health_url + path, verify=_NO_AUTHORITIES, trust_env=False, timeout=REQUEST_SECONDS)

    def scrape(self) -> str:
        """Returns its metrics."""
        return self.health("/metrics").text

    def decisions(self) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self.log.read_text().splitlines())
        return [line for line in lines if line["message"] == "reviewed"]

    def register(self, control_plane: ControlPlane) -> None:
        """Registers its webhooks by URL and caBundle, where the chart does so by Service."""
        bundle = base64.b64encode((self.folder / "ca.crt").read_bytes()).decode()
        configurations = webhook_configurations(lambda path: {"url": self.url + path, "caBundle": bundle})
        control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(configurations))

    def _is_ready(self) -> bool:
        try:
            return self.health("/readyz").is_success
        except httpx.TransportError:
            return False
