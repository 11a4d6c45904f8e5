"""`serve`: reads the settings of the operator and runs it until it is told to stop."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import click

from app import logs
from app.cli.options import PATH, kubeconfig_option, option, refuse_two_sources, snapshot_option
from app.settings import AddressType, Settings
from app.storage.live import RESIZE_PATIENCE

# A fraction of a day is for those who want to see a renewal; a century is more than any clock has to deal with.
DAYS = click.FloatRange(0, 36500, min_open=True)


@click.command()
@kubeconfig_option
@snapshot_option
@option("--listen", type=AddressType(), default="0.0.0.0:9443", help="Where reviews are answered, over TLS.")
@option(
    "--tls-cert", type=PATH, help="Certificate chain in PEM, read again when it changes; without, it makes its own."
)
@option("--tls-key", type=PATH, help="Its private key in PEM.")
@option("--certificate-secret", default="dittofs-operator-tls", help="Where it keeps its own, in its own namespace.")
@option("--service", default="dittofs-operator", help="The Service that its own is for.")
@option("--webhook-configuration", default="dittofs-operator", help="Which both get the CA of its own as caBundle.")
@option("--certificate-days", type=DAYS, default=90, help="How long its own is valid; renewed at two thirds of it.")
@option("--ca-days", type=DAYS, default=365, help="How long the CA of its own is valid; renewed likewise.")
@option("--reconcile/--no-reconcile", default=True, help="Make what DittoServers describe, or only judge them.")
@option("--leader-elect/--no-leader-elect", default=True, help="Of several replicas, only one reconciles at a time.")
@option("--namespace", multiple=True, help="Look after this namespace only; can be given more than once.")
@option("--workers", type=click.IntRange(1, 64), default=4, help="How many DittoServers are reconciled at once.")
@option(
    "--resize-patience-seconds",
    type=click.IntRange(1, 86400),
    default=int(RESIZE_PATIENCE.total_seconds()),
    help="How long a file system may take to grow while it is in use, before the pod is restarted for it.",
)
@option("--health-listen", type=AddressType(), default="0.0.0.0:8081", help="/healthz, /readyz, /metrics, plain.")
def serve(**options: Any) -> None:
    """Answer the API server's admission reviews until told to stop."""
    settings = Settings(**options)
    refuse_two_sources(settings.kubeconfig, settings.snapshot)
    _require_certificate(settings.tls_cert, settings.tls_key, settings.snapshot)

    # What is imported stays: to look through it takes a quarter of the start, and later 80 ms without one answer.
    gc.disable()
    import uvloop

    from app.admission.server import UnusableCertificate
    from app.serve import serve as serve_until_stopped

    gc.freeze()
    gc.enable()

    logs.configure()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_until_stopped(settings))
    except UnusableCertificate as error:
        raise click.ClickException(f"{error}; python -m certs makes a pair for development") from error


def _require_certificate(certificate: Path | None, key: Path | None, snapshot: Path | None) -> None:
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key belong together: give both, or neither")
    if snapshot and not certificate:
        raise click.UsageError(
            "--snapshot needs --tls-cert and --tls-key: there is no cluster to keep a certificate in"
        )
