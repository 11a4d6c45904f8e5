"""Runs any webhook by a command, to measure it like the operator's."""

import os
import shlex
import socket
from pathlib import Path
from time import monotonic
from typing import Self

from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.controlplane.program import Program
from tests.harness.free_ports import free_port
from tests.harness.operator_process import ROOT

START_SECONDS = 60.0


class WebhookCommand:
    """Runs the command inside a `with`; the folder has the key pair, and gets the log.

    The command is split as a shell would, but no shell runs it. In its words, {port} stands for the port on loopback to
    listen on, {folder} for the folder with tls.crt, tls.key and ca.crt, {mutate_path} and {validate_path} for the
    paths that will be asked, and {kubeconfig} for a kubeconfig that may do everything.
    """

    def __init__(
        self, command: str, folder: Path, kubeconfig: Path | str = "", start_seconds: float = START_SECONDS
    ) -> None:
        self._start_seconds = start_seconds
        self._port = free_port()
        self.url = f"https://localhost:{self._port}"
        values = {
            "{port}": str(self._port),
            "{folder}": str(folder),
            "{mutate_path}": MUTATE_PATH,
            "{validate_path}": VALIDATE_PATH,
            "{kubeconfig}": str(kubeconfig),
        }

        self._words = shlex.split(command)
        for placeholder, value in values.items():
            self._words = [word.replace(placeholder, value) for word in self._words]
        self._log = folder / f"{self._port}.log"

    def __enter__(self) -> Self:
        self._program = Program(*self._words, folder=ROOT, log=self._log, environ=os.environ)
        deadline = monotonic() + self._start_seconds

        while not self._listens():
            if self._program.ended(within=0.1) or monotonic() > deadline:
                self._program.stop()
                raise self._program.failure(f"did not listen on port {self._port}")
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def pid(self) -> int:
        return self._program.pid

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
