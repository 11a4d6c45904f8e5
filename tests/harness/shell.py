"""Types commands into a shell as a person does, and reads what the terminal shows."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

DEADLINE_SECONDS = 600.0
_POLL_SECONDS = 0.1
_NOTHING: Mapping[str, str] = {}
# Each block runs from a file of its own, so that a command that reads its input does not read the next block.
_RUN = "exec > {shown} 2>&1; . {block} < /dev/null; echo >&3\n"
# In a subshell, because the one of the person goes on.
_RUN_FAILING = """
exec > {shown} 2>&1; set +e; ( set -e; . {block} < /dev/null ); status=$?; set -e
if [ $status = 0 ]; then echo 'It succeeded, but has to fail'; exit 1; fi; echo >&3
"""


class Shell:
    """One bash inside a `with`: variables, the folder and what runs in the background stay from block to block.

    `folder` is where the person starts, and `scratch` is for files that they do not see. `aliases` are names in what
    the terminal shows, such as that of a namespace, with those that a page has for them.
    """

    def __init__(
        self, folder: Path, scratch: Path, environ: Mapping[str, str], aliases: Mapping[str, str] = _NOTHING
    ) -> None:
        self.folder = folder
        self._scratch = scratch
        self._aliases = aliases
        self._blocks = 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
        self._send("exec 3>&1\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # With it ends what the person has left in the background.
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def type(self, commands: str, *, fails: bool = False, title: str = "") -> str:
        """Returns what the commands show. Raises AssertionError if one of them fails, or none where one has to."""
        self._blocks += 1
        block, shown = (self._scratch / f"{self._blocks}.{kind}" for kind in ("sh", "txt"))
        block.write_text(commands)
        self._send((_RUN_FAILING if fails else _RUN).format(block=block, shown=shown))

        ended = self._wait()
        output = shown.read_text(errors="replace")
        for name, alias in self._aliases.items():
            output = output.replace(name, alias)
        assert ended is None, f"{title} {ended}:\n\n{commands}\nThe terminal shows\n\n{output}"
        return output

    def _send(self, text: str) -> None:
        assert self._bash.stdin
        self._bash.stdin.write(text.encode())
        self._bash.stdin.flush()

    def _wait(self) -> str | None:
        """Returns None once the commands have ended well, otherwise how they ended."""
        assert self._bash.stdout
        deadline = time.monotonic() + DEADLINE_SECONDS

        while time.monotonic() < deadline:
            # What runs in the background keeps the pipe open, so that its end says nothing.
            if select.select([self._bash.stdout], [], [], _POLL_SECONDS)[0] and os.read(self._bash.stdout.fileno(), 1):
                return None
            if self._bash.poll() is not None:
                return f"failed with {self._bash.returncode}"
        return f"has not ended within {DEADLINE_SECONDS:.0f} s"
