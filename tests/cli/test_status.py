"""Stages what can go wrong at the real API server, and looks at the screen that a person gets at night."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import yaml

from app.cli.options import Scope
from app.cli.screen import SCREEN_COLUMNS, SCREEN_LINES, format_screen
from app.cli.status import make_reports
from app.cluster.client import Cluster
from app.cluster.reader import CLAIMS, PODS
from app.reconcile.reconciler import Reconciler
from app.storage.server_health import Family, ServerHealth
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.kubelet import kubelet
from tests.harness.nodes import crash_pod, node, run_pod_on
from tests.harness.operator_namespace import Namespace, OperatorNamespace
from tests.harness.reconciler_namespace import ReconcilerNamespace, connect, run_informers
from tests.harness.recorded_health import STARTED_AT
from tests.harness.server_table import s3, server
from tests.harness.terminal import Terminal
from tests.harness.volume_driver import VolumeDriver
from tests.harness.wait import until, until_async

MISSPELT_IMAGE = "registry.example.com/dittofs:lates"


@dataclass(frozen=True)
class Screen:
    """What a person sees: `top` is all before the details."""

    lines: list[str]

    @property
    def top(self) -> str:
        ends = (index for index, line in enumerate(self.lines) if line == "Conditions" or line.startswith("  NFS    "))
        return " ".join(" ".join(self.lines[: next(ends)]).split())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


async def look(cluster: Cluster, namespace: str, after: timedelta = timedelta()) -> Screen:
    """Looks at the server `files`, so long after now."""
    scope = Scope(namespace, ("files",))
    [report], _ = await make_reports(cluster, scope, datetime.now(UTC) + after, cluster.stats)
    lines = [click.unstyle(line) for line in format_screen(report)]
    print("\n".join(lines))  # A person should judge it, too: pytest -s shows the screens.

    assert len(lines) <= SCREEN_LINES
    assert [line for line in lines if len(line) > SCREEN_COLUMNS or not line.isprintable()] == []
    return Screen(lines)


def show(here: Namespace, after: timedelta = timedelta()) -> Screen:
    async def ask() -> Screen:
        async with connect(here.control_plane) as cluster:
            return await look(cluster, here.namespace, after)

    return asyncio.run(ask())


def wait_for(operated: OperatorNamespace, kind: str, reason: str) -> None:
    until(lambda: (operated.condition("files", kind) or {}).get("reason") == reason)


def test_a_pending_claim_is_named(operated: OperatorNamespace) -> None:
    operated.apply(server())
    wait_for(operated, "StorageReady", "ClaimPending")
    screen = show(operated)

    assert "is being worked on: ClaimPending" in screen.top
    assert "files-0" in screen.top
    assert "describe pvc -l app=dittofs-server,instance=files" in screen.top
    assert "usage unknown" in screen.text


def test_a_crash_leads_to_the_log(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: bool(operated.get("pod", "files-0")))
    crash_pod(operated, "files-0", restarts=7)
    wait_for(operated, "Ready", "CrashLoopBackOff")
    screen = show(operated)

    assert "is down: CrashLoopBackOff" in screen.top
    assert f"kubectl -n {operated.namespace} logs files-0 --previous" in screen.top
    assert "7 restarts" in screen.text


def test_a_missing_secret_is_named(operated: OperatorNamespace) -> None:
    operated.apply(server(**s3()))
    wait_for(operated, "CredentialsReady", "SecretNotFound")
    screen = show(operated)

    assert "is down: SecretNotFound" in screen.top
    assert 'S3 credentials Secret "s3" not found' in screen.top
    assert "Next step: Create the Secret." in screen.top


def test_a_load_balancer_without_an_address_is_named(operated: OperatorNamespace) -> None:
    operated.apply(server(service={"type": "LoadBalancer"}))
    wait_for(operated, "EndpointsReady", "LoadBalancerPending")
    with node(operated) as name:
        run_pod_on(operated, name)
        wait_for(operated, "Ready", "Available")
        screen = show(operated)

    assert "serves, and something is wrong: LoadBalancerPending" in screen.top
    assert f"kubectl -n {operated.namespace} describe services -l" in screen.top
    assert "EndpointsReady     no" in screen.text
    assert f"  NFS                files-file.{operated.namespace}.svc" in screen.text
    assert f"  API                files-api.{operated.namespace}.svc" in screen.text


def test_an_operator_that_does_not_run_is_the_cause(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    here = Namespace(control_plane, namespace)
    here.apply(server())

    assert "is being worked on: OperatorBehind" in show(here).top

    screen = show(here, after=timedelta(minutes=2))

    assert "is down: OperatorBehind" in screen.top
    assert "Next step: See whether the operator runs, and what its log says." in screen.top
    assert "kubectl get pods -A -l app.kubernetes.io/name=dittofs-operator" in screen.top


GIB = 2**30


@pytest.fixture
async def site(
    control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver
) -> AsyncIterator[ReconcilerNamespace]:
    """Provides a server that runs with its volumes, on a node that is named like the namespace."""
    full = [
        {
            "pvcRef": {"name": f"{name}-files-0", "namespace": namespace},
            "usedBytes": used * GIB,
            "capacityBytes": size * GIB,
        }
        for name, used, size in (("metadata", 4, 10), ("cache", 3, 5))
    ]
    with kubelet(control_plane, namespace, {"pods": [{"volume": full}]}):
        async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
            site = ReconcilerNamespace(cluster, informers, namespace)
            await site.create_server()
            await site.reconcile()
            await until_async(lambda: site.pod is not None)
            for claim in ("metadata-files-0", "cache-files-0"):
                driver.bind(await site.live(CLAIMS, claim))

            path = f"/api/v1/namespaces/{namespace}/pods/files-0/binding"
            target = {"kind": "Node", "name": namespace}
            control_plane.create(path, {"metadata": {"name": "files-0"}, "target": target})
            await report_ready(site)
            await until_async(lambda: all(is_bound(site, name) for name in ("metadata", "cache")))
            yield site


def is_bound(site: ReconcilerNamespace, volume: str) -> bool:
    claim = site.informers.claims.get((site.namespace, f"{volume}-files-0"))
    return claim is not None and claim["status"]["phase"] == "Bound"


async def report_ready(site: ReconcilerNamespace) -> None:
    """Reports the pod ready, as the kubelet does."""
    metadata = (await site.live(PODS, "files-0"))["metadata"]
    container = {"name": "dittofs", "ready": True, "started": True, "restartCount": 2, "image": "i", "imageID": "i"}
    container["state"] = {"running": {"startedAt": STARTED_AT}}
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
    status = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
    identity = {name: metadata[name] for name in ("name", "namespace", "uid")}

    await site.cluster.patch_status(PODS, {"metadata": identity, "status": status})
    await until_async(lambda: ((site.stateful_set or {}).get("status") or {}).get("availableReplicas") == 1)


async def report_health(site: ReconcilerNamespace, shares: int) -> None:
    """Reconciles with what the server says about itself."""
    health = ServerHealth(Family.CURRENT, STARTED_AT, shares, version="0.29.0")
    site.reconciler = Reconciler(
        site.cluster, site.informers, site.writer, site.record_event, site.now, report_of=lambda _: health
    )
    await site.reconcile()


@pytest.mark.anyio
async def test_a_healthy_server_is_shown_whole(site: ReconcilerNamespace) -> None:
    await report_health(site, shares=1)
    screen = await look(site.cluster, site.namespace)

    assert screen.top.startswith(f"DittoServer {site.namespace}/files is ready, for ")
    assert "Next step: Nothing has to be done." in screen.top
    assert f"files-file.{site.namespace}.svc" in screen.text
    assert "DittoFS 0.29.0 (Current), started" in screen.text
    assert f"files-0 on node {site.namespace}: Running, ready, 2 restarts, runs for" in screen.text
    assert "  metadata           [########------------] 40% of 10Gi" in screen.text
    assert "  cache              [############--------] 60% of 5Gi" in screen.text
    assert "JWT: files-jwt-secret (generated)" in screen.text


@pytest.mark.anyio
async def test_a_server_without_a_share_gets_one_suggested(site: ReconcilerNamespace) -> None:
    await report_health(site, shares=0)
    screen = await look(site.cluster, site.namespace)

    assert "serves, with a notice: NoShare" in screen.top
    assert "Next step: List one in spec.shares, or run the commands in the message." in screen.top


def test_the_plugin_shows_servers_by_name_and_label(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    labelled = {**server(), "metadata": {"name": "files", "labels": {"team": "media"}}}
    Namespace(control_plane, namespace).apply(labelled, server("other"))
    here = ("-n", namespace)

    heading, *rows = plugin("status", *here)
    assert heading.split()[:4] == ["NAMESPACE", "SERVER", "STATE", "REASON"]
    assert [row.split()[1] for row in rows] == ["files", "other"]
    assert [row.split()[1] for row in plugin("status", *here, "-l", "team=media")[1:]] == ["files"]

    screens = plugin("status", *here, "files", "other")
    assert [line.split()[1] for line in screens if line.startswith("DittoServer")] == [
        f"{namespace}/files",
        f"{namespace}/other",
    ]

    [report] = json.loads("\n".join(plugin("status", *here, "files", "-o", "json")))
    assert (report["server"], report["state"], report["reason"]) == ("files", "Working", "OperatorBehind")
    assert yaml.safe_load("\n".join(plugin("status", *here, "files", "-o", "yaml"))) == [report]


def test_a_name_that_is_not_there_draws_the_others(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    Namespace(control_plane, namespace).apply(server())
    result = run("status", "file", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))

    assert result.returncode == 2
    assert f"no DittoServer file in namespace {namespace}; there are: files" in result.stderr
    assert run("status", "-A", "none", "--kubeconfig", str(control_plane.kubeconfig)).returncode == 2


def test_labels_select_among_all_servers() -> None:
    assert "NAME and --selector cannot be used together" in run("status", "files", "-l", "a=b").stderr
    assert "choose servers by name" in run("status", "--snapshot", "x", "-l", "a=b").stderr


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Provides a file with two servers and an Event about one of them."""
    documents = [{**server(name), "metadata": {"name": name, "namespace": "here"}} for name in ("files", "films")]
    about = {"involvedObject": {"kind": "Pod", "name": "films-0", "namespace": "here"}, "reason": "Killing"}
    metadata = {"name": "e", "namespace": "here"}
    documents.append({"apiVersion": "v1", "kind": "Event", "metadata": metadata, **about, "message": "why it ended"})

    path = tmp_path / "dump.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_a_page_is_written_about_all_servers(snapshot: Path) -> None:
    file = snapshot.with_name("status.html")
    file.write_text("yesterday")
    result = run("status", "--snapshot", str(snapshot), "--html", str(file))
    html = file.read_text()

    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.splitlines()[-1] == f"wrote {file}: 2 DittoServers; look through it before you pass it on"
    assert html.startswith("<!DOCTYPE html>")
    assert all(text in html for text in ("here/files", "here/films", "snapshot dump.yaml", "all namespaces"))
    assert "why it ended" in html
    assert "yesterday" not in html


def test_a_page_can_be_piped(snapshot: Path) -> None:
    result = run("status", "--snapshot", str(snapshot), "-n", "here", "--html", "-", "films")

    assert result.returncode == 0
    assert result.stdout.startswith("<!DOCTYPE html>")
    assert result.stdout.endswith("</html>\n")
    assert "namespace here" in result.stdout
    assert "here/files" not in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "json"], "--html and --output json cannot be used together"),
        (["-o", "wide"], "--html and --output wide cannot be used together"),
        (["--watch"], "--html and --watch cannot be used together: a page shows one moment"),
    ],
)
def test_a_page_excludes_other_forms(options: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "status.html"
    result = run("status", "--snapshot", "nowhere", "--html", str(file), *options)

    assert result.returncode == 2
    assert message in result.stderr
    assert not file.exists()


def test_a_page_that_cannot_be_written_is_an_error(snapshot: Path) -> None:
    for file, why in ((snapshot.parent, "Is a directory"), (snapshot.parent / "no" / "x", "No such file or directory")):
        result = run("status", "--snapshot", str(snapshot), "--html", str(file))
        assert result.returncode == 2
        assert f"{file}: it cannot be written: {why}" in result.stderr


def test_a_failure_leaves_the_page_as_it_was(snapshot: Path) -> None:
    file = snapshot.with_name("status.html")
    file.write_text("yesterday")
    result = run("status", "--snapshot", str(snapshot), "--html", str(file), "unknown")

    assert result.returncode == 2
    assert file.read_text() == "yesterday"


def test_a_page_about_a_cluster_names_its_context(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    Namespace(control_plane, namespace).apply(server(), server("other"))
    kubeconfig, file = str(control_plane.kubeconfig), tmp_path / "status.html"
    context = yaml.safe_load(Path(kubeconfig).read_text())["current-context"]
    result = run("status", "-n", namespace, "--kubeconfig", kubeconfig, "--html", str(file))
    html = file.read_text()

    assert result.returncode == 0, result.stderr
    assert f"context {context}" in html
    assert html.count("<article") == 2


def test_colours_are_only_for_terminals(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump({**server(), "metadata": {"name": "files", "namespace": "here"}}))
    command = ("status", "--snapshot", str(snapshot), "files")

    assert "\x1b" not in run(*command).stdout
    assert "\x1b[" in Terminal(*command).read_to_end()
    assert "\x1b[" not in Terminal(*command, NO_COLOR="1").read_to_end()

    narrow = click.unstyle(Terminal(*command, columns=20).read_to_end()).splitlines()
    assert 50 < max(map(len, narrow)) <= 60
