"""`restart`: restarts the pods of DittoServers by their annotation."""

from datetime import UTC, datetime

import click

from app.cli.annotation import annotate
from app.cli.options import Source, cluster_options, names_argument
from app.storage.pause import is_paused
from app.storage.pod import RESTARTED_AT
from app.storage.unstructured import Manifest


@click.command()
@names_argument
@cluster_options
def restart(names: tuple[str, ...], source: Source, namespace: str | None) -> None:
    """Restart the pods of DittoServers.

    Clients wait until the server answers again. The annotation dittofs.io/restartedAt gets the current time, which the
    operator takes for a reason to restart the pod once. What is pending for the next rollout goes out with it.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    annotate(source, namespace, names, (RESTARTED_AT, now), describe)


def describe(server: Manifest) -> str:
    if is_paused(server):
        return "restarts once it is resumed: it is paused"
    if (server.get("spec") or {}).get("replicas") == 0:
        return "is stopped, so that there is nothing to restart"
    return "restarts"
