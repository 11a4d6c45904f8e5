"""A program that runs beside the tests with its output in a file. It never reads from the terminal."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

GRACE_SECONDS = 2.0
TAIL_LINES = 20
# Where util-linux is: the program ends with the tests even when nobody is left to stop it.
ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


class Failed(RuntimeError):
    """A program did not do what it was started for; the message ends with what it said last."""


class Program:
    """Runs from the moment it is made until it ends or stop() is called."""

    def __init__(self, *command: str | Path, folder: Path, log: Path, environ: Mapping[str, str]) -> None:
        self.name = Path(command[0]).name
        self._log = log
        # The kernel takes the thread for the parent, and a worker thread ends long before the tests do.
        bound = ENDS_WITH_PARENT if threading.current_thread() is threading.main_thread() else ()
        with log.open("ab") as output:
            # A process group of its own: Ctrl-C reaches the tests alone, and they stop the programs in order.
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
        """Whether it has ended or does so within that many seconds."""
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

    def stop(self, request: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end, then makes it; nothing happens to one that has ended."""
        for each in (request, signal.SIGKILL):
            if self.ended():
                return
            self.signal(each)
            self.ended(within=GRACE_SECONDS)

    def signal(self, sent: signal.Signals) -> None:
        os.killpg(self._process.pid, sent)
