"""Asks API servers that answer nothing, or only some questions; tests/cli/test_doctor.py asks a real one."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from app.cluster.client import Cluster
from app.cluster.errors import Unavailable
from app.cluster.installation import InstallationQuery, Patience, inspect_installation
from app.storage.facts import Unknown
from app.storage.installation import Installation, checks, preflight_checks
from tests.harness.endpoints import kubeconfig
from tests.harness.raw_server import Received, Reply, raw_server, reply
from tests.storage.test_operator_checks import DEPLOYMENT

VERSION = reply(200, {"gitVersion": "v1.36.0"})
QUERY = InstallationQuery("default", "0.1.0")

pytestmark = pytest.mark.anyio


async def silence() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


async def inspect(url: str, folder: Path, query: InstallationQuery = QUERY) -> Installation:
    async with Cluster.connect(kubeconfig(folder / "kubeconfig", url, token="t")) as cluster:
        return await inspect_installation(cluster, query)


async def test_what_is_silent_is_unknown_in_time(tmp_path: Path) -> None:
    query = InstallationQuery("default", "0.1.0", patience=Patience(0.2, 0.2))

    def answer(request: Received) -> Reply:
        return VERSION if "/version" in request.line else silence()

    async with raw_server(answer) as url:
        async with asyncio.timeout(20):
            live = await inspect(url, tmp_path, query)

    why = Unknown("no answer within 0.2 s")
    assert (live.crd, live.classes, live.drivers, live.operators) == (why, why, why, why)
    assert set(live.configurations.values()) == {why}
    assert set(live.of_commands.values()) == {why}
    assert live.trials
    assert live.trials[0].error == why.why
    assert "problem" not in {check.result for check in checks(live)}


async def test_an_error_of_one_lookup_stops_no_other(tmp_path: Path) -> None:
    def answer(request: Received) -> Reply:
        if "/version" in request.line:
            return VERSION
        if "storageclasses" in request.line:
            return reply(200, {"kind": "StorageClassList", "metadata": {}, "items": []})
        return reply(500, {"kind": "Status", "message": "etcd is down"})

    async with raw_server(answer) as url:
        live = await inspect(url, tmp_path)

    assert live.classes == ()
    assert live.crd == Unknown("etcd is down")
    assert list(checks(live))


async def test_no_answer_at_all_is_an_error(tmp_path: Path) -> None:
    async with raw_server(lambda _: reply(500, {"kind": "Status", "message": "etcd is down"})) as url:
        with pytest.raises(Unavailable, match="etcd is down"):
            await inspect(url, tmp_path)


async def test_a_confined_operator_is_asked_about_its_namespaces(tmp_path: Path) -> None:
    asked = set[str]()
    deployment = json.loads(json.dumps(DEPLOYMENT))
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] += ["--namespace=a", "--namespace=b"]
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    lists = {
        "/deployments?": ("Deployment", [deployment]),
        "/pods?": ("Pod", [{"metadata": {"name": "p", "namespace": "dittofs-system"}, "status": ready}]),
    }

    def answer(request: Received) -> Reply:
        if "/version" in request.line:
            return VERSION
        if "/proxy/metrics" in request.line:
            return reply(200, f"of {request.line}".encode())
        if "POST /apis/authorization.k8s.io/v1/subjectaccessreviews" in request.line:
            attributes = request.json["spec"]["resourceAttributes"]
            asked.add(f"{attributes['namespace']} {attributes['resource']}")
            refused = (attributes["namespace"], attributes["resource"]) == ("b", "pods")
            return reply(201, {"kind": "SubjectAccessReview", "status": {"allowed": not refused}})
        for path, (kind, items) in lists.items():
            if path in request.line:
                return reply(200, {"kind": f"{kind}List", "metadata": {}, "items": items})
        return reply(500, {"kind": "Status", "message": "no"})

    async with raw_server(answer) as url:
        live = await inspect(url, tmp_path)

    assert not isinstance(live.operators, Unknown)
    assert live.operators[0].metrics == {"p": "of GET /api/v1/namespaces/dittofs-system/pods/p:8081/proxy/metrics"}
    assert {"a secrets", "b secrets"} <= asked
    assert not [question for question in asked if question.startswith(" ")]
    [answers] = live.of_operators.values()
    assert {permission.resource for permission, allowed in answers.items() if allowed is False} == {"pods", "pods/log"}


async def test_a_preflight_asks_what_an_installation_needs(tmp_path: Path) -> None:
    asked = list[str]()

    def answer(request: Received) -> Reply:
        if "/version" in request.line:
            return VERSION
        if "selfsubjectaccessreviews" in request.line:
            attributes = request.json["spec"]["resourceAttributes"]
            asked.append(f"{attributes['verb']} {attributes['resource']} {attributes['namespace']}".strip())
            return reply(201, {"kind": "SelfSubjectAccessReview", "status": {"allowed": True}})
        return reply(200, orjson.dumps({"kind": "Status"}))

    async with raw_server(answer) as url:
        query = InstallationQuery("default", "0.1.0", operator_namespace="storage", preflight=True)
        live = await inspect(url, tmp_path, query)

    assert "create deployments storage" in asked
    assert "create customresourcedefinitions" in asked
    assert set(live.of_installation.values()) == {True}
    assert [check.name for check in preflight_checks(live)][-2:] == ["permissions to install", "installation"]
    assert live.now <= datetime.now(UTC)
