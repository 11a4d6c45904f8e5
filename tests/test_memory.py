"""Measures what an operator that has nothing to do takes, and pins what it imports, when it runs as in a pod."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.harness.fleet import is_busy, memory_megabytes
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.operator_process import Operator
from tests.harness.pod import MODULES
from tests.harness.wait import until

# It measured 72.9.
MOST_IDLE_MEGABYTES = 75
# What reads kubeconfigs, manifests and snapshots.
NOT_IN_A_POD = {"kubernetes_asyncio", "yaml", "app.syntax", "app.manifests", "app.cluster.snapshot"}


def test_an_idle_pod_takes_little_memory(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Measuring coverage takes memory, too.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    url = urlsplit(control_plane.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
    operated = OperatorNamespace(control_plane, namespace, tmp_path)
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(json.loads(operated.kubeconfig.read_text())["users"][0]["user"]["token"])
    (account / "namespace").write_text(namespace)
    (account / "ca.crt").write_bytes(control_plane.ca_file.read_bytes())
    operator = Operator(tmp_path, "--namespace", namespace)
    operator.module = ("tests.harness.pod", account)

    with operator:
        until(lambda: not is_busy(operator))
        memory = memory_megabytes(operator.pid)

    assert NOT_IN_A_POD.isdisjoint((account / MODULES).read_text().split())
    assert memory["VmRSS"] < MOST_IDLE_MEGABYTES
