import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from app.cli.takeover import format_text, report
from app.cluster.client import Cluster
from app.cluster.snapshot import Snapshot
from tests.controlplane.cluster import ControlPlane
from tests.harness import go_operator
from tests.harness.command_line import run

pytestmark = pytest.mark.anyio

PASSWORD = "m4rk-pass-word"


def dump(path: Path, *, secrets: bool = True, **spec: object) -> Path:
    """Writes what the Go operator left of a server named files."""
    metadata = {"name": "files", "uid": "u", "generation": 1, "finalizers": [go_operator.FINALIZER]}
    server = {"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "metadata": metadata}
    objects: list[dict[str, Any]] = [{**server, "spec": go_operator.spec("fast", **spec)}]
    objects += go_operator.left_behind("files", "u", "fast", PASSWORD)
    objects += go_operator.claims("files", "fast")
    for manifest in objects:
        manifest["metadata"]["namespace"] = "media"

    kept = [manifest for manifest in objects if secrets or manifest["kind"] != "Secret"]
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": kept}))
    return path


async def lines(path: Path) -> list[str]:
    return [click.unstyle(line) for line in format_text((await report(Snapshot(path), None)).takeovers)]


async def test_a_dump_says_what_becomes_of_a_server(tmp_path: Path) -> None:
    text = await lines(dump(tmp_path / "dump.yaml", percona={"enabled": True}))

    assert text[0] == "DittoServer media/files: can be taken over"
    assert "  adopted  volume claim controlplane-files-0 is mounted at /data/controlplane" in text
    assert "  adopted  Service files-adapter-nfs stays as it is; its clients keep working" in text
    assert any(line.startswith("  lost     spec.percona: ") for line in text)
    assert text[-1].startswith("1 DittoServers: 0 need something done first, 1 pods restart once")


def test_exit_codes_say_whether_something_comes_first(tmp_path: Path) -> None:
    ready, blocked = dump(tmp_path / "a.yaml"), dump(tmp_path / "b.yaml", identity={"ldap": {"enabled": True}})

    results = [run("check", "--from-go", "--snapshot", str(path)) for path in (ready, blocked)]

    assert [result.returncode for result in results] == [0, 1]
    assert "users of the directory cannot log in" in results[1].stdout
    assert not [result for result in results if PASSWORD in result.stdout + result.stderr]


def test_programs_get_json(tmp_path: Path) -> None:
    result = run("check", "--from-go", "--output", "json", "--snapshot", str(dump(tmp_path / "dump.yaml")))
    [takeover] = json.loads(result.stdout)

    assert (takeover["namespace"], takeover["server"]) == ("media", "files")
    assert (takeover["ready"], takeover["done"], takeover["restarts"]) == (True, False, True)
    assert [field["path"] for field in takeover["ignoredFields"]] == ["spec.storage.controlPlaneSize"]


def test_a_dump_without_secrets_says_so(tmp_path: Path) -> None:
    result = run("check", "--from-go", "--snapshot", str(dump(tmp_path / "dump.yaml", secrets=False)))

    assert result.returncode == 0
    assert result.stderr == "Secrets are unknown: the snapshot has none\n"


@pytest.mark.parametrize("arguments", [("file.yaml",), ("--output", "github")])
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    result = run("check", "--from-go", *arguments)

    assert result.returncode == 2
    assert "--from-go takes neither files nor --output github" in result.stderr


def test_a_snapshot_of_nonsense_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "dump.yaml").write_text("kind: [")

    assert run("check", "--from-go", "--snapshot", str(tmp_path)).returncode == 2


async def test_a_live_cluster_is_reported(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    server = {"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "metadata": {"name": "files"}}
    arguments = ("--namespace", namespace, "--validate=false", "-f", "-")
    manifest = {**server, "spec": go_operator.spec("none-such")}
    control_plane.kubectl("create", *arguments, input=json.dumps(manifest))
    uid = control_plane.kubectl("get", "dittoserver", "files", "-n", namespace, "-o", "jsonpath={.metadata.uid}").stdout
    items = go_operator.left_behind("files", uid, "none-such", PASSWORD)
    control_plane.kubectl("create", *arguments, input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        result = await report(cluster, namespace)

    [takeover] = result.takeovers
    assert takeover.migration.restarts
    assert takeover.migration.first == ()
    assert "StatefulSet files is recreated around its pod to add cache" in takeover.migration.adopted
    assert "Secret files-jwt-secret is used, and is kept when the server is deleted" in takeover.migration.adopted
