"""`resume`: lets the operator work on DittoServers again that were paused."""

import click

from app.cli.annotation import annotate
from app.cli.options import Source, cluster_options, names_argument
from app.storage.pause import PAUSED_ANNOTATION, is_paused
from app.storage.unstructured import Manifest


@click.command()
@names_argument
@cluster_options
def resume(names: tuple[str, ...], source: Source, namespace: str | None) -> None:
    """Let the operator work on DittoServers again that were paused."""
    annotate(source, namespace, names, (PAUSED_ANNOTATION, None), describe)


def describe(server: Manifest) -> str:
    return "is resumed" if is_paused(server) else "was not paused"
