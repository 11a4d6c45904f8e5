"""`crd`: prints the CustomResourceDefinition of DittoServers. It asks no cluster."""

import click

from app import manifests
from app.storage.crd import custom_resource_definition


@click.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    click.echo(manifests.dump(custom_resource_definition()), nl=False)
