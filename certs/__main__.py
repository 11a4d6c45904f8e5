"""`python -m certs` writes a CA and a serving pair to files, for development. It does not keep the CA's key."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from certs.authority import Authority, serves

ALWAYS_INCLUDED = ("localhost", "127.0.0.1", "::1")
KEEP_IF_VALID_FOR = timedelta(days=1)


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(".dev"), show_default=True)
@click.option("--host", "hosts", multiple=True, help="A further DNS name or IP address; may be repeated.")
def main(out: Path, hosts: tuple[str, ...]) -> None:
    """Write ca.crt, tls.crt and tls.key for localhost, unless those in the folder are valid for another day."""
    names = [*ALWAYS_INCLUDED, *hosts]
    now = datetime.now(UTC)
    ca, certificate, key = (out / name for name in ("ca.crt", "tls.crt", "tls.key"))
    complete = ca.is_file() and certificate.is_file() and key.is_file()
    if complete and serves(certificate.read_bytes(), ca.read_bytes(), names, now + KEEP_IF_VALID_FOR):
        click.echo(f"Certificates in {out} are still good")
        return

    authority = Authority.create("dittofs-operator development CA", now)
    pair = authority.issue_pair(names, now)
    out.mkdir(parents=True, exist_ok=True)
    for file, content in ((ca, authority.pem), (key, pair.key), (certificate, pair.certificate)):
        _write(file, content)
    click.echo(f"Wrote ca.crt, tls.crt and tls.key to {out} for {', '.join(names)}")


def _write(file: Path, content: bytes) -> None:
    """Writes the whole file or nothing, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as temporary:
        temporary.write(content)
    Path(name).rename(file)


if __name__ == "__main__":
    main()
