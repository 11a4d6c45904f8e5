"""`completion`: prints the script with which a shell completes this program. It asks no cluster itself."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from app.settings import COMPLETION_VARIABLE

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAMS = ("kubectl-dittofs", "dittofs-operator")


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    It is for the programs "kubectl-dittofs" and "dittofs-operator"; bash loads it with "source <(kubectl dittofs
    completion bash)". "kubectl dittofs" needs none: kubectl's own completion runs the program
    "kubectl_complete-dittofs".
    """
    root = click.get_current_context().find_root().command
    for program in PROGRAMS:
        click.echo(SHELLS[shell](root, {}, program, COMPLETION_VARIABLE).source())
