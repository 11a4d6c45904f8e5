"""`restart`: restarts the pods of DittoServers by their annotation."""

from datetime import UTC, datetime

import click

from app.cli.annotation import annotate
from app.cli.options import Target, live_target_options, report_option
from app.storage.pause import is_paused
from app.storage.pod import RESTARTED_AT
from app.storage.unstructured import Manifest


@click.command()
@live_target_options
@report_option
def restart(target: Target, output: str) -> None:
    """Restart the pods of DittoServers.

    Clients wait until the server answers again. The annotation dittofs.io/restartedAt gets the current time, which the
    operator takes for a reason to restart the pod once. What is pending for the next rollout goes out with it.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    annotate(target, (RESTARTED_AT, now), describe, output)


def describe(server: Manifest) -> str:
    if is_paused(server):
        return "restarts once it is resumed: it is paused"
    if (server.get("spec") or {}).get("replicas") == 0:
        return "is stopped, so that there is nothing to restart"
    return "restarts"
