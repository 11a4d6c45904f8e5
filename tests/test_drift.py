"""A DittoServer that Argo CD or Flux keeps applying from Git does not drift: it never differs from its manifest.

Both tools apply on the server side as a field manager of their own; Argo CD also on the client side, as kubectl does.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from app.storage.spec import API_VERSION, KIND
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.definitions import definition
from tests.harness.every_field import EVERY_FIELD
from tests.harness.operator_namespace import FAST, OperatorNamespace

SAMPLES = sorted(Path("manifests/samples").glob("*.yaml"))
EVERYTHING: Manifest = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "every-field"},
    "spec": EVERY_FIELD,
}
# How the tools apply: the client side is that of Argo CD without ServerSideApply=true.
WAYS = {
    "argocd": ("--server-side", "--field-manager=argocd-controller"),
    "flux": ("--server-side", "--field-manager=kustomize-controller"),
    "client": (),
}


@pytest.fixture(scope="module")
def site(
    control_plane: ControlPlane, crd: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorNamespace]:
    """Runs an operator whose webhooks the API server calls."""
    control_plane.kubectl("create", "namespace", "drift")
    # The provisioner of a class cannot change, and other tests leave a class of this name.
    slow = {**FAST, "metadata": {"name": "slow"}, "provisioner": "example.com/slow", "allowVolumeExpansion": True}
    snapshots = definition("snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots")
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([slow, snapshots]))
    control_plane.wait_until_established(snapshots["metadata"]["name"])

    site = OperatorNamespace(control_plane, "drift", tmp_path_factory.mktemp("operator"), self_managed=True)
    site.register()
    with site:
        yield site

    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        control_plane.kubectl("delete", kind, "drift")
    control_plane.kubectl("delete", "namespace", "drift", "--wait=false")
    control_plane.kubectl("delete", "storageclass", "slow")
    control_plane.kubectl("delete", "crd", snapshots["metadata"]["name"])


def manifests() -> list[Manifest]:
    """Returns every sample, and a server that sets every field."""
    samples = [manifest for file in SAMPLES for manifest in yaml.safe_load_all(file.read_text())]
    return [*(manifest for manifest in samples if manifest["kind"] == KIND), EVERYTHING]


def diff(site: OperatorNamespace, way: str, *manifests: Manifest) -> str:
    """Returns what differs between the manifests and the cluster, as the tool would have it."""
    content = yaml.safe_dump_all(manifests)
    process = site.control_plane.kubectl(
        "--namespace", site.namespace, "diff", *WAYS[way], "-f", "-", input=content, check=False
    )
    assert process.returncode in (0, 1), process.stderr
    return process.stdout


@pytest.mark.parametrize("way", WAYS)
def test_what_is_applied_does_not_differ_later(site: OperatorNamespace, way: str) -> None:
    applied = deepcopy(manifests())
    for manifest in applied:
        manifest["metadata"]["name"] += f"-{way}"
    site.kubectl("apply", *WAYS[way], "-f", "-", input=yaml.safe_dump_all(applied))
    site.wait_until_observed(*[manifest["metadata"]["name"] for manifest in applied])

    assert diff(site, way, *applied) == ""

    # The comparison does notice an edit.
    applied[-1]["spec"]["storage"]["cacheSize"] = "6Gi"
    assert "cacheSize: 6Gi" in diff(site, way, *applied)
