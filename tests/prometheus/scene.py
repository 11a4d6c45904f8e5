"""Servers in many states that a real operator looks after, and a Prometheus that scrapes it.

No kubelet runs: the test says what the kubelet reports about pods, and serves its metrics about volumes in their
documented shape.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from app.storage.pause import PAUSED_ANNOTATION
from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background
from tests.harness.nodes import node, patch_status, run_pod_on
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server, storage
from tests.harness.volume_driver import Expansion, VolumeDriver
from tests.harness.wait import until
from tests.prometheus.server import Prometheus, Target

GIB = 2**30
VERSION = "0.29.0"
IMAGE = f"marmos91c/dittofs:v{VERSION}"
MISSPELT = "registry.example.com/dittofs:lates"
HEARTBEAT_SECONDS = 10
RESTARTED = "dittofs.io/restartedAt"

# The state of each server once the scene is set: the reason of Stalled if that is True, else of Ready.
REASONS = {
    "archive": "ResizeRefused",
    "backup": "ImagePullBackOff",
    "films": "Available",
    "inbox": "Available",
    "music": "Available",
    "notes": "Stopped",
    "scans": "SecretNotFound",
}
# How full the volumes are, as a share of their size.
FULL = {"archive": 0.62, "films": 0.94, "inbox": 0.18, "music": 0.35}


@dataclass(frozen=True)
class Scene:
    """`volumes` has, by claim, the bytes that are used and those that there are; they may be changed at any time."""

    operated: OperatorNamespace
    prometheus: Prometheus
    node: str
    volumes: dict[str, tuple[float, float]]

    def restart(self, name: str) -> None:
        """Restarts a server as `kubectl dittofs restart` does, and reports the new pod ready."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self.operated.kubectl("annotate", "--overwrite", "dittoserver", name, f"{RESTARTED}={now}")
        self.replace_pod(name)

    def replace_pod(self, name: str) -> None:
        """Does what a kubelet does with a pod that restarts."""
        until(lambda: "deletionTimestamp" in self.operated.get("pod", f"{name}-0")["metadata"])
        # As the kubelet does once the containers have ended.
        self.operated.kubectl("delete", "pod", f"{name}-0", "--force", "--grace-period=0")
        run_pod_on(self.operated, self.node, f"{name}-0")
        wait_for(self.operated, name, "Reconciling", "Reconciled")


def wait_for(operated: OperatorNamespace, name: str, kind: str, reason: str) -> None:
    until(lambda: (operated.condition(name, kind) or {}).get("reason") == reason)


@contextmanager
def scene(control_plane: ControlPlane, namespace: str, folder: Path) -> Iterator[Scene]:
    """Sets the scene in the namespace, whose reviews the operator answers."""
    operated = OperatorNamespace(control_plane, namespace, folder, self_managed=True)
    operated.register()
    volumes: dict[str, tuple[float, float]] = {}
    try:
        with VolumeDriver(control_plane, namespace) as driver, operated, kubelet_page(namespace, volumes) as kubelet:
            operator = Target(
                "dittofs-operator",
                operated.operator.health_url.removeprefix("http://"),
                {"namespace": "dittofs-system", "pod": "dittofs-operator-5d9c8b7f6d-x7k2p"},
            )
            prometheus = Prometheus(folder / "prometheus", operator, Target("kubelet", kubelet))
            with prometheus, node(operated) as name, Heartbeats(operated, name):
                _set(operated, driver, name, volumes)
                yield Scene(operated, prometheus, name, volumes)
    finally:
        operated.kubectl("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", namespace)


class Heartbeats(Background):
    """Keeps the node ready, whose pods would be taken for lost after 40 seconds."""

    def __init__(self, operated: OperatorNamespace, name: str) -> None:
        super().__init__()
        self._operated = operated
        self._name = name

    def run(self) -> None:
        while not self.ending.wait(HEARTBEAT_SECONDS):
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            change = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now}]}}
            self._operated.kubectl("patch", "node", self._name, "--subresource=status", "--patch", json.dumps(change))


@contextmanager
def kubelet_page(namespace: str, volumes: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Serves the kubelet's metrics about volumes: by claim, the bytes that are used and those that there are."""

    class PageHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = []
            for position, name in enumerate(("used_bytes", "capacity_bytes")):
                lines.append(f"# TYPE kubelet_volume_stats_{name} gauge")
                for claim, values in sorted(volumes.items()):
                    labels = f'namespace="{namespace}",persistentvolumeclaim="{claim}"'
                    lines.append(f"kubelet_volume_stats_{name}{{{labels}}} {values[position]}")

            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write("".join(f"{line}\n" for line in lines).encode())

        def log_message(self, *_: object) -> None:
            """Logs nothing: nobody would read it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), PageHandler) as page:
        thread = Thread(target=page.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{page.server_address[1]}"
        finally:
            page.shutdown()
            thread.join()


def _set(
    operated: OperatorNamespace, driver: VolumeDriver, node_name: str, volumes: dict[str, tuple[float, float]]
) -> None:
    on_driver = storage(storageClassName=driver.storage_class, metadataSize="10Gi", cacheSize="20Gi")
    specs: dict[str, dict[str, Any]] = {
        "backup": {"image": MISSPELT},
        "music": {"s3": {"credentialsSecretRef": {"secretName": "music-s3"}}},
        "notes": {"replicas": 0},
        "scans": {"s3": {"credentialsSecretRef": {"secretName": "s3"}}},
    }
    operated.put_secret("music-s3", accessKeyId="first", secretAccessKey="marker-secret")
    operated.apply(*(server(name, **{"image": IMAGE, **on_driver, **specs.get(name, {})}) for name in REASONS))
    # The webhook refuses this one.
    with suppress(subprocess.CalledProcessError):
        operated.apply(server("other", **storage(storageClassName="none")))

    for name in FULL:
        run_pod_on(operated, node_name, f"{name}-0")
    _misspell_image(operated, "backup")
    for name in FULL:
        wait_for(operated, name, "StorageReady", "Bound")
        wait_for(operated, name, "Reconciling", "Reconciled")

    for name, share in FULL.items():
        # As the server itself has said about itself, which stays until it says something else.
        reported = json.dumps({"status": {"server": {"version": VERSION}}})
        operated.kubectl("patch", "dittoserver", name, "--subresource=status", "--type=merge", "-p", reported)
        for volume, size in (("metadata", 10 * GIB), ("cache", 20 * GIB)):
            volumes[f"{volume}-{name}-0"] = (share * size if volume == "metadata" else 0.3 * size, size)

    driver.claim_expansions["cache-archive-0"] = Expansion(most="30Gi")
    operated.patch("dittoserver", "archive", spec={"storage": {"cacheSize": "40Gi"}})
    operated.kubectl("annotate", "dittoserver", "inbox", f"{PAUSED_ANNOTATION}=true")
    for name, reason in REASONS.items():
        wait_for(operated, name, "Stalled" if reason == "ResizeRefused" else "Ready", reason)


def _misspell_image(operated: OperatorNamespace, name: str) -> None:
    """Reports as the kubelet does when no registry has the image."""
    until(lambda: bool(operated.get("pod", f"{name}-0")))
    waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{MISSPELT}"'}
    container = {"name": "dittofs", "ready": False, "restartCount": 0, "image": MISSPELT, "imageID": ""}
    status = {"phase": "Pending", "containerStatuses": [{**container, "state": {"waiting": waiting}}]}
    patch_status(operated, f"{name}-0", status)
