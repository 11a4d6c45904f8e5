import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete

from app.__main__ import command_line
from app.cli.candidates import TIMEOUT_SECONDS
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server, storage


def complete(*words: str) -> list[str]:
    """Returns what completes the last word."""
    items = ShellComplete(command_line, {}, "kubectl dittofs", "").get_completions(list(words[:-1]), words[-1])
    return [item.value for item in items]


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    shares = {"shares": [{"name": "media"}, {"name": "backup"}], **storage(contentSize="1Gi")}
    manifests: list[dict[str, Any]] = [
        {**server(**shares), "metadata": {"name": "files", "namespace": "media"}, "status": {"shares": "none"}},
        {**server(), "metadata": {"name": "films", "namespace": "media"}},
        {**server(), "metadata": {"name": "other", "namespace": "else"}},
    ]
    manifests[1]["status"] = {"shares": [{"name": "kept"}, {}, "x"]}
    path = tmp_path / "snapshot.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


@pytest.mark.parametrize("command", ["status", "df", "events", "tree", "credentials", "mount"])
def test_servers_complete_every_command_that_reads(snapshot: str, command: str) -> None:
    assert complete(command, "--snapshot", snapshot, "") == ["files", "films", "other"]
    assert complete(command, "--snapshot", snapshot, "-n", "media", "fi") == ["files", "films"]


def test_a_server_is_not_offered_twice(snapshot: str) -> None:
    assert complete("status", "--snapshot", snapshot, "-n", "media", "files", "") == ["films"]


def test_shares_are_those_of_the_server(snapshot: str) -> None:
    assert complete("mount", "--snapshot", snapshot, "files", "") == ["backup", "media"]
    assert complete("mount", "--snapshot", snapshot, "films", "k") == ["kept"]
    assert complete("mount", "--snapshot", snapshot, "none", "") == []


def test_namespaces_of_a_snapshot_have_servers(snapshot: str) -> None:
    assert complete("status", "--snapshot", snapshot, "-n", "") == ["else", "media"]


def test_contexts_are_those_of_all_kubeconfigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(json.dumps({"contexts": [{"name": "dev", "context": {}}, {"name": "x\x1b[2J", "context": {}}]}))
    second.write_text(json.dumps({"contexts": [{"name": "prod", "context": {}}]}))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")

    assert complete("status", "--context", "") == ["dev", "prod"]
    assert complete("restart", "--context=p") == ["prod"]
    assert complete("status", "--kubeconfig", str(second), "--context", "") == ["prod"]


@pytest.mark.parametrize("content", ["{", "contexts: 1", "[]", "{}"])
def test_an_unusable_kubeconfig_completes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], content: str
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    for words in (["status", "--context", ""], ["status", ""], ["status", "-n", ""], ["mount", "files", ""]):
        assert complete(*words) == []
    assert complete("status", "--snapshot", str(tmp_path / "none"), "") == []
    assert capfd.readouterr() == ("", "")


def test_a_silent_cluster_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes connections, and nobody ever answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        contexts = [{"name": "a", "context": {"cluster": "a"}}]
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(json.dumps({"clusters": [cluster], "contexts": contexts, "current-context": "a"}))
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

        started = time.monotonic()
        assert complete("status", "") == []

    assert time.monotonic() - started < TIMEOUT_SECONDS + 5


def test_names_come_from_the_cluster(
    control_plane: ControlPlane, crd: None, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Namespace(control_plane, namespace).apply(server(), server("other"))
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))

    for command in ("status", "restart", "pause", "resume", "logs", "mount"):
        assert complete(command, "-n", namespace, "") == ["files", "other"]
    assert {"files", "other"} <= set(complete("status", "-A", ""))
    assert complete("status", "-n", namespace[:-1]) == [namespace]
