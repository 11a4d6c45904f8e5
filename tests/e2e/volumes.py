"""Provides real volumes: a folder of the node for each claim, which the kubelet gives to the pod's group.

It stands in for the provisioner and the resizer of a cluster; expanding the file system is left to the kubelet.
"""

import json
from pathlib import Path
from typing import Any, Self

from tests.e2e import machine
from tests.e2e.cluster import NODE, Cluster
from tests.harness.background import Background
from tests.harness.volume_driver import volume_for

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/no-provisioner",
    "allowVolumeExpansion": True,
}
PAUSE_SECONDS = 0.5


class Volumes(Background):
    """Provides and expands volumes inside a `with`."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def __enter__(self) -> Self:
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(STORAGE_CLASS))
        return super().__enter__()

    def run(self) -> None:
        provided: dict[str, str] = {}

        while not self.ending.wait(PAUSE_SECONDS):
            for claim in self._cluster.get("/api/v1/persistentvolumeclaims")["items"]:
                uid, size = claim["metadata"]["uid"], claim["spec"]["resources"]["requests"]["storage"]
                if uid not in provided and claim["status"]["phase"] == "Pending":
                    # A volume that was kept is about to be bound to the claim again.
                    if not _folder(claim).exists():
                        self._cluster.kubectl("create", "-f", "-", input=json.dumps(_volume(claim)))
                elif size == provided.get(uid, size):
                    continue
                else:
                    self._expand(claim, size)

                provided[uid] = size

    def _expand(self, claim: dict[str, Any], size: str) -> None:
        capacity = {"spec": {"capacity": {"storage": size}}}
        self._cluster.kubectl("patch", "pv", _name(claim), "--type=merge", "-p", json.dumps(capacity))

        status = {
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
            "allocatedResources": {"storage": size},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
        }
        within = ("--namespace", claim["metadata"]["namespace"], "patch", "pvc", claim["metadata"]["name"])
        self._cluster.kubectl(*within, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def _name(claim: dict[str, Any]) -> str:
    return f"{claim['metadata']['namespace']}-{claim['metadata']['name']}"


def _folder(claim: dict[str, Any]) -> Path:
    return Path(machine.STATE, "volumes", _name(claim))


def _volume(claim: dict[str, Any]) -> dict[str, Any]:
    name, folder = _name(claim), _folder(claim)
    folder.mkdir(parents=True)

    on_the_node = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    affinity = {"required": {"nodeSelectorTerms": [on_the_node]}}
    return volume_for(claim, name, local={"path": str(folder)}, nodeAffinity=affinity)
