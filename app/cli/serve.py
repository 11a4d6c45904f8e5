"""`serve`: reads the settings of the operator and runs it until it is told to stop."""

import asyncio
import gc
from typing import Any

import click

from app.cli.options import PATH, address_option, defaults_options, option, refuse_two_sources
from app.settings import LOG_FORMATS, LOG_LEVELS, Settings
from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN, MAX_CLUSTER_DOMAIN_CHARACTERS, is_cluster_domain
from app.storage.live import RESIZE_PATIENCE
from app.storage.operator_pods import HEALTH_PORT

# Fractions of a day are for watching a renewal; a century is more than any clock has to deal with.
DAYS = click.FloatRange(0, 36500, min_open=True)
# New objects until Python looks for garbage. Reviews leave none; to look once in 23 of them, as by default, cost 4 us
# of each and more in cold caches.
GARBAGE_THRESHOLD = 10_000


def parse_cluster_domain(text: str) -> str:
    domain = text.rstrip(".").lower()
    if not is_cluster_domain(domain):
        limit = f"at most {MAX_CLUSTER_DOMAIN_CHARACTERS} lower-case letters, digits, dashes and dots"
        raise click.BadParameter(f"{text[:40]!r} is not a domain such as {DEFAULT_CLUSTER_DOMAIN}, of {limit}")
    return domain


@click.command()
@option("--kubeconfig", type=PATH, help="Kubeconfig file of the cluster; by default, the one that runs the operator.")
@option(
    "--snapshot", type=PATH, help="File or folder of manifests to use instead of a cluster; nothing is reconciled then."
)
@address_option(
    "--listen", default="[::]:9443", help="Address of the admission webhook, over TLS; [::] is every address, IPv4 too."
)
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
@option("--service", default="dittofs-operator", help="Service that the self-managed certificate is issued for.")
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
@option("--reconcile/--no-reconcile", default=True, help="Reconcile DittoServers, or only answer admission reviews.")
@option(
    "--leader-elect/--no-leader-elect",
    default=True,
    help="Elect a leader, so that only one replica reconciles at a time.",
)
@option(
    "--server-metrics/--no-server-metrics",
    default=True,
    help="Serve metrics of each DittoServer, from the leader. Their number grows with that of the servers.",
)
@option("--namespace", multiple=True, help="Namespace to reconcile instead of all; can be given more than once.")
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=16,
    help="How many DittoServers are reconciled at once, at most; no more than 4 while the API server is overloaded.",
)
@option(
    "--resize-patience-seconds",
    type=click.IntRange(1, 86400),
    default=int(RESIZE_PATIENCE.total_seconds()),
    help="Seconds that a file system may take to grow while in use, before the pod is restarted to complete that.",
)
@defaults_options
@option(
    "--cluster-domain",
    type=parse_cluster_domain,
    metavar="DOMAIN",
    help="Domain of the cluster's DNS, in which the names of Services end; by default, the one that /etc/resolv.conf "
    f"searches, otherwise {DEFAULT_CLUSTER_DOMAIN}.",
)
@option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    help="Least severe lines to log. What is written and decided is info; debug adds each reconcile and retry.",
)
@option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="Format of the log on standard error: json for programs, text for people; by default text on a terminal and "
    "json otherwise.",
)
@address_option(
    "--health-listen", default=f"[::]:{HEALTH_PORT}", help="Address of /healthz, /readyz and /metrics, over HTTP."
)
def serve(**options: Any) -> None:
    """Run the operator: the admission webhook and the reconciler.

    It runs until it receives SIGTERM, or SIGINT to stop without waiting for requests to move to other replicas.
    """
    settings = Settings(**options)
    refuse_two_sources(settings.kubeconfig, settings.snapshot)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    if settings.snapshot and not settings.tls_cert:
        raise click.UsageError("--snapshot requires --tls-cert and --tls-key: only a cluster can store a certificate")

    # Imported modules stay. The garbage collector would spend a quarter of the start on them, and later 80 ms at a
    # time in which no review is answered.
    gc.disable()
    try:
        import uvloop

        from app import logs
        from app.certificates.source import UnusableCertificate
        from app.serve import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        why = "the operator runs on Linux and needs the packages of dittofs-operator[serve]"
        raise click.ClickException(f"{error.name} is not installed; {why}") from error

    gc.freeze()
    gc.enable()
    gc.set_threshold(GARBAGE_THRESHOLD)

    logs.configure(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_until_stopped(settings))
    except UnusableCertificate as error:
        raise click.ClickException(
            f'{error}; "python -m certs" creates a certificate and a key for development'
        ) from error
