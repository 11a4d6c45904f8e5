import json
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server


def event(namespace: str, kind: str, name: str, message: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{len(message)}", "namespace": namespace},
        "involvedObject": {"kind": kind, "name": name, "namespace": namespace},
        "reason": "Tested",
        "type": "Warning",
        "message": message,
        **fields,
    }


def test_the_newest_event_of_a_server_comes_first(tmp_path: Path) -> None:
    located = {**server(), "metadata": {"name": "files", "namespace": "here"}}
    manifests = [
        located,
        event("here", "Pod", "files-0", "older", lastTimestamp="2026-02-01T12:00:00Z", count=3),
        event("here", "DittoServer", "files", "new\x1b[2J\n" + "word " * 50, lastTimestamp="2026-02-01T13:00:00Z"),
        event("here", "Pod", "other-0", "of another"),
        event("there", "Pod", "files-0", "elsewhere"),
    ]
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump_all(manifests))

    heading, first, second = run("events", "files", "--snapshot", str(snapshot)).stdout.splitlines()
    assert heading.split() == ["AGE", "COUNT", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert first.split()[1:5] == ["1", "Warning", "Tested", "DittoServer/files"]
    assert first.endswith("word word")
    assert first.isprintable()
    assert second.split()[1:] == ["3", "Warning", "Tested", "Pod/files-0", "older"]

    shown = json.loads(run("events", "files", "--snapshot", str(snapshot), "-o", "json").stdout)
    assert [(item["server"], item["kind"], item["count"]) for item in shown] == [
        ("files", "DittoServer", 1),
        ("files", "Pod", 3),
    ]


def test_events_of_several_servers_are_one_table(control_plane: ControlPlane, crd: None, namespace: str) -> None:
    here, kubeconfig = Namespace(control_plane, namespace), str(control_plane.kubeconfig)
    here.apply(
        server(),
        server("other"),
        event(namespace, "Pod", "files-0", "it failed", lastTimestamp="2098-02-01T12:00:00Z"),
        event(namespace, "Pod", "other-0", "it failed too", lastTimestamp="2098-02-01T13:00:00Z"),
    )
    both = run("events", "-n", namespace, "--kubeconfig", kubeconfig).stdout.splitlines()
    one = run("events", "other", "-n", namespace, "--kubeconfig", kubeconfig).stdout.splitlines()

    assert both[0].split() == ["NAMESPACE", "SERVER", "AGE", "COUNT", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [line.split()[:2] for line in both[1:]] == [[namespace, "other"], [namespace, "files"]]
    assert len(one) == 2
    assert one[1].endswith("Pod/other-0   it failed too")


def test_that_there_are_no_events_is_said(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump(server()))

    assert run("events", "--snapshot", str(snapshot)).stdout == "no Events\n"
    assert run("events", "--snapshot", str(snapshot), "-o", "yaml").stdout == "[]\n"
