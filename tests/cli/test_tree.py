import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from app.cli.server_report import report
from app.cli.tree import build_tree, format_tree
from app.cluster.reader import PODS, SERVICES, STATEFUL_SETS
from app.cluster.survey import Survey
from tests.harness.command_line import run
from tests.harness.server_table import server

KEY = ("media", "files")


def located(kind: str, name: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "media"}, **fields}


def test_objects_stand_below_what_owns_them(tmp_path: Path) -> None:
    claim = {"storageClassName": "fast", "volumeName": "pv-1", "resources": {"requests": {"storage": "10Gi"}}}
    bound = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
    ports = [{"name": "nfs", "port": 2049}]
    manifests = [
        {**server(), "metadata": {"name": "files", "namespace": "media"}},
        located("StatefulSet", "files", "apps/v1", spec={"replicas": 1}, status={"readyReplicas": 1}),
        located("Pod", "files-0", spec={"nodeName": "worker-1"}, status={"phase": "Running"}),
        located("PersistentVolumeClaim", "metadata-files-0", spec=claim, status=bound),
        located("Service", "files-file", spec={"type": "NodePort", "clusterIP": "10.0.0.7", "ports": ports}),
    ]
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump_all(manifests))

    lines = run("tree", "files", "--snapshot", str(snapshot)).stdout.splitlines()

    assert lines[0].startswith("DittoServer media/files: ")
    assert lines[1:6] == [
        "  StatefulSet files: 1 of 1 ready",
        "    Pod files-0: Running, not ready, on node worker-1",
        "  PersistentVolumeClaim metadata-files-0: Bound, 10Gi, class fast",
        "    PersistentVolume pv-1",
        "  PersistentVolumeClaim cache-files-0: does not exist",
    ]
    assert "  Service files-file: NodePort 10.0.0.7, nfs 2049" in lines
    assert "  Service files-api: does not exist" in lines

    [tree] = json.loads(run("tree", "--snapshot", str(snapshot), "-o", "json").stdout)
    pod = {"kind": "Pod", "name": "files-0", "state": "Running, not ready, on node worker-1"}
    assert tree["children"][0] == {
        "kind": "StatefulSet",
        "name": "files",
        "state": "1 of 1 ready",
        "children": [pod],
    }
    assert tree["children"][1]["children"] == [{"kind": "PersistentVolume", "name": "pv-1", "state": None}]


def test_what_could_not_be_listed_is_unknown() -> None:
    manifest = {**server(), "metadata": {"name": "files", "namespace": "media"}}
    live = Survey(servers={KEY: manifest}, unknown=[SERVICES, STATEFUL_SETS, PODS])
    lines = list(format_tree(build_tree(live, report(live, KEY, datetime(2026, 2, 1, tzinfo=UTC)))))

    assert "  StatefulSet files: unknown" in lines
    assert "    Pod files-0: unknown" in lines
    assert "  Service files-file: unknown" in lines


def test_what_is_leaving_is_told_so() -> None:
    manifest = {**server(), "metadata": {"name": "files", "namespace": "media"}}
    leaving = {"metadata": {"name": "files", "deletionTimestamp": "2026-02-01T12:00:00Z"}, "spec": {"replicas": 1}}
    service = {**leaving, "spec": {"clusterIP": "None"}}
    live = Survey(
        servers={KEY: manifest}, stateful_sets={KEY: leaving}, services={("media", "files-headless"): service}
    )
    lines = list(format_tree(build_tree(live, report(live, KEY, datetime(2026, 2, 1, tzinfo=UTC)))))

    assert "  StatefulSet files: 0 of 1 ready, is being deleted" in lines
    assert "  Service files-headless: ClusterIP None, no ports, is being deleted" in lines


def test_it_says_so_when_there_is_no_server(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text("kind: List\napiVersion: v1\nitems: []\n")

    assert run("tree", "--snapshot", str(snapshot)).stdout == "no DittoServers found\n"
    assert run("tree", "--snapshot", str(snapshot), "-o", "json").stdout == "[]\n"
