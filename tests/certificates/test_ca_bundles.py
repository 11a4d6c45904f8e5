"""The two webhook configurations in the real API server. That permissions by name suffice: see test_self_managed."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from app.certificates.ca_bundles import CABundles, ManagedElsewhere
from app.cluster.client import Cluster
from app.cluster.errors import Conflict
from app.storage.webhook_configurations import webhook_configurations
from tests.controlplane.cluster import ControlPlane
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")


@pytest.fixture
def name(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    yield namespace
    for kind in KINDS:
        control_plane.kubectl("delete", kind, namespace, "--ignore-not-found")


def register(control_plane: ControlPlane, name: str, **annotations: str) -> None:
    configurations: list[dict[str, Any]] = webhook_configurations(lambda path: {"url": f"https://localhost:9{path}"})
    for configuration in configurations:
        configuration["metadata"] = {"name": name, "annotations": annotations}
        configuration["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(configurations))


@asynccontextmanager
async def watched(control_plane: ControlPlane, name: str) -> AsyncIterator[CABundles]:
    async with Cluster.connect(control_plane.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        ca_bundles = CABundles(cluster, name, lambda: None)
        tasks = [group.create_task(reflector.run()) for reflector in ca_bundles.reflectors]
        for reflector in ca_bundles.reflectors:
            await reflector.wait_for_sync()
        yield ca_bundles
        for task in tasks:
            task.cancel()


async def test_missing_configurations_are_named(control_plane: ControlPlane, name: str) -> None:
    async with watched(control_plane, name) as ca_bundles:
        kinds = "MutatingWebhookConfiguration and ValidatingWebhookConfiguration"

        assert ca_bundles.why_missing() == f"waiting for {kinds} {name}"
        assert ca_bundles.published() == []

        register(control_plane, name)
        await until_async(lambda: ca_bundles.why_missing() is None)

        assert ca_bundles.published() == [b"", b""]


async def test_a_bundle_is_published_once(control_plane: ControlPlane, name: str) -> None:
    register(control_plane, name)
    async with watched(control_plane, name) as ca_bundles:
        assert len(await ca_bundles.publish(b"bundle")) == 2

        await until_async(lambda: ca_bundles.published() == [b"bundle"] * 2)

        assert await ca_bundles.publish(b"bundle") == []


async def test_a_changed_configuration_is_not_overwritten(control_plane: ControlPlane, name: str) -> None:
    register(control_plane, name)
    async with watched(control_plane, name) as ca_bundles:
        pass
    control_plane.kubectl("annotate", KINDS[0], name, "changed=yes")
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        ca_bundles._cluster = cluster

        with pytest.raises(Conflict):
            await ca_bundles.publish(b"bundle")


async def test_a_configuration_of_cert_manager_is_left_alone(control_plane: ControlPlane, name: str) -> None:
    register(control_plane, name, **{"cert-manager.io/inject-ca-from": "a/b"})
    async with watched(control_plane, name) as ca_bundles:
        with pytest.raises(ManagedElsewhere, match="inject-ca-from: its caBundle is left alone"):
            await ca_bundles.publish(b"bundle")
    live = json.loads(control_plane.kubectl("get", KINDS[0], name, "-o", "json").stdout)

    assert "caBundle" not in live["webhooks"][0]["clientConfig"]
