"""Implements `make run`: serves this sample cluster, posts three reviews, shows the answers, stays until Ctrl-C."""

import base64
import json
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx

from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH

HERE = Path(__file__).parent.relative_to(Path.cwd())
CERTIFICATES = Path(".dev")
URL = "https://localhost:9443"
READY = "http://127.0.0.1:8081/readyz"
OPERATOR = [sys.executable, "-m", "app"]
SHOWN = (
    ("A server without cacheSize: the default comes back as a patch", "defaulted.yaml", MUTATE_PATH),
    ("A StorageClass that does not exist, and two ports that clash: rejected", "rejected.yaml", VALIDATE_PATH),
    ("A Secret with a key missing and plain http: admitted with two warnings", "warned.yaml", VALIDATE_PATH),
)


def main() -> None:
    subprocess.run([sys.executable, "-m", "certs", "--out", CERTIFICATES], check=True)
    # A shell may start background commands so that they ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    with _serving() as server:
        for title, file, path in SHOWN:
            _show(title, HERE / file, path)

        click.echo(f"Serving on {URL}; health on {READY.removesuffix('/readyz')}. Ctrl-C stops it.")
        try:
            sys.exit(f"The server ended with code {server.wait()}; its log says why")
        except KeyboardInterrupt:
            click.echo()

    click.echo("Stopped.")


@contextmanager
def _serving() -> Iterator[subprocess.Popen[bytes]]:
    pair = [f"--tls-cert={CERTIFICATES / 'tls.crt'}", f"--tls-key={CERTIFICATES / 'tls.key'}"]
    log = CERTIFICATES / "operator.log"
    with log.open("w") as stderr:
        command = [*OPERATOR, "serve", "--log-format=text", "--snapshot", str(HERE / "snapshot.yaml"), *pair]
        server = subprocess.Popen(command, stderr=stderr)

    try:
        _wait_until_ready(server, log)
        click.echo(f"Serving; the log is in {log}\n")
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)


def _wait_until_ready(server: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds

    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"The server ended with code {server.returncode}:\n{log.read_text()}")

        try:
            if httpx.get(READY).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)

    sys.exit(f"The server was not ready after {seconds:.0f} s:\n{log.read_text()}")


def _show(title: str, manifest: Path, path: str) -> None:
    review = subprocess.run([*OPERATOR, "review", manifest], check=True, capture_output=True).stdout
    trust = ssl.create_default_context(cafile=CERTIFICATES / "ca.crt")
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{URL}{path}", content=review, headers=headers, verify=trust).json()["response"]

    click.secho(title, bold=True)
    click.echo(f"$ {_curl(manifest, path)}")
    click.echo(json.dumps(response, indent=2))

    for operation in json.loads(base64.b64decode(response.get("patch", "W10="))):
        click.secho(f"  patch: {operation['op']} {operation['path']} = {operation['value']}", fg="green")
    for cause in response.get("status", {}).get("details", {}).get("causes", []):
        click.secho(f"  rejected: {cause['field']}: {cause['message']}", fg="red")
    for warning in response.get("warnings", []):
        click.secho(f"  warning: {warning}", fg="yellow")
    click.echo()


def _curl(manifest: Path, path: str) -> str:
    review = shlex.join([".venv/bin/dittofs-operator", "review", str(manifest)])
    curl = ["curl", "--silent", "--cacert", str(CERTIFICATES / "ca.crt"), "--header", "Content-Type: application/json"]
    return f"{review} | {shlex.join([*curl, '--data-binary', '@-', f'{URL}{path}'])}"


if __name__ == "__main__":
    main()
