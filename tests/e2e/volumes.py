"""Real volumes: a folder of the node for each claim, which the kubelet gives to the pod's group, as a disk's driver
would. It stands in for the provisioner that a cluster has.
"""

import json
import threading
from pathlib import Path
from typing import Any, Self

from tests.e2e import machine
from tests.e2e.cluster import NODE, Cluster

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/no-provisioner",
}
PAUSE_SECONDS = 0.5


class Volumes:
    """Provides for claims inside a `with`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._provide)

    def __enter__(self) -> Self:
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(STORAGE_CLASS))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _provide(self) -> None:
        provided: set[str] = set()
        while not self._ended.wait(PAUSE_SECONDS):
            claims = json.loads(self._cluster.kubectl("get", "persistentvolumeclaims", "-A", "-o", "json").stdout)
            for claim in claims["items"]:
                uid = claim["metadata"]["uid"]
                if uid not in provided and claim["status"]["phase"] == "Pending":
                    provided.add(uid)
                    self._cluster.kubectl("create", "-f", "-", input=json.dumps(_volume(claim)))


def _volume(claim: dict[str, Any]) -> dict[str, Any]:
    name = f"{claim['metadata']['namespace']}-{claim['metadata']['name']}"
    folder = Path(machine.STATE, "volumes", name)
    folder.mkdir(parents=True)
    on_the_node = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "storageClassName": claim["spec"]["storageClassName"],
            "claimRef": {key: claim["metadata"][key] for key in ("namespace", "name", "uid")},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [on_the_node]}},
        },
    }
