"""The command line `dittofs-operator`: finds a command, runs it and prints its error. It contains no command."""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click
from click.shell_completion import ShellComplete

from app.cluster.errors import ClusterError
from app.settings import COMPLETION_VARIABLE
from app.storage.finding import one_line
from app.storage.unusable_input import UnusableInput

SUMMARIES = {
    "check": "Check DittoServer manifests before applying them.",
    "completion": "Print the completion script for bash, zsh or fish.",
    "crd": "Print the CustomResourceDefinition of DittoServers.",
    "credentials": "List the Secrets of DittoServers and what is wrong with them.",
    "df": "Show the volumes of DittoServers: requested size, capacity, used space and the server's version.",
    "doctor": "Check the operator, the cluster and every DittoServer, and suggest how to fix problems.",
    "events": "List the Events about DittoServers and their objects, newest first.",
    "logs": "Print the logs of DittoServers' pods.",
    "mount": "Print the commands that mount a share of a DittoServer.",
    "pause": "Pause the reconciliation of DittoServers.",
    "plan": "Preview what applying DittoServer manifests would change.",
    "render": "Print the objects that the operator creates for DittoServers.",
    "report": "Write a zip file for a support ticket: objects, Events, logs and checks, without secrets.",
    "restart": "Restart the pods of DittoServers.",
    "resume": "Resume the reconciliation of paused DittoServers.",
    "review": "Print an AdmissionReview of a DittoServer for testing the webhook.",
    "serve": "Run the operator: the admission webhook and the reconciler.",
    "status": "Show the state of DittoServers, what is wrong, and what to do next.",
    "tree": "Show DittoServers and their objects as a tree, each with its state.",
}
# They run the operator, or test its webhook, which nobody does with kubectl.
SERVER_COMMANDS = ("review", "serve")
UNUSABLE_INPUT_EXIT_CODE = 2
PLUGIN = "kubectl dittofs"
# Directives of Cobra.
_FILES_TOO, _NO_FILES = 0, 4


def main() -> None:
    # kubectl runs a program of this name as a command of its own.
    is_plugin = Path(sys.argv[0]).stem == "kubectl-dittofs"
    program = PLUGIN if is_plugin else "dittofs-operator"
    if is_plugin:
        hide_server_commands()

    # As kubectl writes: a file or another program on Windows would get another encoding, which lacks most characters.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    try:
        # Click looks for a terminal; no-color.org wants this variable to count as well.
        color = False if os.environ.get("NO_COLOR") else None
        command_line(prog_name=program, complete_var=COMPLETION_VARIABLE, color=color)
    except (UnusableInput, ClusterError, OSError) as error:
        click.echo(one_line(f"{program}: {error}"), err=True)
        sys.exit(UNUSABLE_INPUT_EXIT_CODE)


def complete() -> None:
    """Answers kubectl, which runs this with the words after `kubectl dittofs`, of which the last is unfinished.

    The answer is that of a program made with Cobra: a candidate a line with its meaning after a tab, and a directive.
    """
    hide_server_commands()
    *words, unfinished = sys.argv[1:] or [""]
    items = ShellComplete(command_line, {}, PLUGIN, COMPLETION_VARIABLE).get_completions(words, unfinished)

    candidates = [item for item in items if item.type == "plain"]
    for item in candidates:
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(f":{_NO_FILES if len(candidates) == len(items) else _FILES_TOO}")


def hide_server_commands() -> None:
    for name in SERVER_COMMANDS:
        command_line.commands[name].hidden = True


class LazyCommand(click.Command):
    """Stands for a command that is not imported before it runs; the list of commands needs only the summary."""

    # So checking one file does not wait until the web server and the Kubernetes client are imported.

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        return import_command(str(self.name)).make_context(info_name, args, *rest, **extra)


def import_command(name: str) -> click.Command:
    command: click.Command = getattr(import_module(f"app.cli.{name}"), name)
    return command


@click.group(
    commands=[LazyCommand(name, short_help=summary) for name, summary in SUMMARIES.items()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="dittofs-operator")
def command_line() -> None:
    """The DittoFS storage operator, and tools to check, preview and inspect DittoServers."""


if __name__ == "__main__":
    main()
