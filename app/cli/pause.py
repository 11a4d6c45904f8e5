"""`pause`: pauses the reconciliation of DittoServers by their annotation."""

import click

from app.cli.annotation import annotate
from app.cli.options import Target, live_target_options, report_option
from app.storage.pause import PAUSED_ANNOTATION


@click.command()
@live_target_options
@report_option
def pause(target: Target, output: str) -> None:
    """Pause the reconciliation of DittoServers.

    The operator changes nothing for them. Their pods run on, and their status stays up to date. "resume" ends that.
    """
    what = "is paused: the operator changes nothing for it until you resume it"
    annotate(target, (PAUSED_ANNOTATION, "true"), lambda _: what, output)
