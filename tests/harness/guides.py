"""Reads commands from the guides in docs/, so that tests run what the documentation tells people to type."""

import re
import shlex
from pathlib import Path

GUIDES = Path(__file__).parent.parent.parent / "docs/how-to"


def code_blocks(guide: str, heading: str = "") -> list[str]:
    """Returns the shell code in a guide, from a heading on when one is given."""
    text = (GUIDES / guide).read_text()
    if heading:
        text = text.partition(f"\n{heading}\n")[2]
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def recovery_commands(*, server: str, claim: str, volume: str) -> list[list[str]]:
    """Returns the arguments of each kubectl command that recovers a volume claim that is being deleted."""
    [block] = code_blocks("recover-a-volume-claim.md")
    names = {"NAME": server, "CLAIM": claim, "PV": volume}

    commands = []
    for line in block.splitlines():
        program, *args = shlex.split(line)
        assert program == "kubectl"
        commands.append([re.sub(r"\b(NAME|CLAIM|PV)\b", lambda match: names[match[0]], arg) for arg in args])
    return commands
