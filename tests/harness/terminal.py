"""Runs the command line on a terminal, as a person sees it."""

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time

from tests.harness.command_line import ROOT

DEADLINE_SECONDS = 60.0


class Terminal:
    """A terminal with a running command; `output` is what it has written so far."""

    def __init__(self, *arguments: str, columns: int = 100, lines: int = 40, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (lines, columns))
        settings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env=settings | {"TERM": "xterm"} | environment,
            stdout=theirs,
        )
        os.close(theirs)
        self.output = ""
        # Whoever reads to the end would otherwise wait for ever for a command that does not end.
        self._deadline = threading.Timer(DEADLINE_SECONDS, self._process.kill)
        self._deadline.start()

    def read_until(self, text: str, times: int = 1) -> None:
        """Reads until the text has come so many times. Fails when it does not."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, self.output
            assert self._read(), self.output

    def interrupt(self) -> int:
        """Does what Ctrl-C does, and returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        while self._read():
            pass
        return self._wait()

    def read_to_end(self) -> str:
        """Returns everything that the command writes. Fails unless it succeeds."""
        while self._read():
            pass
        assert self._wait() == 0
        return self.output

    def _wait(self) -> int:
        os.close(self._ours)
        code = self._process.wait()
        self._deadline.cancel()
        return code

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            # This is how a terminal says that the other side is closed.
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
