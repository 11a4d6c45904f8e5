"""Provides real volumes: a folder of the node for each claim, which the kubelet gives to the pod's group.

It stands in for the provisioner, the resizer and the snapshotter of a cluster; expanding the file system is left to the
kubelet.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.e2e import machine
from tests.e2e.cluster import NODE, Cluster
from tests.harness.background import Background
from tests.harness.definitions import definition
from tests.harness.volume_driver import volume_for

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/no-provisioner",
    "allowVolumeExpansion": True,
}
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/volumesnapshots"
PAUSE_SECONDS = 0.5


class Volumes(Background):
    """Provides and expands volumes inside a `with`."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def __enter__(self) -> Self:
        crd = definition("snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots")
        self._cluster.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, [STORAGE_CLASS, crd])))
        self._cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd['metadata']['name']}")
        # kubectl asks again after a 429, as long as the API server does not serve the new definition yet.
        self._cluster.kubectl("get", "volumesnapshots")
        return super().__enter__()

    def run(self) -> None:
        provided: dict[str, str] = {}

        while not self.ending.wait(PAUSE_SECONDS):
            self._take_snapshots()
            for claim in self._cluster.get("/api/v1/persistentvolumeclaims")["items"]:
                # A person who names no class has a volume of their own, such as a share.
                if not claim["spec"].get("storageClassName"):
                    continue

                uid, size = claim["metadata"]["uid"], claim["spec"]["resources"]["requests"]["storage"]
                if uid not in provided and claim["status"]["phase"] == "Pending":
                    if not _is_source_ready(claim):
                        continue
                    if name := self._new_name(claim):
                        self._cluster.kubectl("create", "-f", "-", input=json.dumps(_volume(claim, name)))
                elif size == provided.get(uid, size):
                    continue
                else:
                    self._expand(claim, size)

                provided[uid] = size

    def _new_name(self, claim: dict[str, Any]) -> str | None:
        """Returns a name for the claim's volume; None when a volume that was kept is about to be bound to it again."""
        name, uid = _name(claim), claim["metadata"]["uid"]
        kept = self._cluster.get(f"/api/v1/persistentvolumes/{name}")
        if kept is None:
            return name
        # That of a former claim of this name keeps its data, and stays as it is.
        former = kept["spec"]["claimRef"].get("uid")
        return f"{name}-{uid[:8]}" if former not in (None, uid) else None

    def _take_snapshots(self) -> None:
        """Copies the volume that each new VolumeSnapshot names."""
        for snapshot in self._cluster.get(SNAPSHOTS)["items"]:
            if snapshot.get("status"):
                continue

            namespace, name = snapshot["metadata"]["namespace"], snapshot["metadata"]["name"]
            source = snapshot["spec"]["source"]["persistentVolumeClaimName"]
            claim = self._cluster.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{source}")
            _copy(_folder(_name(claim)), _snapshot_folder(namespace, name))

            status = {"readyToUse": True, "restoreSize": claim["status"]["capacity"]["storage"]}
            within = ("--namespace", namespace, "patch", "volumesnapshot", name)
            change = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
            self._cluster.kubectl(*within, *change)

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
    """Returns the name of the claim's volume, or that of its first one while it has none."""
    return claim["spec"].get("volumeName") or f"{claim['metadata']['namespace']}-{claim['metadata']['name']}"


def _folder(volume: str) -> Path:
    return Path(machine.STATE, "volumes", volume)


def _snapshot_folder(namespace: str, snapshot: str) -> Path:
    return Path(machine.STATE, "snapshots", f"{namespace}-{snapshot}")


def _source(claim: dict[str, Any]) -> Path | None:
    """Returns the folder of the snapshot that the claim is to be filled from; None when it starts empty."""
    reference = claim["spec"].get("dataSourceRef") or {}
    if reference.get("kind") != "VolumeSnapshot":
        return None
    return _snapshot_folder(claim["metadata"]["namespace"], reference["name"])


def _is_source_ready(claim: dict[str, Any]) -> bool:
    source = _source(claim)
    return source is None or source.exists()


def _copy(source: Path, target: Path) -> None:
    """Copies a folder with its owners; the target exists only once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    subprocess.run(["cp", "--archive", source, part], check=True, timeout=60)
    part.rename(target)


def _volume(claim: dict[str, Any], name: str) -> dict[str, Any]:
    folder = _folder(name)
    if source := _source(claim):
        _copy(source, folder)
    else:
        folder.mkdir(parents=True)

    on_the_node = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    affinity = {"required": {"nodeSelectorTerms": [on_the_node]}}
    return volume_for(claim, name, local={"path": str(folder)}, nodeAffinity=affinity)
