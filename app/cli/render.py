"""`render`: prints the objects of DittoServers as the operator would apply them. It asks no cluster."""

import click

from app import manifests
from app.cli.options import defaults_options, paths_argument, read_servers
from app.storage import desired
from app.storage.reading import read
from app.storage.rendering import ObjectDefaults
from app.storage.rules import invalid_findings
from app.storage.unusable_input import UnusableInput


@click.command()
@paths_argument
@defaults_options
def render(paths: tuple[str, ...], defaults: ObjectDefaults) -> None:
    """Print the objects that the operator creates for DittoServers.

    FILE is a manifest in YAML or JSON, DIR a folder with manifests in it or below it, and - is standard input. No
    cluster is asked; pipe the output to "kubectl diff -f -" to compare it with one. Secrets are left out, and so is the
    annotation of the pod that depends on their contents.
    """
    for document in read_servers(paths):
        reading = read(document.object)
        if findings := invalid_findings(reading):
            raise UnusableInput(document.file, document.line_of(findings[0].path), findings[0].message)

        for manifest in desired.render(reading.server, defaults):
            click.echo("---")
            click.echo(manifests.dump(manifest), nl=False)
