"""Upgrades the chart of every released version to the current one while its servers run and admissions go on.

The charts are applied by helm in a real cluster without nodes. The operator is a process with the arguments of the pod
and the permissions of its ServiceAccount, reached as in a cluster: by the Service that the chart's webhooks name. In
place of the released operator the current one answers reviews and does no more: `tests/released` has what the released
one wrote.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from manifests.__main__ import NAMESPACE, ROOT
from manifests.release.changelog import released_versions
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.admissions import Admissions, failed_open
from tests.harness.operator_namespace import FAST, Namespace, Request, requests_of
from tests.harness.operator_process import Operator
from tests.harness.released_servers import CHART as RELEASED_CHART
from tests.harness.released_servers import FOLDER, leave_behind, released_servers
from tests.harness.wait import until
from tests.helm.chart import CHART, CRD, output, run_in

RELEASE = "dittofs-operator"
SERVERS = "servers"
VERSIONS = sorted(chart.parent.name for chart in FOLDER.glob(f"*/{RELEASED_CHART}"))
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
GROUP = "dittofs.dittofs.com"
SOME_ADMISSIONS = 100


def test_every_version_in_the_changelog_is_kept() -> None:
    """Otherwise run `python -m tests.released REVISION VERSION`; the version that the chart has is not released yet."""
    current = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    cut = released_versions((ROOT / "CHANGELOG.md").read_text())

    assert {version for version in cut if version != current} <= set(VERSIONS)


class Site:
    """A release of the chart, and the namespace of its servers."""

    def __init__(self, cluster: ControlPlane, folder: Path) -> None:
        self.cluster = cluster
        self.servers = Namespace(cluster, SERVERS)
        self._folder = folder
        for name in (NAMESPACE, SERVERS):
            cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
        for name in ("fast", "local"):
            cluster.create("/apis/storage.k8s.io/v1/storageclasses", {**FAST, "metadata": {"name": name}})

    def helm(self, verb: str, chart: Path) -> None:
        # Without the hook that waits for a pod of the operator: there is no node to run one.
        output(run_in(self.cluster, verb, RELEASE, chart, "--namespace", NAMESPACE, "--no-hooks"))
        self.cluster.wait_until_established(CRD)

    def operator(self, name: str, *flags: str) -> Operator:
        """Returns the operator with the arguments of the Deployment as it is, and with these."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}"
        [container] = self.cluster.get(path)["spec"]["template"]["spec"]["containers"]
        kubeconfig = self.cluster.kubeconfig_for(RELEASE, NAMESPACE)
        folder = self._folder / name
        folder.mkdir()
        return Operator(folder, *container["args"][1:], "--kubeconfig", kubeconfig, *flags, self_managed=True)

    def lead_to(self, operator: Operator) -> None:
        """Lets the Service of the chart lead to this process. Without a node, it does so by a name of this machine."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}"
        spec = {"type": "ExternalName", "externalName": "localhost"}
        about: Any = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": RELEASE}}
        self.cluster.apply(path, {**about, "spec": spec})

        # Such a Service has no ports that lead to others.
        service = {"port": urlsplit(operator.url).port}
        for plural in WEBHOOKS:
            live = self.cluster.get(f"{REGISTRATION}/{plural}/{RELEASE}")
            webhooks = [{"name": hook["name"], "clientConfig": {"service": service}} for hook in live["webhooks"]]
            about = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {"name": RELEASE}}
            self.cluster.apply(f"{REGISTRATION}/{plural}/{RELEASE}", {**about, "webhooks": webhooks})

    def states(self) -> dict[str, Any]:
        """Returns all objects of the servers, and the servers themselves, but for their status."""
        kept = {}
        for kind in ("dittoserver", "statefulset", "service", "configmap", "secret"):
            for live in self.servers.list_all(kind):
                metadata = {**live["metadata"], "managedFields": None, "resourceVersion": None}
                kept[f"{kind}/{metadata['name']}"] = {**live, "metadata": metadata, "status": None}

        return kept

    def pods(self) -> dict[str, str]:
        """Returns the uid of each pod by its name."""
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.servers.list_all("pod")}

    def admits(self) -> bool:
        """Says whether both webhooks are asked: the first completes the server, which the second one refuses."""
        spec = {"storage": {"metadataSize": "1Gi", "storageClassName": "none-such"}}
        manifest = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "DittoServer", "metadata": {"name": "x"}, "spec": spec}
        done = self.cluster.kubectl(
            "--namespace", SERVERS, "create", "--dry-run=server", "-f", "-", input=json.dumps(manifest), check=False
        )
        return "does not exist in cluster" in done.stderr

    def writes(self, since: int) -> list[Request]:
        """Returns what the operator wrote in the namespace of the servers, from this size of the audit log on."""
        user = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
        return [
            entry for entry in requests_of(self.cluster, user, since) if entry.writes and entry.namespace == SERVERS
        ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Runs a cluster of its own: a CustomResourceDefinition belongs to one release, and there is one per version."""
    (tmp_path / "cluster").mkdir()
    with ControlPlane(programs(os.environ), tmp_path / "cluster") as cluster:
        yield Site(cluster, tmp_path)


# The webhooks have a few seconds to answer, which work beside the test may use up.
@pytest.mark.alone
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgrade_fails_no_admission_and_touches_no_server(site: Site, version: str) -> None:
    left = [server for title, server in released_servers().items() if title.startswith(f"{version}/")]
    names = [server.name for server in left]
    running = [server.name for server in left if server.stateful_set["spec"]["replicas"]]

    # The released version is installed and used.
    site.helm("install", FOLDER / version / RELEASED_CHART)
    with ExitStack() as operators:
        released = operators.enter_context(site.operator("released", "--no-reconcile"))
        site.lead_to(released)
        until(site.admits)
        for server in left:
            leave_behind(site.servers, server, "created")
        until(lambda: site.pods().keys() == {f"{name}-0" for name in running})

        before, pods, failed = site.states(), site.pods(), failed_open(site.cluster)
        begun = site.cluster.audit_log.stat().st_size
        with Admissions(site.servers) as admissions:
            until(lambda: admissions.tried > SOME_ADMISSIONS)

            # helm changes everything, and then the Deployment replaces its pods.
            with admissions.during("helm upgrades the chart"):
                site.helm("upgrade", CHART)
            with admissions.during("the operator is replaced"):
                site.lead_to(operators.enter_context(site.operator("current")))
                released.signal(signal.SIGTERM)
                until(lambda: released.ended_well(within=0.1))
            with admissions.during("the new operator takes the servers over"):
                site.servers.wait_until_observed(*names)

    writes = {request.resource for request in site.writes(begun)}
    print(f"{len(names)} servers of {version}; {admissions.tried} admissions; written: {writes}")

    assert admissions.failures == []
    assert failed_open(site.cluster) == failed
    assert writes == {"dittoservers/status", "events"}
    assert site.pods() == pods
    assert site.states() == before
