"""`pause`: keeps the operator from changing anything for DittoServers, by their annotation."""

import click

from app.cli.annotation import annotate
from app.cli.options import Source, cluster_options, names_argument
from app.storage.pause import PAUSED_ANNOTATION


@click.command()
@names_argument
@cluster_options
def pause(names: tuple[str, ...], source: Source, namespace: str | None) -> None:
    """Keep the operator from changing anything for DittoServers.

    Their pods run on, and their status stays up to date. "resume" ends that.
    """
    what = "is paused: the operator changes nothing for it until you resume it"
    annotate(source, namespace, names, (PAUSED_ANNOTATION, "true"), lambda _: what)
