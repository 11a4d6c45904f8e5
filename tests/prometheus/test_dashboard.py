"""Asks a real Prometheus for all that the dashboard shows. It scrapes a real operator with servers in many states."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from manifests.dashboard import RANKS, STATES
from manifests.grafana import COLUMNS
from tests.controlplane.cluster import ControlPlane
from tests.harness.wait import until
from tests.helm.chart import manifests
from tests.prometheus.grafana import Grafana
from tests.prometheus.rules import NAMESPACE, RELEASE
from tests.prometheus.scene import FULL, GIB, REASONS, Scene, scene

RANGE_SECONDS, INTERVAL_SECONDS = 60, 1
ENABLED = ("dashboard.enabled=true", "serviceMonitor.enabled=true")


def installed(kind: str) -> Any:
    [only] = [manifest for manifest in manifests(RELEASE, NAMESPACE, *ENABLED) if manifest["kind"] == kind]
    return only


DASHBOARD = json.loads(installed("ConfigMap")["data"]["dittofs-operator.json"])
TARGETS = {
    f"{panel['title']} {target['refId']}": target
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}


@pytest.fixture(scope="module")
def staged(control_plane: ControlPlane, crd: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    control_plane.create("/api/v1/namespaces", {"metadata": {"name": "media"}})
    with scene(control_plane, "media", tmp_path_factory.mktemp("scene")) as running:
        running.restart("music")
        until(lambda: scraped_reasons(running) == REASONS, pause=0.5)
        until(lambda: bool(running.prometheus.at_once("dittofs_operator_server_restarts_total > 0")), pause=0.5)
        yield running
    control_plane.delete("/api/v1/namespaces/media")


def scraped_reasons(running: Scene) -> dict[str, str]:
    series = running.prometheus.at_once("dittofs_operator_server_info")
    return {entry["metric"]["server"]: entry["metric"].get("reason", "") for entry in series}


@pytest.fixture
def grafana(staged: Scene) -> Grafana:
    grafana = Grafana(DASHBOARD, staged.prometheus, RANGE_SECONDS, INTERVAL_SECONDS)
    until(lambda: len(grafana.open().get("server", [])) == len(REASONS))
    return grafana


def test_it_does_not_open_empty(grafana: Grafana) -> None:
    options = grafana.open()

    assert options == {"job": ["dittofs-operator"], "namespace": ["media"], "server": sorted(REASONS)}
    assert grafana.chosen["job"] == installed("Service")["metadata"]["name"]
    assert installed("ServiceMonitor")["spec"]["endpoints"][0]["honorLabels"] is True


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        for cell in product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("name", TARGETS)
def test_every_query_returns_data(grafana: Grafana, name: str) -> None:
    until(lambda: has_values(grafana.series(TARGETS[name])), pause=0.5)


def test_every_annotation_returns_data(grafana: Grafana) -> None:
    for name, series in grafana.annotations():
        assert has_values(series), name


def has_values(series: list[Any]) -> bool:
    values = [value for entry in series for _, value in entry.get("values") or [entry["value"]]]
    return any(value != "NaN" for value in values)


TABLES = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] == "table"}


@pytest.mark.parametrize("title", TABLES)
def test_every_column_comes_from_a_query(grafana: Grafana, title: str) -> None:
    panel = TABLES[title]
    organized = panel["transformations"][1]["options"]
    hidden = set(organized["excludeByName"]) - {"Time"}  # Grafana's own.
    shown = {organized["renameByName"].get(name, name) for name in organized["indexByName"]}

    until(lambda: grafana.columns(panel) == hidden | set(organized["indexByName"]), pause=0.5)
    assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= shown
    assert {entry["displayName"] for entry in panel["options"].get("sortBy", [])} <= shown


def test_the_worst_server_comes_first(grafana: Grafana) -> None:
    rows = grafana.rows(TABLES["Needs attention"])
    problems = [(RANKS[row["Severity"]][0], row["Server"], row["Reason"]) for row in rows]

    assert sorted(problems[:2]) == [
        ("Not ready", "backup", "ImagePullBackOff"),
        ("Not ready", "scans", "SecretNotFound"),
    ]
    assert problems[2:] == [
        ("Blocked", "archive", "ResizeRefused"),
        ("Expansion rejected", "archive", "ResizeRefused"),
        ("Credentials missing or rejected", "scans", "SecretNotFound"),
        ("Volume nearly full", "films", "Available"),
    ]


def test_alerts_name_the_server(grafana: Grafana) -> None:
    """They are pending: these servers have not been so for long enough."""
    rows = [row for row in grafana.rows(TABLES["Alerts"]) if row["Alert"] == "DittofsServerNotReady"]
    assert {(row["State"], row["Server"]) for row in rows} == {("pending", "backup"), ("pending", "scans")}


def test_every_server_has_one_line(grafana: Grafana) -> None:
    rows = {row["Server"]: row for row in grafana.rows(TABLES["Servers"])}

    assert {name: row["Reason"] for name, row in rows.items()} == REASONS
    assert {name: STATES[row["State"]][0] for name, row in rows.items() if row["State"] != 1} == {
        "archive": "ready, blocked",
        "backup": "not ready",
        "scans": "not ready",
    }
    assert rows["films"]["Usage"] == pytest.approx(FULL["films"])
    assert rows["films"]["Capacity"] == 30 * GIB
