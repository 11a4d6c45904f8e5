import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.live_view import INTERRUPTED_EXIT_CODE, ChangeLog, View, ViewItem, keep_looking
from app.cli.options import Source, Target
from app.cluster.errors import ClusterError, Unavailable
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy
from tests.harness.command_line import ROOT
from tests.harness.operator_namespace import Namespace
from tests.harness.server_table import server, storage
from tests.harness.terminal import DEADLINE_SECONDS, Terminal


def item(name: str, state: str) -> ViewItem:
    return ViewItem(name, f"{name} is {state}", {"name": name, "state": state})


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Returns the lines on standard output, without the time of day."""
    return [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]


def test_only_what_has_changed_is_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    log = ChangeLog("text")
    log.show(View(["ignored"], [item("a", "down"), item("b", "ready")]))
    assert printed(capsys) == ["a is down", "b is ready"]

    log.show(View([], [item("a", "down"), item("b", "busy\x1b[2J")]))
    assert printed(capsys) == ["b is busy [2J"]

    log.show(View([], [item("b", "busy\x1b[2J")]))
    log.show(View([], [item("b", "busy\x1b[2J")]))
    assert printed(capsys) == ["a is gone"]


def test_what_grows_old_is_not_gone(capsys: pytest.CaptureFixture[str]) -> None:
    log = ChangeLog("text")
    for items in ([item("a", "down")], [], [item("a", "down")]):
        log.show(View([], items, reports_removal=False))

    assert printed(capsys) == ["a is down"]


def test_programs_get_each_change_as_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    as_json, as_yaml = ChangeLog("json"), ChangeLog("yaml")
    for view in (View([], [item("a", "down")]), View([], [])):
        as_json.show(view)
    lines = capsys.readouterr().out.splitlines()
    for view in (View([], [item("a", "down")]), View([], [])):
        as_yaml.show(view)

    assert list(map(json.loads, lines)) == [
        {"name": "a", "state": "down"},
        {"name": "a", "state": "down", "deleted": True},
    ]
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == list(map(json.loads, lines))


def test_a_complaint_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = ChangeLog("text")
    for _ in range(2):
        log.show(View([], [], ["pods are unknown"]))
    for _ in range(2):
        log.report_failure(Unavailable("no answer"))
    log.show(View([], []))
    log.report_failure(Unavailable("no answer"))

    assert capsys.readouterr().err.splitlines() == [
        "pods are unknown",
        "trying again: no answer",
        "trying again: no answer",
    ]


class Recorded:
    """Remembers what it is told to show, and has seen enough after two views."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, view: View) -> None:
        self.shown += view.lines
        if len(self.shown) > 3:
            raise EOFError

    def report_failure(self, error: ClusterError) -> None:
        self.shown.append(f"failed: {error}")


@pytest.mark.anyio
async def test_a_failure_ends_only_the_first_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.live_view.INTERVAL_SECONDS", 0.01)
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump(server()))
    target, display = Target(Source(None, None, snapshot)), Recorded()
    readers: list[Any] = []

    async def look(reader: Any, *_: Any) -> View:
        readers.append(reader)
        if len(readers) in (2, 3):
            raise Unavailable(f"look {len(readers)}")
        return View([f"look {len(readers)}"], [])

    async def fail(*_: Any) -> View:
        raise Unavailable("at once")

    with pytest.raises(EOFError):
        await keep_looking(target, look, display)
    with pytest.raises(Unavailable, match="at once"):
        await keep_looking(target, fail, display)

    assert display.shown == ["look 1", "failed: look 2", "failed: look 3", "look 4"]
    assert len(set(map(id, readers))) == 3


def changes(command: "subprocess.Popen[str]") -> Iterator[str]:
    assert command.stdout
    for line in command.stdout:
        yield line.partition(" ")[2].strip()


def test_a_view_survives_a_lost_connection(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    here = Namespace(control_plane, namespace)
    here.apply(server())
    with Proxy(control_plane, tmp_path) as proxy:
        arguments = ["df", "-w", "-n", namespace, "--kubeconfig", str(proxy.kubeconfig)]
        command = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = threading.Timer(DEADLINE_SECONDS, command.kill)
        deadline.start()
        with command:
            lines = changes(command)
            assert next(lines) == f"{namespace}/files metadata Pending, no volume, 10Gi requested, used unknown"
            assert next(lines).startswith(f"{namespace}/files cache Pending")

            with proxy.fault(lambda request: request.path.endswith("/dittoservers"), cut="before"):
                assert command.stderr
                assert command.stderr.readline().startswith("trying again: cannot ask ")
                here.apply(server(**storage(cacheSize="20Gi")))
            assert next(lines).startswith(f"{namespace}/files cache Pending, no volume, 20Gi requested")

            here.kubectl("delete", "dittoserver", "files")
            assert {next(lines), next(lines)} == {f"{namespace}/files {name} is gone" for name in ("metadata", "cache")}
            command.send_signal(signal.SIGINT)
    deadline.cancel()

    assert command.returncode == INTERRUPTED_EXIT_CODE
    looks = [request for request in proxy.requests if request.path.endswith("/dittoservers")]
    assert len(looks) < 30


def test_a_terminal_shows_the_present_and_leaves_the_last_view(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    names = [f"files-{index}" for index in range(20)]
    located = [{**server(), "metadata": {"name": name, "namespace": "here"}} for name in names]
    snapshot.write_text(yaml.safe_dump_all(located))
    terminal = Terminal("status", "-w", "--snapshot", str(snapshot), lines=10)
    terminal.read_until("every 2 s; Ctrl-C ends")
    first = terminal.output

    snapshot.write_text(yaml.safe_dump_all(located[:1]))
    terminal.read_until("Ctrl-C ends", times=3)
    code = terminal.interrupt()

    assert code == INTERRUPTED_EXIT_CODE
    assert first.startswith("\x1b[?1049h")
    assert "and 13 more lines" in first
    assert len(first.splitlines()) == 10
    before, _, after = terminal.output.rpartition("\x1b[?1049l")
    assert "files-0" in after
    assert "files-1" not in after
    assert "\x1b[H" not in after
    assert before.count("\x1b[H") >= 2


def test_an_interrupted_view_is_no_error(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text(yaml.safe_dump(server()))
    terminal = Terminal("events", "-w", "--snapshot", str(snapshot), NO_COLOR="1")
    terminal.read_until("Ctrl-C ends")

    assert terminal.interrupt() == INTERRUPTED_EXIT_CODE
    assert "Aborted" not in terminal.output
    assert terminal.output.endswith("no Events\r\n")
