"""`crd`: prints the CustomResourceDefinition of DittoServers. It asks no cluster."""

import click

from app import manifests
from app.storage.crd import custom_resource_definition


@click.command()
def crd() -> None:
    """Print the CustomResourceDefinition of DittoServers.

    Install it with "dittofs-operator crd | kubectl apply -f -".
    """
    click.echo(manifests.dump(custom_resource_definition()), nl=False)
