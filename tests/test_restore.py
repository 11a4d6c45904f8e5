"""etcd is restored from a backup under a running operator: versions go back, and objects with them.

`pytest -s` shows how long it takes.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.pod import CONFIG_HASH
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.fleet import wait_until_quiet
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import s3, server
from tests.harness.wait import until
from tests.helm.build import helm

LIMIT_SECONDS = 120.0
NEW = "registry.example.com/dittofs:2"


class Plane(ControlPlane):
    """A control plane that knows since when its API server is up."""

    up = 0.0

    def start_apiserver(self) -> None:
        super().start_apiserver()
        self.up = monotonic()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """Runs a control plane for this test alone."""
    (tmp_path / "plane").mkdir()
    helm(os.environ)

    with Plane(programs(os.environ), tmp_path / "plane") as running:
        running.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
        running.wait_until_established("dittoservers.dittofs.dittofs.com")
        running.create("/api/v1/namespaces", {"metadata": {"name": "site"}})
        yield running


@pytest.fixture
def site(plane: Plane, tmp_path: Path) -> Iterator[OperatorNamespace]:
    """Runs the operator with a self-managed certificate that the API server trusts."""
    (tmp_path / "operator").mkdir()
    site = OperatorNamespace(plane, "site", tmp_path / "operator", self_managed=True)
    site.register()

    with site:
        yield site


def config_hash(site: OperatorNamespace, name: str) -> Any:
    return site.template(name)["metadata"]["annotations"][CONFIG_HASH]


def image(site: OperatorNamespace, name: str) -> Any:
    template = site.template(name)
    return template and template["spec"]["containers"][0]["image"]


def is_admitted(site: OperatorNamespace, name: str, **change: Any) -> bool:
    """Changes the server; returns False while the webhook, which fails closed, cannot be called."""
    try:
        site.patch("dittoserver", name, spec=change)
    except httpx.HTTPStatusError:
        return False

    return True


def test_an_operator_follows_a_restored_etcd(site: OperatorNamespace, plane: Plane, tmp_path: Path) -> None:
    site.put_secret("s3", accessKeyId="one", secretAccessKey="key")
    site.apply(server("kept", **s3()), server("idle"), server("deleted"), server("late"))
    site.wait_until_observed("kept", "idle", "deleted", "late")

    # The backup has a server that lacks objects.
    site.operator.signal(SIGSTOP)
    site.kubectl("delete", "statefulset/late", "configmap/late-config")
    with plane.stopped() as data:
        backup = shutil.copytree(data, tmp_path / "backup")
    site.operator.signal(SIGCONT)

    # The backup does not have what happens from now on.
    until(lambda: bool(site.template("late")))
    first_hash = config_hash(site, "kept")
    site.put_secret("s3", accessKeyId="two", secretAccessKey="key")
    site.apply(server("lost"))
    site.wait_until_observed("lost")
    until(lambda: config_hash(site, "kept") != first_hash)
    site.kubectl("delete", "dittoserver", "deleted")
    certificate = site.get("secret", "site-tls")["data"]
    site.kubectl("delete", "secret", "site-tls")
    until(lambda: (site.get("secret", "site-tls") or {"data": certificate})["data"] != certificate)
    wait_until_quiet(site)

    with plane.stopped() as data:
        shutil.rmtree(data)
        shutil.copytree(backup, data)
    written = len(site.writes())

    # A changed server is reconciled, and the webhook admits the change, which needs the restored certificate.
    until(lambda: is_admitted(site, "kept", image=NEW), LIMIT_SECONDS)
    admitted = monotonic()
    until(lambda: image(site, "kept") == NEW, LIMIT_SECONDS)
    reconciled = monotonic()
    after = f"admitted after {admitted - plane.up:.1f} s, reconciled after {reconciled - plane.up:.1f} s"
    print(f"\nThe API server is back: {after}")

    assert reconciled - plane.up < LIMIT_SECONDS

    # Lost objects are created again, but only where their server exists.
    until(lambda: bool(site.template("late")), LIMIT_SECONDS)

    names = {stateful_set["metadata"]["name"] for stateful_set in site.list_all("statefulset")}

    assert names == {"kept", "idle", "deleted", "late"}

    # The operator does not mistake the value that it knew for the one in the Secret.
    assert config_hash(site, "kept") == first_hash

    site.put_secret("s3", accessKeyId="three", secretAccessKey="key")
    until(lambda: config_hash(site, "kept") != first_hash, LIMIT_SECONDS)

    writes = wait_until_quiet(site)[written:]

    assert not [write for write in writes if write.name.startswith(("idle", "deleted", "lost"))]
