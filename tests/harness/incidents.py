"""Stages twelve incidents of a DittoServer named files, as a cluster would report them to the real API server.

Whatever the operator, the plugin or kubectl shows while the `with` lasts is what a person would see at night.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from app.reconcile.server_metrics import ServerMetrics
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.webhook_configurations import webhook_configurations
from certs.authority import SERVING_LIFE, Authority
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import BUCKET, CURRENT, S3, DittoFS
from tests.harness.kubelet import kubelet
from tests.harness.nodes import crash_pod, node, patch_status, run_pod_on, set_node, set_pod
from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.served_site import served_site
from tests.harness.server_table import server, storage
from tests.harness.volume_driver import Expansion, VolumeDriver
from tests.harness.wait import until

GIB = 2**30
MISSPELT_IMAGE = "registry.example.com/dittofs:lates"


@dataclass(frozen=True)
class Place:
    """What an incident is staged with; the programs of the stand-in are built when one asks for them."""

    control_plane: ControlPlane
    namespace: str
    folder: Path
    driver: VolumeDriver
    standin: Callable[[], Path]

    def operated(self) -> OperatorNamespace:
        return OperatorNamespace(self.control_plane, self.namespace, self.folder)

    @contextmanager
    def serving(self, **spec: Any) -> Iterator[OperatorNamespace]:
        """Runs the operator, and a server that is ready on a node of its own."""
        with self.operated() as operated, node(operated) as name:
            operated.apply(server(**{**storage(storageClassName=self.driver.storage_class), **spec}))
            run_pod_on(operated, name)
            wait_for(operated, "StorageReady", "Bound")
            wait_for(operated, "Ready", "Available")
            yield operated


# Returns what Prometheus scrapes; empty when nobody answers.
Scrape = Callable[[], str]
Stage = Callable[[Place], AbstractContextManager[Scrape]]


def wait_for(operated: Namespace, kind: str, reason: str) -> None:
    until(lambda: (operated.condition("files", kind) or {}).get("reason") == reason)


@contextmanager
def quota(place: Place) -> Iterator[Scrape]:
    team = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": {"pods": "0"}}}
    with place.operated() as operated:
        operated.apply(team, server(**storage(storageClassName=place.driver.storage_class)))
        wait_for(operated, "Ready", "QuotaExceeded")
        wait_for(operated, "StorageReady", "Bound")
        yield operated.operator.scrape


@contextmanager
def lost_node(place: Place) -> Iterator[Scrape]:
    """The node controller sets the node to Unknown, takes Ready away from its pods, and deletes them later."""
    with place.serving() as operated:
        name = operated.get("pod", "files-0")["spec"]["nodeName"]
        set_node(operated, name, "Unknown")
        set_pod(operated, ready=False)
        wait_for(operated, "Ready", "NodeLost")
        yield operated.operator.scrape


@contextmanager
def rejected_key(place: Place) -> Iterator[Scrape]:
    """Somebody replaces the key in the bucket, and the Secret keeps the previous one."""
    standin = place.standin()
    dittofs, folder = DittoFS(standin, CURRENT, place.folder / CURRENT), place.folder / "s3"

    async def stage(s3: S3) -> str:
        keys = {"accessKeyId": "first", "secretAccessKey": "marker-secret", "endpoint": s3.url}
        async with served_site(place.control_plane, place.namespace, dittofs, place.folder) as site:
            await site.put_secret("s3", **keys)
            bucket = {"credentialsSecretRef": {"secretName": "s3"}, "bucket": BUCKET}
            storage_class = storage(storageClassName=place.driver.storage_class)
            await site.create(s3=bucket, shares=[{"name": "media"}], **storage_class)
            async with site.operated():
                await site.until_condition("CredentialsReady", "True", "Found")
                await site.until_condition("StorageReady", "True", "Bound")
                await site.until_condition("StoresReady", "True", "Loaded")
                await asyncio.to_thread(lambda: s3.put_keys(second="another-secret"))
                await site.put_secret("s3", **{**keys, "secretAccessKey": "marker-wrong"})
                await site.until_condition("CredentialsReady", "False", "CredentialsRejected")
                return "".join([part async for part in ServerMetrics(site.informers, lambda: True).parts()])

    with S3(standin, folder, first="marker-secret") as s3:
        scraped = asyncio.run(stage(s3))
        yield lambda: scraped + 'leader_election_master_status{name="dittofs-operator"} 1\n'


@contextmanager
def full_disk(place: Place) -> Iterator[Scrape]:
    name = f"full-{place.namespace}"
    volumes = [
        {
            "pvcRef": {"name": f"{volume}-files-0", "namespace": place.namespace},
            "usedBytes": used,
            "capacityBytes": size,
        }
        for volume, used, size in (("metadata", 10 * GIB - 1, 10 * GIB), ("cache", 2 * GIB, 5 * GIB))
    ]
    claim = f'{{namespace="{place.namespace}",persistentvolumeclaim="metadata-files-0"}}'
    figures = {"used": 10 * GIB - 1, "capacity": 10 * GIB}
    of_kubelet = "".join(f"kubelet_volume_stats_{name}_bytes{claim} {size}\n" for name, size in figures.items())
    with place.operated() as operated, kubelet(place.control_plane, name, {"pods": [{"volume": volumes}]}):
        operated.apply(server(**storage(storageClassName=place.driver.storage_class)))
        run_pod_on(operated, name)
        wait_for(operated, "StorageReady", "Bound")
        wait_for(operated, "Ready", "Available")
        yield lambda: operated.operator.scrape() + of_kubelet


@contextmanager
def crashed(place: Place) -> Iterator[None]:
    """In addition to an incident in which the server ran so far."""
    here = Namespace(place.control_plane, place.namespace)
    crash_pod(here, "files-0", restarts=7)
    wait_for(here, "Ready", "CrashLoopBackOff")
    yield


@contextmanager
def ended_pod(place: Place) -> Iterator[None]:
    """In addition to an incident in which nobody is left to report it in the status."""
    crash_pod(Namespace(place.control_plane, place.namespace), "files-0")
    yield


@contextmanager
def rejected_resize(place: Place) -> Iterator[Scrape]:
    place.driver.expansion = Expansion(most="8Gi")
    with place.serving() as operated:
        operated.patch("dittoserver", "files", spec={"storage": {"cacheSize": "20Gi"}})
        wait_for(operated, "Stalled", "ResizeRefused")
        yield operated.operator.scrape


@contextmanager
def name_conflict(place: Place) -> Iterator[Scrape]:
    with place.operated() as operated:
        operated.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files-config"}})
        operated.apply(server(**storage(storageClassName=place.driver.storage_class)))
        wait_for(operated, "Stalled", "NameTaken")
        wait_for(operated, "Ready", "NameTaken")
        yield operated.operator.scrape


@contextmanager
def webhook_down(place: Place) -> Iterator[Scrape]:
    """The operator's process ends, and the endpoint controller no longer finds a pod that is ready."""
    with place.serving() as operated, WebhookService(operated) as service:
        operated.operator.stop()
        service.put_endpoint(ready=False)
        until(lambda: "connection refused" in service.try_edit())
        yield str


@contextmanager
def expired_certificate(place: Place) -> Iterator[Scrape]:
    """Nobody renewed the certificate in the files that the operator was given, and it restarts.

    The API server would use its open connections until then.
    """
    with place.serving() as operated, WebhookService(operated) as service:
        operated.operator.stop()
        service.put_certificate(datetime.now(UTC) - 2 * SERVING_LIFE)
        operated.operator.start()
        until(lambda: "certificate has expired" in service.try_edit())
        yield operated.operator.scrape


class WebhookService:
    """Registers the operator's webhooks inside a `with`, by a Service that leads to its process."""

    def __init__(self, operated: OperatorNamespace) -> None:
        self._operated = operated
        self._authority = Authority.create("a CA of the test", datetime.now(UTC))

    def __enter__(self) -> Self:
        operated, name = self._operated, self._operated.namespace
        port = urlsplit(operated.operator.url).port
        spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        operated.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "operator"}, "spec": spec})
        self.put_endpoint(ready=True)
        self.put_certificate(datetime.now(UTC))

        bundle = base64.b64encode(self._authority.pem).decode()
        service = {"namespace": name, "name": "operator", "port": port}
        configurations = webhook_configurations(lambda path: {"service": {**service, "path": path}, "caBundle": bundle})
        for configuration in configurations:
            configuration["metadata"] = {"name": name}
            configuration["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": name}}
        operated.apply(*configurations)
        until(lambda: self.try_edit() == "")
        return self

    def __exit__(self, *_: object) -> None:
        for kind in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
            self._operated.control_plane.delete(
                f"/apis/admissionregistration.k8s.io/v1/{kind}/{self._operated.namespace}"
            )

    def put_endpoint(self, *, ready: bool) -> None:
        """Reports as the endpoint controller does whether the operator's only pod is ready."""
        metadata = {"name": "operator-1", "labels": {"kubernetes.io/service-name": "operator"}}
        endpoints = [{"addresses": ["10.0.0.9"], "conditions": {"ready": ready}}]
        about = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
        self._operated.apply({**about, "addressType": "IPv4", "endpoints": endpoints})

    def put_certificate(self, issued: datetime) -> None:
        pair = self._authority.issue_pair([f"operator.{self._operated.namespace}.svc"], issued)
        for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (self._operated.operator.folder / name).write_bytes(content)

    def try_edit(self) -> str:
        """Returns why a change of the spec is refused, without storing it; empty when it is not."""
        change = '{"spec":{"image":"example.com/dittofs:newer"}}'
        options = ("--namespace", self._operated.namespace, "patch", "dittoserver", "files", "--type=merge")
        result = self._operated.control_plane.kubectl(*options, "--dry-run=server", "-p", change, check=False)
        return result.stderr if result.returncode else ""


@contextmanager
def wrong_image(place: Place) -> Iterator[Scrape]:
    with place.operated() as operated:
        operated.apply(server(image=MISSPELT_IMAGE, **storage(storageClassName=place.driver.storage_class)))
        until(lambda: bool(operated.get("pod", "files-0")))
        wait_for(operated, "StorageReady", "Bound")
        waiting = {
            "reason": "ImagePullBackOff",
            "message": f'Back-off pulling image "{MISSPELT_IMAGE}": ErrImagePull: rpc error: code = NotFound desc = '
            f'failed to pull and unpack image "{MISSPELT_IMAGE}": failed to resolve reference "{MISSPELT_IMAGE}": '
            f"{MISSPELT_IMAGE}: not found",
        }
        container = {"name": "dittofs", "ready": False, "restartCount": 0, "image": MISSPELT_IMAGE, "imageID": ""}
        status = {"phase": "Pending", "containerStatuses": [{**container, "state": {"waiting": waiting}}]}
        patch_status(operated, "files-0", status)
        wait_for(operated, "Ready", "ImagePullBackOff")
        yield operated.operator.scrape


@contextmanager
def terminating_claim(place: Place) -> Iterator[Scrape]:
    with place.serving() as operated:
        operated.kubectl("delete", "pvc", "metadata-files-0", "--wait=false")
        wait_for(operated, "StorageReady", "ClaimTerminating")
        yield operated.operator.scrape


@contextmanager
def paused(place: Place) -> Iterator[Scrape]:
    """Somebody paused the server for some work on it, and another wonders why an edit has no effect."""
    with place.serving() as operated:
        operated.kubectl("annotate", "dittoserver", "files", f"{PAUSED_ANNOTATION}=true")
        wait_for(operated, "Reconciling", "Paused")
        operated.patch("dittoserver", "files", spec={"image": "example.com/dittofs:newer"})
        operated.wait_until_observed("files")
        yield operated.operator.scrape


@contextmanager
def invalid_resources(place: Place) -> Iterator[Scrape]:
    with place.operated() as operated:
        resources = {"limits": {"memory": "lots"}}
        operated.apply(server(resources=resources, **storage(storageClassName=place.driver.storage_class)))
        wait_for(operated, "Stalled", "SectionRejected")
        wait_for(operated, "Ready", "SectionRejected")
        yield operated.operator.scrape
