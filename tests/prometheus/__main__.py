"""Draws the dashboard with real data, for the documentation; `make picture` runs it."""

import json
import os
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import click
import httpx
import yaml

from app.storage.crd import custom_resource_definition
from manifests.dashboard import dashboard
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.fleet import namespaced_server
from tests.harness.nodes import run_pod_on
from tests.harness.server_table import s3, server, storage
from tests.prometheus.grafana import Grafana
from tests.prometheus.picture import draw
from tests.prometheus.scene import FULL, GIB, IMAGE, Scene, scene, wait_for

NAMESPACE = "media"


@click.command(help="Run an operator with servers in many states for a while, and draw the dashboard into FILE.")
@click.option("--seconds", default=150, show_default=True, help="How long it runs, and what the graphs show.")
@click.argument("file", type=click.Path(path_type=Path))
def main(seconds: int, file: Path) -> None:
    with TemporaryDirectory() as folder, ControlPlane(programs(os.environ), Path(folder)) as control_plane:
        control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
        control_plane.wait_until_established("dittoservers.dittofs.dittofs.com")
        control_plane.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

        operator = Path(folder, "operator")
        operator.mkdir()
        with scene(control_plane, NAMESPACE, operator) as running:
            play(running, seconds)
            shown = json.loads(json.dumps(dashboard()))
            grafana = Grafana(shown, running.prometheus, seconds, max(seconds // 120, 1))
            grafana.open()
            draw(grafana, file)


def play(running: Scene, seconds: int) -> None:
    """Lets a volume fill, two servers restart, one be created, and users send specs, good and bad."""
    acts = iter([(0.3, restart), (0.5, create), (0.65, become_ready), (0.75, edit)])
    at, act = next(acts)
    specs = cycle(([{}] * 6) + [s3(), {}, storage(storageClassName="none"), {}])
    begun = monotonic()

    while (part := (monotonic() - begun) / seconds) < 1:
        used = (0.8 + (FULL["films"] - 0.8) * part) * 10 * GIB
        running.volumes["metadata-films-0"] = (used, 10 * GIB)
        review(running, next(specs))
        if part > at:
            act(running)
            at, act = next(acts, (2.0, restart))
        sleep(0.5)


def review(running: Scene, spec: Any) -> None:
    """Sends a server to the API server, which has it reviewed and does not store it."""
    path = f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{NAMESPACE}/dittoservers?dryRun=All"
    manifest = namespaced_server("draft", NAMESPACE, **{**storage(storageClassName=NAMESPACE), **spec})
    with suppress(httpx.HTTPStatusError):
        running.operated.control_plane.create(path, manifest)


def restart(running: Scene) -> None:
    running.restart("music")


def create(running: Scene) -> None:
    running.operated.apply(server("photos", image=IMAGE, **storage(storageClassName=NAMESPACE, cacheSize="20Gi")))


def become_ready(running: Scene) -> None:
    run_pod_on(running.operated, running.node, "photos-0")
    wait_for(running.operated, "photos", "Ready", "Available")
    running.volumes.update({"metadata-photos-0": (GIB, 10 * GIB), "cache-photos-0": (GIB, 20 * GIB)})


def edit(running: Scene) -> None:
    running.operated.patch("dittoserver", "films", spec={"cache": {"size": "2GB"}})
    running.replace_pod("films")


if __name__ == "__main__":
    main()
