"""`resume`: resumes the reconciliation of paused DittoServers by their annotation."""

import click

from app.cli.annotation import annotate
from app.cli.options import Target, live_target_options, report_option
from app.storage.pause import PAUSED_ANNOTATION, is_paused
from app.storage.unstructured import Manifest


@click.command()
@live_target_options
@report_option
def resume(target: Target, output: str) -> None:
    """Resume the reconciliation of paused DittoServers."""
    annotate(target, (PAUSED_ANNOTATION, None), describe, output)


def describe(server: Manifest) -> str:
    return "is resumed" if is_paused(server) else "was not paused"
