"""Runs a program beside the tests and writes its output to a file. It never reads from the terminal."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

GRACE_SECONDS = 2.0
# A killed program may still have to wait for the disk, or for its turn on a busy machine.
KILL_SECONDS = 60.0
TAIL_LINES = 20
# With util-linux the program ends with the tests, even when these are killed and cannot stop it.
ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


class Failed(RuntimeError):
    """A program failed; the message ends with the end of its output."""


class Program:
    """Runs from its creation until it ends or `stop` is called."""

    def __init__(self, *command: str | Path, folder: Path, log: Path, environ: Mapping[str, str]) -> None:
        self.name = Path(command[0]).name
        self._log = log

        # To the kernel the parent is the thread, and a worker thread ends long before the tests do.
        bound = ENDS_WITH_PARENT if threading.current_thread() is threading.main_thread() else ()
        with log.open("ab") as output:
            # In its own process group: Ctrl-C reaches only the tests, and they stop the programs in order.
            self._process = subprocess.Popen(
                [*bound, *command],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self, *, within: float = 0) -> bool:
        """Tells whether it has ended or ends within so many seconds."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def succeeded(self) -> bool:
        return self._process.returncode == 0

    def output(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def failure(self, what: str) -> Failed:
        return Failed("\n".join([f"{self.name} {what}. The end of its output:", *self.output()[-TAIL_LINES:]]))

    def stop(self, request: signal.Signals = signal.SIGTERM, grace_seconds: float = GRACE_SECONDS) -> None:
        """Asks it to end, and kills it when it does not; does nothing when it has ended."""
        for number, seconds in ((request, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
            if self.ended():
                return

            self.signal(number)
            self.ended(within=seconds)

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
