"""The command line `dittofs-operator`: finds a command, runs it and prints its error. It contains no command."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from app.cluster.errors import ClusterError
from app.storage.finding import one_line
from app.storage.unusable_input import UnusableInput

SUMMARIES = {
    "check": "Check DittoServer manifests before applying them.",
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


def main() -> None:
    # kubectl runs a program of this name as a command of its own.
    is_plugin = Path(sys.argv[0]).name == "kubectl-dittofs"
    program = "kubectl dittofs" if is_plugin else "dittofs-operator"
    for name in SERVER_COMMANDS:
        command_line.commands[name].hidden = is_plugin

    try:
        # Click looks for a terminal; no-color.org wants this variable to count as well.
        command_line(prog_name=program, color=False if os.environ.get("NO_COLOR") else None)
    except (UnusableInput, ClusterError, OSError) as error:
        click.echo(one_line(f"{program}: {error}"), err=True)
        sys.exit(UNUSABLE_INPUT_EXIT_CODE)


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
