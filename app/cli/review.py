"""`review`: prints a DittoServer as the API server would send it to the webhook. It asks no cluster."""

import uuid

import click
import orjson

from app.admission.review import creation
from app.cli.options import read_servers


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
def review(file: str) -> None:
    """Wrap the first DittoServer of FILE in an AdmissionReview, to post with curl."""
    server = read_servers([file])[0].object
    click.echo(orjson.dumps(creation(server, str(uuid.uuid4())), option=orjson.OPT_INDENT_2).decode())
