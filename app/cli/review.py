"""`review`: prints a DittoServer as the API server would send it to the webhook. It asks no cluster."""

import uuid

import click
import orjson

from app.admission.review import wrap_in_review
from app.cli.options import read_servers


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
def review(file: str) -> None:
    """Print an AdmissionReview of a DittoServer for testing the webhook.

    It asks about creating the first DittoServer in FILE, and can be posted with curl. FILE is a manifest in YAML or
    JSON, or - for standard input.
    """
    server = read_servers([file])[0].object
    click.echo(orjson.dumps(wrap_in_review(server, str(uuid.uuid4())), option=orjson.OPT_INDENT_2).decode())
