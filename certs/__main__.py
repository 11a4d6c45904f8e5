"""`python -m certs`: a CA and a serving pair in files, for development. The CA's key is not kept."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from certs.authority import Authority, serves

ALWAYS = ("localhost", "127.0.0.1", "::1")
_STILL_GOOD = timedelta(days=1)


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(".dev"), show_default=True)
@click.option("--host", "hosts", multiple=True, help="A further DNS name or IP address; may be repeated.")
def main(out: Path, hosts: tuple[str, ...]) -> None:
    """Write ca.crt, tls.crt and tls.key for localhost. What is there and still good for a day is kept."""
    names = [*ALWAYS, *hosts]
    now = datetime.now(UTC)
    if _is_good(out, names, now + _STILL_GOOD):
        click.echo(f"Certificates in {out} are still good")
        return
    authority = Authority.make("dittofs-operator development CA", now)
    pair = authority.serving_pair(names, now)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (("ca.crt", authority.pem), ("tls.key", pair.key), ("tls.crt", pair.certificate)):
        _write(out / name, content)
    click.echo(f"Made ca.crt, tls.crt and tls.key in {out} for {', '.join(names)}")


def _is_good(out: Path, names: list[str], until: datetime) -> bool:
    authority, certificate, key = (out / name for name in ("ca.crt", "tls.crt", "tls.key"))
    if not (authority.is_file() and certificate.is_file() and key.is_file()):
        return False
    return serves(certificate.read_bytes(), authority.read_bytes(), names, until)


def _write(file: Path, content: bytes) -> None:
    """All of it or nothing, and readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as written:
        written.write(content)
    Path(name).rename(file)


if __name__ == "__main__":
    main()
