"""`serve`: reads the settings of the operator and runs it until it is told to stop."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import click

from app import logs
from app.cli.options import PATH, option, refuse_two_sources
from app.settings import AddressType, Settings
from app.storage.live import RESIZE_PATIENCE

# A fraction of a day is for those who want to see a renewal; a century is more than any clock has to deal with.
DAYS = click.FloatRange(0, 36500, min_open=True)


@click.command()
@option(
    "--kubeconfig",
    type=PATH,
    help="Kubeconfig file of the cluster to use; by default, the cluster that runs the operator.",
)
@option(
    "--snapshot",
    type=PATH,
    help="File or folder of manifests that the webhook uses instead of a cluster. Nothing is reconciled then.",
)
@option("--listen", type=AddressType(), default="0.0.0.0:9443", help="Address of the admission webhook, over TLS.")
@option(
    "--tls-cert",
    type=PATH,
    help="Certificate chain of the webhook in PEM format, reloaded when the file changes. "
    "Without it, the operator manages a certificate itself.",
)
@option("--tls-key", type=PATH, help="Private key of --tls-cert in PEM format.")
@option(
    "--certificate-secret",
    default="dittofs-operator-tls",
    help="Secret in the operator's namespace that stores the self-managed certificate.",
)
@option(
    "--service",
    default="dittofs-operator",
    help="Service in the operator's namespace that the self-managed certificate is issued for.",
)
@option(
    "--webhook-configuration",
    default="dittofs-operator",
    help="Name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration "
    "that receive the CA of the self-managed certificate as caBundle.",
)
@option(
    "--certificate-days",
    type=DAYS,
    default=90,
    help="Validity of the self-managed certificate in days; it is renewed after two thirds of that time.",
)
@option(
    "--ca-days",
    type=DAYS,
    default=365,
    help="Validity of the CA of the self-managed certificate in days; it is renewed after two thirds of that time.",
)
@option(
    "--reconcile/--no-reconcile",
    default=True,
    help="Create and update the objects of DittoServers, or only answer admission reviews.",
)
@option(
    "--leader-elect/--no-leader-elect",
    default=True,
    help="Elect a leader with a Lease, so that only one of several replicas reconciles at a time.",
)
@option(
    "--namespace",
    multiple=True,
    help="Namespace whose DittoServers are reconciled, by default all; can be given several times.",
)
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    help="Number of DittoServers that are reconciled at the same time.",
)
@option(
    "--resize-patience-seconds",
    type=click.IntRange(1, 86400),
    default=int(RESIZE_PATIENCE.total_seconds()),
    help="Seconds that a file system may take to grow while in use, before the pod is restarted to complete that.",
)
@option(
    "--health-listen",
    type=AddressType(),
    default="0.0.0.0:8081",
    help="Address of /healthz, /readyz and /metrics, over plain HTTP.",
)
def serve(**options: Any) -> None:
    """Run the operator: the admission webhook and the reconciler.

    It runs until it receives SIGTERM, or SIGINT to stop without waiting for requests to move to other replicas.
    """
    settings = Settings(**options)
    refuse_two_sources(settings.kubeconfig, settings.snapshot)
    _require_certificate(settings.tls_cert, settings.tls_key, settings.snapshot)

    # What is imported stays: to look through it takes a quarter of the start, and later 80 ms without one answer.
    gc.disable()
    import uvloop

    from app.certificates.source import UnusableCertificate
    from app.serve import serve as serve_until_stopped

    gc.freeze()
    gc.enable()

    logs.configure()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_until_stopped(settings))
    except UnusableCertificate as error:
        raise click.ClickException(
            f'{error}; "python -m certs" creates a certificate and a key for development'
        ) from error


def _require_certificate(certificate: Path | None, key: Path | None, snapshot: Path | None) -> None:
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    if snapshot and not certificate:
        raise click.UsageError(
            "--snapshot requires --tls-cert and --tls-key: "
            "a self-managed certificate is stored in a cluster, and a snapshot is none"
        )
