"""Collects from API servers that refuse or are silent; tests/cli/test_report.py collects from a real one."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.cluster import collection
from app.cluster.client import Cluster
from app.cluster.collection import Collection, collect_operator, collect_server
from app.cluster.survey import Survey
from app.storage.facts import Unknown
from app.storage.operator_checks import OperatorState
from app.storage.unstructured import Manifest
from tests.harness.endpoints import kubeconfig
from tests.harness.raw_server import Received, Reply, raw_server, reply
from tests.harness.server_table import s3, server
from tests.storage.test_operator_checks import DEPLOYMENT

KEY = ("media", "files")
POD: Manifest = {
    "kind": "Pod",
    "metadata": {"name": "files-0", "namespace": "media"},
    "spec": {"nodeName": "worker-1", "containers": [{"name": "dittofs"}], "initContainers": [{"name": "copy"}]},
    "status": {"containerStatuses": [{"name": "dittofs", "restartCount": 2}]},
}
LISTS = {
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "resourcequotas": "ResourceQuota",
    "limitranges": "LimitRange",
    "events": "Event",
}

pytestmark = pytest.mark.anyio


def not_found(name: str) -> bytes:
    return reply(404, {"kind": "Status", "message": f"{name} not found", "details": {"name": name}})


def answer(request: Received) -> Reply:
    path = request.line.removeprefix("GET ").partition("?")[0]
    plural = path.rpartition("/")[2]
    if plural == "log":
        return reply(200, f"log of {request.line}\n".encode())
    if plural in LISTS:
        return reply(200, {"kind": f"{LISTS[plural]}List", "metadata": {}, "items": []})
    if "/secrets/s3" in path:
        return reply(200, {"kind": "Secret", "metadata": {"name": "s3"}, "type": "Opaque", "data": {"a": "c2VjcmV0"}})
    return not_found(plural)


@asynccontextmanager
async def connected(folder: Path, reply_to: Callable[[Received], Reply]) -> AsyncIterator[Cluster]:
    async with (
        raw_server(reply_to) as url,
        Cluster.connect(kubeconfig(folder / "kubeconfig", url, token="t")) as cluster,
    ):
        yield cluster


async def collect(folder: Path, reply_to: Callable[[Received], Reply]) -> Collection:
    manifest = {**server(**s3()), "metadata": {"name": "files", "namespace": "media"}}
    live = Survey(servers={KEY: manifest}, pods={("media", "files-0"): POD})
    async with connected(folder, reply_to) as cluster:
        return await collect_server(cluster, live, KEY)


async def test_every_run_of_every_container_has_a_log(tmp_path: Path) -> None:
    collected = await collect(tmp_path, answer)

    assert list(collected.logs) == ["files-0-copy", "files-0-dittofs", "files-0-dittofs-previous"]
    assert "previous=true" in collected.logs["files-0-dittofs-previous"]
    assert "tailLines=2000" in collected.logs["files-0-dittofs"]
    assert collected.gaps == ()


async def test_a_secret_is_described_without_its_values(tmp_path: Path) -> None:
    collected = await collect(tmp_path, answer)
    [described] = collected.objects["secrets"]

    assert (described["type"], described["keys"]) == ("Opaque", ["a"])
    assert "c2VjcmV0" not in json.dumps(collected.objects)
    assert "secret" in collected.secrets


async def test_what_is_no_secret_is_not_masked(tmp_path: Path) -> None:
    data = {"user": "ZGl0dG9mcw==", "port": "NTQzMg==", "sslmode": "cHJlZmVy", "password": "c2VjcmV0"}
    postgres = reply(200, {"kind": "Secret", "metadata": {"name": "files-postgres"}, "data": data})
    collected = await collect(
        tmp_path, lambda request: postgres if "files-postgres" in request.line else answer(request)
    )

    assert sorted(collected.secrets) == ["secret", "secret"]


async def test_every_object_says_what_it_is(tmp_path: Path) -> None:
    collected = await collect(tmp_path, answer)
    assert [item["kind"] for items in collected.objects.values() for item in items] == ["DittoServer", "Pod", "Secret"]


@pytest.mark.parametrize(
    "refusal",
    [
        reply(403, {"kind": "Status", "message": "you may not"}),
        reply(500, {"kind": "Status", "message": "etcd is down"}),
        reply(200, b"<html>"),
    ],
)
async def test_without_every_secret_there_are_no_logs(tmp_path: Path, refusal: bytes) -> None:
    collected = await collect(tmp_path, lambda request: refusal if "/secrets/" in request.line else answer(request))

    assert collected.logs == {}
    assert any("the logs of media/files-0 are left out" in gap for gap in collected.gaps)


async def test_what_is_refused_is_a_gap(tmp_path: Path) -> None:
    refusal = reply(403, {"kind": "Status", "message": "you may not"})
    collected = await collect(tmp_path, lambda request: refusal if "/nodes/" in request.line else answer(request))

    assert collected.gaps == ("Node worker-1: forbidden: you may not",)


async def test_of_a_node_only_its_health_is_kept(tmp_path: Path) -> None:
    node = {
        "kind": "Node",
        "metadata": {"name": "worker-1", "annotations": {"a": "b"}},
        "spec": {"taints": [{"key": "k"}], "podCIDR": "10.0.0.0/24"},
        "status": {"conditions": [], "images": [{"names": ["registry.example.com/secret-project"]}]},
    }
    collected = await collect(
        tmp_path, lambda request: reply(200, node) if "/nodes/" in request.line else answer(request)
    )

    assert collected.objects["node"] == [
        {
            "kind": "Node",
            "metadata": {"name": "worker-1", "labels": {}},
            "spec": {"taints": [{"key": "k"}]},
            "status": {"conditions": []},
        }
    ]


async def test_the_end_of_a_log_that_was_cut_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "LOG_BYTES", 10)
    log = reply(200, b"line\nsecr-et")
    collected = await collect(tmp_path, lambda request: log if "/log?" in request.line else answer(request))

    assert collected.logs["files-0-dittofs"] == "line\n"


async def test_only_events_about_the_operator_are_collected(tmp_path: Path) -> None:
    names = ("dittofs-operator", "dittofs-operator-6c5f9", "other")
    items: list[Any] = [{"metadata": {"name": name}, "involvedObject": {"name": name}} for name in names]
    events = reply(200, {"kind": "EventList", "metadata": {}, "items": items})
    pod = {**POD, "metadata": {"name": "operator-1", "namespace": "dittofs-system"}}

    async with connected(tmp_path, lambda request: events if "/events" in request.line else answer(request)) as cluster:
        whole = await collect_operator(cluster, OperatorState(DEPLOYMENT, [pod], {"kind": "Lease"}))
        unknown = OperatorState(DEPLOYMENT, Unknown("forbidden"), Unknown("forbidden"))
        lacking = await collect_operator(cluster, unknown)

    assert [event["metadata"]["name"] for event in whole.objects["events"]] == list(names[:2])
    assert "operator-1-dittofs" in whole.logs
    assert lacking.gaps == ("pods of the operator: forbidden", "Lease of the operator: forbidden")
    assert lacking.objects["lease"] == []
