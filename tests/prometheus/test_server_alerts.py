"""Each alert about a server fires and resolves: a real operator looks after a server in the situation, and is scraped.

Only how full volumes are is not scraped: the kubelet serves that, as `kubelet_volume_stats_*`.
"""

import re
from functools import partial
from pathlib import Path

import pytest

from app.dittofs.client import ServerClient
from app.reconcile.server_metrics import ServerMetrics
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.pod import RESTARTED_AT
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import BUCKET, CURRENT, S3, DittoFS
from tests.harness.nodes import crash_pod, node, run_pod_on, set_pod
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.operator_process import Operator
from tests.harness.raw_server import connect_to, raw_server
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.recorded_health import S3_FORBIDDEN, legacy_answers
from tests.harness.served_site import served_site
from tests.harness.server_table import server
from tests.harness.volume_driver import ONLINE, Expansion, VolumeDriver
from tests.harness.wait import until, until_async
from tests.prometheus.proof import Firing, Proof, proves
from tests.prometheus.timeline import Moment
from tests.test_server_health import Site

LEADER, FOLLOWER = "dittofs-operator-a", "dittofs-operator-b"


def moment(minutes: int, text: str, others: str = "") -> Moment:
    return Moment(minutes, {LEADER: text}, others)


class Server:
    """The DittoServer named files, with volumes of the driver and a pod that the test reports about."""

    def __init__(self, operated: OperatorNamespace, driver: VolumeDriver) -> None:
        self.operated = operated
        self.operator = operated.operator
        self.driver = driver
        self.namespace = operated.namespace
        self.labels = {"namespace": operated.namespace, "server": "files"}

    def create(self, **spec: object) -> None:
        self.operated.apply(server("files", **{"storage": self.storage(), **spec}))
        until(lambda: bool(self.operated.get("pod", "files-0")))
        set_pod(self.operated, ready=True)
        self.wait_for(type="Ready", status="True")

    def storage(self, **sizes: str) -> Manifest:
        return {"metadataSize": "10Gi", "storageClassName": self.driver.storage_class, **sizes}

    def resize(self, size: str) -> None:
        self.operated.patch("dittoserver", "files", spec={"storage": {"cacheSize": size}})

    def scrape(self) -> str:
        return self.operator.health("/metrics").text

    def wait_for(self, name: str = "condition", **labels: str) -> str:
        """Returns what is served once the series of the server is 1."""
        served = ""

        def is_served() -> bool:
            nonlocal served
            served = self.scrape()
            return value_of(served, f"dittofs_operator_server_{name}", **self.labels, **labels) == 1

        until(is_served)
        return served


def value_of(text: str, name: str, **labels: str) -> float | None:
    """Returns the value of the first series that has the labels, None when there is none."""
    for series, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
        if labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', series)).items():
            return float(value)
    return None


@pytest.fixture
def files(operated: OperatorNamespace, driver: VolumeDriver) -> Server:
    return Server(operated, driver)


@proves("DittofsServerNotReady")
def test_a_server_that_crashes(files: Server, proof: Proof) -> None:
    files.create()
    before = files.scrape()
    crash_pod(files.operated, "files-0")
    during = files.wait_for("info", reason="CrashLoopBackOff")
    set_pod(files.operated, ready=True)
    after = files.wait_for(type="Ready", status="True")

    firing = Firing({"severity": "critical", **files.labels}, looked_up=" (CrashLoopBackOff)")
    proof.fires_and_resolves(moment(15, before), moment(30, during), moment(10, after), firing)


@proves("DittofsServerNotReady")
def test_a_crashing_server_whose_operator_and_reason_change(files: Server, tmp_path: Path, proof: Proof) -> None:
    files.create()
    ready = files.scrape()
    (tmp_path / "second").mkdir()
    operated = files.operated
    second = Operator(tmp_path / "second", "--namespace", operated.namespace, *operated.flags)

    with second:
        crash_pod(operated, "files-0")
        crashes = files.wait_for("info", reason="CrashLoopBackOff")
        follows = second.health("/metrics").text
        operated.operator.stop()
        files.operator = second
        leads = files.wait_for("info", reason="CrashLoopBackOff")
        set_pod(operated, ready=False)
        stuck = files.wait_for("info", reason="PodStarting")
        set_pod(operated, ready=True)
        recovered = files.wait_for(type="Ready", status="True")

    assert value_of(follows, "dittofs_operator_server_info") is None
    moments = [
        Moment(5, {LEADER: ready, FOLLOWER: follows}),
        Moment(15, {LEADER: crashes, FOLLOWER: follows}),
        Moment(2, {FOLLOWER: follows}),
        Moment(10, {FOLLOWER: leads}),
        Moment(10, {FOLLOWER: stuck}),
    ]
    crashing, unexplained, starting = (
        Firing({"severity": "critical", **files.labels}, looked_up=reason)
        for reason in (" (CrashLoopBackOff)", "", " (PodStarting)")
    )

    proof.keeps_firing(
        moments,
        (range(18, 20), crashing),
        (range(20, 22), unexplained),
        (range(22, 32), crashing),
        (range(32, 42), starting),
    )
    # The last value of the previous leader does not keep it from resolving at once.
    proof.evaluate([*moments[:3], Moment(2, {FOLLOWER: recovered})], [proof.silent(22.5), proof.silent(23.5)])
    proof.done = True


@proves("DittofsServerRestartLoop")
def test_a_container_that_restarts(files: Server, proof: Proof) -> None:
    files.create()
    before = files.scrape()
    crash_pod(files.operated, "files-0", restarts=3)
    during = files.wait_for("info", reason="CrashLoopBackOff")
    set_pod(files.operated, ready=True)
    after = files.wait_for(type="Ready", status="True")

    firing = Firing({"severity": "critical", **files.labels})
    proof.fires_and_resolves(moment(40, before), moment(20, during), moment(40, after), firing)


@proves("DittofsServerRestartLoop")
def test_an_operator_that_restarts_the_pod(files: Server, proof: Proof) -> None:
    files.create()
    before = files.scrape()
    change = {"annotations": {RESTARTED_AT: "2026-11-27T03:00:00Z"}}
    files.operated.patch("dittoserver", "files", metadata=change)
    during = files.wait_for("restarts_total", cause="requested")
    after = files.scrape()

    firing = Firing({"severity": "critical", **files.labels})
    proof.fires_and_resolves(moment(40, before), moment(20, during), moment(40, after), firing)


@proves("DittofsVolumeNearlyFull")
def test_a_volume_without_space(files: Server, proof: Proof) -> None:
    files.create()
    served = files.scrape()
    fill = partial(kubelet, files.namespace)

    labels = {**files.labels, "volume": "cache", "persistentvolumeclaim": "cache-files-0"}
    firing = [Firing({"severity": severity, **labels}, value="98%") for severity in ("warning", "critical")]
    proof.fires_and_resolves(
        moment(10, served, fill(cache=0.5)),
        moment(30, served, fill(cache=0.98)),
        moment(10, served, fill(cache=0.6)),
        *firing,
    )

    nearly = moment(30, served, fill(cache=0.92))
    [warning, _critical] = [Firing(firing.labels, value="92%") for firing in firing]
    proof.keeps_firing([moment(10, served, fill(cache=0.5)), nearly], (range(27, 40), warning))


def kubelet(namespace: str, *, cache: float) -> str:
    """Returns what a kubelet serves about the volumes of the server, and about one of somebody else that is full."""
    lines = []
    for claim, part in (("cache-files-0", cache), ("metadata-files-0", 0.1), ("data-postgres-0", 0.99)):
        labels = f'job="kubelet",node="node-1",namespace="{namespace}",persistentvolumeclaim="{claim}"'
        lines += [f"kubelet_volume_stats_used_bytes{{{labels}}} {part * 1000}"]
        lines += [f"kubelet_volume_stats_capacity_bytes{{{labels}}} 1000"]
    return "\n".join([*lines, ""])


@proves("DittofsVolumeClaimTerminating")
def test_a_claim_that_somebody_deletes(files: Server, proof: Proof) -> None:
    files.create()
    before = files.wait_for("volume_phase", volume="cache", phase="Bound")
    # Only a pod that has a node keeps its claims.
    with node(files.operated) as name:
        run_pod_on(files.operated, name)
        files.operated.kubectl("delete", "pvc", "cache-files-0", "--wait=false")
        during = files.wait_for("volume_phase", volume="cache", phase="Terminating")
        # The claim goes with the pod, and both are created again.
        files.operated.kubectl("delete", "pod", "files-0", "--force")
        after = files.wait_for("volume_phase", volume="cache", phase="Bound")

    firing = Firing({"severity": "critical", "volume": "cache", **files.labels})
    proof.fires_and_resolves(moment(10, before), moment(20, during), moment(10, after), firing)


@proves("DittofsVolumeExpansionRejected")
def test_a_size_that_the_driver_rejects(files: Server, proof: Proof) -> None:
    files.create()
    before = files.scrape()
    files.driver.expansion = Expansion(most="20Gi")
    files.resize("50Gi")
    during = files.wait_for("volume_phase", volume="cache", phase="ResizeRefused")
    files.resize("15Gi")
    after = files.wait_for("volume_phase", volume="cache", phase="Bound")

    firing = Firing({"severity": "warning", "volume": "cache", **files.labels})
    proof.fires_and_resolves(moment(10, before), moment(20, during), moment(10, after), firing)


@proves("DittofsVolumeExpansionStuck")
def test_an_expansion_that_does_not_end(files: Server, proof: Proof) -> None:
    files.create()
    before = files.scrape()
    files.driver.expansion = Expansion(seconds=3600)
    files.resize("50Gi")
    during = files.wait_for("volume_phase", volume="cache", phase="Resizing")
    files.driver.expansion = ONLINE
    after = files.wait_for("volume_phase", volume="cache", phase="Bound")

    firing = Firing({"severity": "warning", "volume": "cache", **files.labels})
    proof.fires_and_resolves(moment(10, before), moment(60, during), moment(10, after), firing)


@proves("DittofsCredentialsNotReady")
def test_a_secret_that_is_missing(files: Server, proof: Proof) -> None:
    values = {"accessKeyId": "key", "secretAccessKey": "marker-secret", "endpoint": "https://s3.example.com"}
    files.operated.put_secret("s3", **values)
    files.create(s3={"credentialsSecretRef": {"secretName": "s3"}})
    before = files.wait_for(type="CredentialsReady", status="True")
    files.operated.kubectl("delete", "secret", "s3")
    during = files.wait_for(type="CredentialsReady", status="False")
    files.operated.put_secret("s3", **values)
    after = files.wait_for(type="CredentialsReady", status="True")

    firing = Firing({"severity": "warning", **files.labels})
    proof.fires_and_resolves(moment(10, before), moment(20, during), moment(10, after), firing)


@pytest.mark.anyio
@proves("DittofsCredentialsNotReady")
async def test_keys_that_s3_rejects(
    control_plane: ControlPlane, crd: None, namespace: str, standin: Path, s3: S3, tmp_path: Path, proof: Proof
) -> None:
    dittofs = DittoFS(standin, CURRENT, tmp_path / CURRENT)
    values = {"accessKeyId": "first", "secretAccessKey": "first-secret", "endpoint": s3.url}
    bucket = {"credentialsSecretRef": {"secretName": "s3"}, "bucket": BUCKET}

    async with served_site(control_plane, namespace, dittofs, tmp_path) as site:
        metrics = ServerMetrics(site.informers, lambda: True)

        async def scrape(status: str, reason: str) -> str:
            await site.until_condition("CredentialsReady", status, reason)
            return "".join([part async for part in metrics.parts()])

        await site.put_secret("s3", **values)
        await site.create(s3=bucket, shares=[{"name": "media"}])
        async with site.operated():
            await site.until_condition("StoresReady", "True", "Loaded")
            before = await scrape("True", "Found")
            await site.put_secret("s3", **{**values, "secretAccessKey": "wrong"})
            during = await scrape("False", "CredentialsRejected")
            await site.put_secret("s3", **values)
            after = await scrape("True", "Found")

    firing = Firing({"severity": "warning", "namespace": namespace, "server": "files"})
    proof.fires_and_resolves(moment(10, before), moment(20, during), moment(10, after), firing)


@pytest.mark.anyio
@proves("DittofsStoreFailing")
async def test_keys_that_only_the_server_tries(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proof: Proof
) -> None:
    socket = tmp_path / "socket"
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        site = Site(cluster, informers, namespace)
        site.client = ServerClient(connect_to(socket))
        metrics = ServerMetrics(informers, lambda: True)

        async def scrape(reason: str, s3_error: str = "") -> str:
            site.answers = legacy_answers(shares=2, s3_error=s3_error)
            await until_async(lambda: site.reason("StoresReady") == reason)
            return "".join([part async for part in metrics.parts()])

        async with raw_server(site.answer, socket):
            await site.create_server(image="example.com/dittofs:v0.8.3")
            async with site.operator():
                await site.report_ready()
                before = await scrape("Loaded")
                during = await scrape("StoreFailing", S3_FORBIDDEN)
                after = await scrape("Loaded")

    firing = Firing({"severity": "critical", "namespace": namespace, "server": "files"})
    proof.fires_and_resolves(moment(15, before), moment(30, during), moment(10, after), firing)


def test_servers_as_they_should_be_raise_no_alert(files: Server, tmp_path: Path) -> None:
    stopped = server("stopped", storage=files.storage(), replicas=0)
    paused = server("paused", storage=files.storage())
    paused["metadata"]["annotations"] = {PAUSED_ANNOTATION: "true"}
    files.operated.apply(stopped, paused)
    files.create()
    files.operated.wait_until_observed("files", "stopped", "paused")
    until(lambda: (files.operated.condition("stopped", "Ready") or {}).get("status") == "True")
    served = files.scrape()

    proof = Proof("", (), tmp_path)
    proof.raises_nothing(moment(120, served, kubelet(files.namespace, cache=0.5)))
