"""Applies samples exactly as they are shipped, each in a namespace of its own, so that their waits overlap."""

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from app.storage.unstructured import Manifest
from tests.e2e.cluster import Cluster
from tests.e2e.file_clients import Files
from tests.e2e.ledger import Ledger
from tests.e2e.servers import POD_SECONDS, is_ready
from tests.e2e.tenants import RESTRICTED
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

FOLDER = Path(__file__).parent.parent.parent / "manifests/samples"
NOTHING: Mapping[str, str] = {}


class Sample:
    """The server of a sample, which has the sample's name. Its namespace exists inside the `with`."""

    def __init__(
        self, cluster: Cluster, name: str, labels: Mapping[str, str] = NOTHING, annotations: Mapping[str, str] = NOTHING
    ) -> None:
        self.name = name
        self.user = Namespace(cluster, f"{name}-{secrets.token_hex(4)}")
        self._metadata = {
            "name": self.user.namespace,
            "labels": {**RESTRICTED, **labels},
            "annotations": dict(annotations),
        }
        self.files = Files(self.user, name)
        self.ledger = Ledger(self.user, name, name)
        self._start = ExitStack()

    def __enter__(self) -> Self:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": self._metadata}
        self.user.control_plane.kubectl("create", "-f", "-", input=json.dumps(namespace))
        return self

    def __exit__(self, *_: object) -> None:
        print(self.ledger.show())
        self.user.kubectl("delete", "namespace", self.user.namespace, "--wait=false")

    def apply(self, name: str) -> list[str]:
        """Applies the sample of this name in the namespace, and returns the warnings that kubectl shows."""
        file = str(FOLDER / f"{name}.yaml")
        within = ("--namespace", self.user.namespace)
        answer = self.user.control_plane.kubectl(*within, "apply", "-f", file)
        return [line.removeprefix("Warning: ") for line in answer.stderr.splitlines()]

    def start(self) -> list[str]:
        """Applies the sample without waiting for its server, and returns the warnings."""
        self._start.enter_context(self.ledger.step("apply the sample, until it is ready", starts=1))
        return self.apply(self.name)

    def wait_until_ready(self) -> None:
        until(lambda: is_ready(self.user, self.name), seconds=POD_SECONDS, pause=0.1)
        self._start.close()

    def condition(self, kind: str = "Ready") -> Any:
        """Returns the condition; while the server has none, it is one without values."""
        return self.user.condition(self.name, kind) or {"status": "", "reason": "", "message": ""}

    @property
    def status(self) -> Manifest:
        status: Manifest = self.user.get("dittoserver", self.name)["status"]
        return status

    @property
    def pod(self) -> Manifest:
        pod: Manifest = self.user.get("pod", f"{self.name}-0")
        return pod
