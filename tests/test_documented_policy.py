"""The admission policy in the page about security: whoever may not create pods cannot do so by a DittoServer."""

import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.storage.spec import API_VERSION, GROUP, KIND, PLURAL
from tests.controlplane.cluster import ControlPlane
from tests.harness.wait import until

PAGE = Path(__file__).parents[1] / "docs/explanation/security.md"
DENIED = "only who may create pods may set or change spec.podTemplate"

AUTHOR = "--as=author"
TEMPLATE = {"podTemplate": {"spec": {"priorityClassName": "storage"}}}
OTHER_TEMPLATE = {"podTemplate": {"spec": {"priorityClassName": "other"}}}


@pytest.fixture
def policy(control_plane: ControlPlane, crd: None, namespace: str) -> Iterator[None]:
    """Enforces the policy in one namespace, whose author has DittoServers and no pods."""
    [documented] = re.findall("  ```yaml\n(.*?)  ```", PAGE.read_text(), re.DOTALL)
    scope = f"  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}\n"
    manifests = textwrap.dedent(documented) + scope
    role = ("role", "authors", "--verb=*", f"--resource={PLURAL}.{GROUP}")

    control_plane.kubectl("apply", "-f", "-", input=manifests)
    control_plane.kubectl("-n", namespace, "create", *role)
    control_plane.kubectl("-n", namespace, "create", "rolebinding", "authors", "--role=authors", "--user=author")
    until(lambda: DENIED in apply(control_plane, namespace, TEMPLATE, AUTHOR, "--dry-run=server"))
    yield
    control_plane.kubectl("delete", "-f", "-", input=manifests)


def apply(control_plane: ControlPlane, namespace: str, spec: dict[str, Any], *options: str) -> str:
    """Applies a DittoServer and returns why that was refused; empty when it was not."""
    storage = {"metadataSize": "1Gi", "cacheSize": "1Gi"}
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "films", "namespace": namespace}}
    document = json.dumps({**manifest, "spec": {"storage": storage, **spec}})
    try:
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", *options, "-f", "-", input=document)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    return ""


@pytest.mark.usefixtures("policy")
def test_who_may_not_create_pods_can_edit_all_but_the_pod(control_plane: ControlPlane, namespace: str) -> None:
    assert apply(control_plane, namespace, {}, AUTHOR) == ""
    assert DENIED in apply(control_plane, namespace, TEMPLATE, AUTHOR)
    assert DENIED in apply(control_plane, namespace, {"s3": {"serviceAccountName": "admin"}}, AUTHOR)

    assert apply(control_plane, namespace, TEMPLATE) == ""
    assert apply(control_plane, namespace, {**TEMPLATE, "replicas": 0}, AUTHOR) == ""
    assert DENIED in apply(control_plane, namespace, OTHER_TEMPLATE, AUTHOR)
